"""What goes wrong on an operator's machine: one sentence each, an exit code that is not 0, and no traceback."""

import json
import os
import socket
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

LINES = ['{"input": "Who?", "expected": "me"}'] * 2


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ('{"input": "Who?"', "line 3: not JSON"),
        ("[1, 2]", "line 3: an item is a JSON object."),
        ('{"expected": "me"}', "line 3: `input` must be a text or a list of messages"),
        ('{"input": ""}', "line 3: `input` must be a text or a list of messages"),
        ('{"input": [{"role": "king", "content": "x"}]}', "line 3: a message is {role, content} with a role of system"),
        ('{"input": "Who?", "expected": 7}', "line 3: `expected` must be a text or a list of texts"),
        (
            '{"input": "Who?", "expected": ""}',
            "line 3: `expected` must be a text or a list of texts, none of them empty.",
        ),
        ('{"input": "Who?", "expected": ["me", " "]}', "line 3: `expected` must be a text or a list of texts"),
        ('{"input": "Who?", "rubric": " "}', "line 3: `rubric` must be a text that is not empty."),
        ('{"input": "Who?", "rubric": {"5": "good"}}', "line 3: `rubric` must be a text that is not empty."),
        ('{"input": "Who?", "answer": "me"}', "line 3: unknown field 'answer'; known: input"),
        ('{"input": "Who?", "weight": -1}', "line 3: `weight` must be a number above 0; got -1."),
        ('{"input": "Who?", "weight": NaN}', "line 3: `weight` must be a number above 0"),
        ('{"input": "Who?", "tags": {"a": 1}}', "line 3: `tags` must be an object of texts."),
        ('{"input": "Who?", "split": "dev"}', 'line 3: `split` must be "test" or "train"'),
    ],
)
def test_a_golden_file_with_a_bad_line_names_the_line_and_imports_nothing(
    command: Any, tmp_path: Path, line: str, says: str
) -> None:
    path = tmp_path / "golden.jsonl"
    path.write_text("\n".join([*LINES, line]))
    said = command("golden", "import", path, "--name", "qa", code=1)
    assert says in said.err
    assert str(path) in said.err
    assert "Nothing was imported." in said.err
    assert command("golden", "list", "--json").json == []


def test_a_golden_file_that_cannot_be_read_says_why(command: Any, tmp_path: Path) -> None:
    said = command("golden", "import", tmp_path / "gone.jsonl", "--name", "qa", code=1)
    assert "cannot be read: No such file or directory." in said.err
    latin = tmp_path / "latin.jsonl"
    latin.write_bytes('{"input": "Où?"}'.encode("latin-1"))
    assert "is not UTF-8 (byte 12)" in command("golden", "import", latin, "--name", "qa", code=1).err
    empty = tmp_path / "empty.jsonl"
    empty.write_text("\n\n")
    assert "no item in it" in command("golden", "import", empty, "--name", "qa", code=1).err


def test_one_question_with_two_truths_is_refused_and_a_repeat_is_left_out(command: Any, tmp_path: Path) -> None:
    path = tmp_path / "golden.jsonl"
    path.write_text("\n".join([*LINES, '{"input": "Where?"}']))
    made = command("golden", "import", path, "--name", "qa", "--json").json
    assert made == {"name": "qa", "version": 1, "items": 2, "duplicates": 1}
    assert command("golden", "import", path, "--name", "qa", "--json").json["version"] == 1
    path.write_text("\n".join([LINES[0], '{"input": "Who?", "expected": "you"}']))
    said = command("golden", "import", path, "--name", "qa", code=1)
    assert "'Who?' stands in the file twice with different expectations" in said.err


def test_versions_are_numbered_shown_and_compared(command: Any, tmp_path: Path) -> None:
    path = tmp_path / "golden.jsonl"
    path.write_text('{"input": "Who?", "expected": "me"}\n{"input": "Where?"}\n{"input": "Why?"}')
    command("golden", "import", path, "--name", "qa")
    path.write_text('{"input": "Who?", "expected": "me"}\n{"input": "When?"}\n{"input": "Why?", "expected": "so"}')
    command("golden", "import", path, "--name", "qa")
    assert [row["question"] for row in command("golden", "show", "qa@1", "--json").json] == ["Who?", "Where?", "Why?"]
    found = {"removed": ["Where?"], "added": ["When?"], "changed": ["Why?"]}
    assert command("golden", "diff", "qa@1", "qa@2", "--json").json == found
    unmeasured = command("golden", "propose", "qa", code=1).err
    assert "The coverage of qa@2 was not measured yet. Run `driftline golden coverage qa`." in unmeasured
    assert "There is no version of golden set qa 3. Known: 2, 1." in command("golden", "show", "qa@3", code=1).err


@pytest.fixture
def taken_port() -> Iterator[int]:
    """A port that somebody else listens on."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield int(listener.getsockname()[1])


@pytest.mark.parametrize("process", ["up", "collect", "show"])
def test_a_port_in_use_is_named(driftline: Any, store: Path, taken_port: int, process: str) -> None:
    said = driftline(process, code=1, DRIFTLINE_PORT=str(taken_port))
    assert f"driftline: Cannot listen on 127.0.0.1:{taken_port} (Address already in use)." in said.err
    assert "DRIFTLINE_PORT" in said.err


def test_a_server_that_others_can_reach_does_not_start_before_anybody_has_a_key(driftline: Any, store: Path) -> None:
    said = driftline("collect", code=1, DRIFTLINE_HOST="0.0.0.0", DRIFTLINE_PORT="0")
    assert "nobody has a key yet. Make one with `driftline key create NAME --scopes admin`" in said.err


@pytest.mark.parametrize("name", [["golden", "list"], ["up"], ["work"], ["collect"]])
def test_a_data_folder_that_cannot_be_written_is_named(driftline: Any, tmp_path: Path, name: list[str]) -> None:
    (tmp_path / "file").write_text("this is no folder")
    said = driftline(*name, code=1, DRIFTLINE_DATA_DIR=str(tmp_path / "file" / "data"), DRIFTLINE_PORT="0")
    assert f"The data folder {tmp_path / 'file' / 'data'} cannot be written (Not a directory)." in said.err
    assert "DRIFTLINE_DATA_DIR" in said.err


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_data_folder_without_the_right_to_write_is_named(driftline: Any, tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    said = driftline("golden", "list", code=1, DRIFTLINE_DATA_DIR=str(tmp_path / "data"))
    assert "cannot be written (Permission denied)" in said.err


@pytest.mark.parametrize("name", [["golden", "list"], ["up"], ["show"], ["db", "upgrade"]])
def test_a_database_of_a_newer_version_is_refused_and_left_as_it_is(
    driftline: Any, store: Path, name: list[str]
) -> None:
    with sqlite3.connect(store / "driftline.db") as database:
        database.execute("UPDATE alembic_version SET version_num = '9999'")
    said = driftline(*name, code=1, DRIFTLINE_PORT="0")
    assert "is at revision 9999, which this version of Driftline does not know" in said.err
    assert "Upgrade Driftline" in said.err
    with sqlite3.connect(store / "driftline.db") as database:
        assert database.execute("SELECT version_num FROM alembic_version").fetchone() == ("9999",)


def test_a_file_that_is_no_database_is_named(driftline: Any, store: Path) -> None:
    (store / "driftline.db").write_bytes(b"these are holiday pictures" * 200)
    said = driftline("up", code=1, DRIFTLINE_PORT="0")
    assert f"{store / 'driftline.db'} cannot be used: file is not a database." in said.err
    assert "backup" in said.err
    found = {row["check"]: row["state"] for row in driftline("doctor", "--json", code=1).json}
    assert (found["store"], found["broker"]) == ("broken", "ok")


@pytest.mark.parametrize("name", [["golden", "list"], ["work"], ["up"]])
def test_a_database_server_that_is_away_is_named_without_its_password(driftline: Any, name: list[str]) -> None:
    url = "postgresql://ann:hush@127.0.0.1:9/driftline"
    said = driftline(*name, code=1, DRIFTLINE_DATABASE_URL=url, DRIFTLINE_PORT="0")
    assert "postgresql+psycopg://ann:***@127.0.0.1:9/driftline does not answer" in said.err
    assert "hush" not in said.err


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("DRIFTLINE_PORT", "99999", "The setting DRIFTLINE_PORT is '99999'"),
        ("DRIFTLINE_LEASE_S", "soon", "The setting DRIFTLINE_LEASE_S is 'soon'"),
        ("DRIFTLINE_BROKER_URL", "carrier-pigeon://roof", "DRIFTLINE_BROKER_URL begins with none of amqp://"),
        ("DRIFTLINE_BROKER_URL", "roof", "DRIFTLINE_BROKER_URL begins with none of amqp://"),
        ("DRIFTLINE_DATABASE_URL", "not a url", "DRIFTLINE_DATABASE_URL names no database"),
        ("DRIFTLINE_DATABASE_URL", "mysql://host/x", "DRIFTLINE_DATABASE_URL names no database"),
        ("DRIFTLINE_DATABASE_URL", "postgresql+psycopg2://host/x", "DRIFTLINE_DATABASE_URL names no database"),
        ("DRIFTLINE_PUBLIC_URL", "http://[::1", "The setting DRIFTLINE_PUBLIC_URL is 'http://[::1'"),
        ("DRIFTLINE_PUBLIC_URL", "driftline.example", "The setting DRIFTLINE_PUBLIC_URL is 'driftline.example'"),
    ],
)
def test_a_setting_that_cannot_be_used_is_named(driftline: Any, name: str, value: str, says: str) -> None:
    said = driftline("work", code=1, **{name: value})
    assert says in said.err
    assert len(said.err.strip().splitlines()) == 1


def test_doctor_names_what_is_broken_and_goes_on(driftline: Any) -> None:
    healthy = driftline("doctor", "--json").json
    assert {row["check"]: row["state"] for row in healthy}["store"] == "ok"
    sick = driftline("doctor", "--json", code=1, DRIFTLINE_DATABASE_URL="postgresql://127.0.0.1:9/x")
    states = {row["check"]: row["state"] for row in sick.json}
    assert (states["store"], states["processes"], states["broker"]) == ("broken", "broken", "ok")
    away = driftline("doctor", "--json", code=1, DRIFTLINE_BROKER_URL="redis://127.0.0.1:9/0")
    assert {row["check"]: row["state"] for row in away.json}["broker"] == "broken"


def test_json_is_one_document_with_nothing_around_it(driftline: Any, golden_file: Path) -> None:
    said = driftline("golden", "import", golden_file, "--name", "qa", "--json")
    assert json.loads(said.out)["items"] == 40


@pytest.mark.parametrize("name", ["", " qa", "a\nb", "qa@2"])
def test_a_golden_set_has_a_name_that_can_be_typed_again(command: Any, golden_file: Path, name: str) -> None:
    said = command("golden", "import", golden_file, "--name", name, code=1)
    assert f"A golden set cannot be called {name!r}: a name is one line" in said.err


def test_an_export_that_cannot_be_written_says_so_and_leaves_what_was_there(
    command: Any, golden_file: Path, tmp_path: Path
) -> None:
    command("golden", "import", golden_file, "--name", "qa")
    said = command("golden", "export", "qa", "--to", tmp_path / "no" / "a.jsonl", code=1)
    assert "a.jsonl cannot be written (No such file or directory)." in said.err
    (tmp_path / "a.xml").write_text("mine")
    assert (
        "known are .jsonl, .csv, .parquet" in command("golden", "export", "qa", "--to", tmp_path / "a.xml", code=1).err
    )
    assert (tmp_path / "a.xml").read_text() == "mine"
    assert [path.name for path in tmp_path.glob("*.part")] == []


def test_a_failed_lookup_claims_nothing_about_what_it_did_not_look_at(command: Any) -> None:
    assert command("cancel", "999", code=1).err.strip() == "driftline: There is no replay 999."
    said = command("gate", "a", "-b", "b", "-g", "qa", "--scorer", "zzz", code=3).err
    assert "token_f1" in said
    assert "more." not in said


@pytest.mark.parametrize(
    ("arguments", "code", "title", "detail"),
    [
        (["variant", "show", "nobody"], 1, "NotFound", "There is no variant nobody. There is no variant yet."),
        (["import", "gone.jsonl"], 1, "BadInput", "gone.jsonl cannot be read: No such file or directory."),
        (["replay", "nobody"], 2, "BadInput", "Missing option '--golden'"),
        (["variant", "lst"], 2, "BadInput", "No such command 'lst'"),
        (["gate", "a", "--baseline", "b", "--golden", "c"], 3, "NotFound", "There is no variant a."),
        (["gate", "a"], 3, "BadInput", "Missing option"),
    ],
)
def test_a_failure_is_json_where_json_was_asked_for(
    command: Any, arguments: list[str], code: int, title: str, detail: str
) -> None:
    said = command(*arguments, "--json", code=code)
    assert said.out == ""
    problem = json.loads(said.err)
    assert detail in problem.pop("detail")
    assert problem == {"type": "about:blank", "title": title, "status": 404 if title == "NotFound" else 422}
    assert not command(*arguments, code=code).err.startswith("{")
