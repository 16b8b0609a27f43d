"""Traffic in and out on the command line, and what is kept of it."""

import json
from pathlib import Path
from typing import Any

import pytest


def calls(path: Path, n: int, **more: Any) -> Path:
    rows = [
        {"id": f"c{k}", "started_at": "2026-05-01T12:00:00Z", "variant": "v", "output": f"o{k}"} | more
        for k in range(n)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.mark.parametrize("kind", ["jsonl", "csv", "parquet"])
def test_what_was_imported_is_exported_and_imported_again_without_a_double(
    command: Any, tmp_path: Path, kind: str
) -> None:
    file = calls(tmp_path / "in.jsonl", 3, user_id="u1")
    said = command("import", file, "--json").json
    assert (said["read"], said["accepted"], said["duplicates"], said["rejected"]) == (3, 3, 0, 0)
    back = tmp_path / f"out.{kind}"
    assert command("export", back, "--json").json == {"file": str(back), "calls": 3}
    assert list(tmp_path.glob("*.part")) == []
    again = command("import", back, "--json").json
    assert (again["accepted"], again["duplicates"]) == (0, 3)
    assert "3 there already" in command("import", back).out


def test_an_import_of_which_everything_is_refused_fails(command: Any, tmp_path: Path) -> None:
    file = calls(tmp_path / "in.jsonl", 3, latency_ms=-1)
    said = command("import", file, code=1)
    assert f"Nothing of {file} was stored. 3 items read: 0 calls stored" in said.err
    assert "item 1: " in said.err
    assert "3 refused" in json.loads(command("import", file, "--json", code=1).err)["detail"]
    with file.open("a") as more:
        more.write(json.dumps({"id": "good", "started_at": "2026-05-01T12:00:00Z", "output": "o"}) + "\n")
    assert "1 calls stored, 0 there already, 0 no calls of a model, 3 refused." in command("import", file).out
    assert command("import", file, "--json").json["duplicates"] == 1
    (tmp_path / "empty.jsonl").write_text("")
    assert command("import", tmp_path / "empty.jsonl", "--json").json["read"] == 0


def test_an_export_is_cut_by_moment_variant_and_format(command: Any, tmp_path: Path) -> None:
    command("import", calls(tmp_path / "in.jsonl", 2))
    out = tmp_path / "out.txt"
    assert command("export", out, "--format", "csv", "--since", "2026-06-01", "--json").json["calls"] == 0
    assert command("export", out, "--format", "csv", "--variant", "v", "--json").json["calls"] == 2
    assert out.read_text().startswith("id,started_at")
    assert "no variant w" in command("export", out, "--variant", "w", code=1).err
    assert "no moment" in command("export", out, "--since", "tomorrow", code=2).err
    assert "known are .jsonl, .csv, .parquet" in command("export", out, code=1).err
    assert "driftline, langfuse, phoenix, openai" in command("import", out, "--format", "x", code=1).err


def test_a_user_is_erased(command: Any, tmp_path: Path) -> None:
    command("import", calls(tmp_path / "in.jsonl", 3, user_id="ana@example.org"))
    assert "3 calls erased" in command("erase", "ana@example.org").out
    assert "no call of that user" in command("erase", "ana@example.org").out


def test_what_a_project_keeps_is_set_and_shown(command: Any) -> None:
    told = command("project", "set", "--keep-days", "30", "--store-text", "hashed", "--json").json
    assert told == {"name": "default", "store_text": "hashed", "keep_days": 30}
    assert "stored hashed, calls are kept for 30 days" in command("project", "show").out
    assert "for ever" in command("project", "set", "--keep-days", "0").out
    assert "store_text is one of" in command("project", "set", "--store-text", "some", code=1).err


def test_a_key_is_exchanged_for_a_new_one(command: Any) -> None:
    first = command("key", "create", "app", "--calls-per-minute", "600", "--json").json["key"]
    second = command("key", "rotate", "app", "--json").json["key"]
    assert first != second
    assert "exchanged before" in command("key", "rotate", "app", code=1).err
    assert "no key nobody" in command("key", "rotate", "nobody", code=1).err
