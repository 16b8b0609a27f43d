"""Declaring variants from a parent, looking at their lineage, cleaning examples: as typed."""

import json
from pathlib import Path
from typing import Any

import pytest

BASE = ("variant", "add", "base", "--method", "smollm2")


def added(command: Any, *arguments: str) -> dict[str, Any]:
    document: dict[str, Any] = command("variant", "add", *arguments, "--json").json
    return document


def test_a_child_is_its_parent_and_one_step(command: Any) -> None:
    command(*BASE)

    child = added(command, "--from", "base", "--method", "quantize", "--bits", "8")

    assert child["name"] == "base-quantize8"
    assert [step["method"] for step in child["spec"]["chain"]] == ["smollm2", "int8_weight_only"]
    listed = {row["name"]: row for row in command("variant", "list", "--json").json}
    assert listed["base-quantize8"]["parent"] == "base"
    assert listed["base-quantize8"]["lineage"] == ["base", "base-quantize8"]
    assert (
        command("variant", "show", "base-quantize8", "--json").json["tree"]["children"][0]["name"] == "base-quantize8"
    )
    assert "base-quantize8" in command("variant", "show", "base").out


@pytest.mark.parametrize(
    ("typed", "runner", "step", "config"),
    [
        ("--method prune --share 0.3", "transformers", "wanda", {"share": 0.3}),
        ("--method magnitude_prune --pattern 2:4", "transformers", "magnitude_prune", {"pattern": "2:4"}),
        ("--method gguf --quant q4_1", "llama_cpp", "gguf", {"quant": "q4_1"}),
        ("--method onnx", "onnx", "onnx", {}),
        ("--method layer_drop --layers=[3,4]", "transformers", "layer_drop", {"layers": [3, 4]}),
        ('--method output_constraint --choices ["yes","no"]', "transformers", "output_constraint",
         {"choices": ["yes", "no"]}),
        ("--method lora --data x.jsonl --steps 5", "transformers", "lora", {"data": "x.jsonl", "steps": 5}),
    ],
)  # fmt: skip
def test_settings_of_a_method_are_typed_as_options(
    command: Any,
    typed: str,
    runner: str,
    step: str,
    config: dict[str, Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "x.jsonl").write_text("{}")
    command(*BASE)

    spec = added(command, "child", "--from", "base", *typed.split())["spec"]

    assert spec["runner"] == runner
    assert spec["chain"][-1] == {"method": step, "config": config}


def test_serving_is_a_setting_and_other_variants_are_named(command: Any) -> None:
    command(*BASE)
    batched = added(command, "--from", "base", "--method", "batching", "--size", "16")
    kept = added(command, "--from", "base-batching", "--method", "prefix_reuse", "--prefixes", "4")
    added(command, "small", "--from", "base", "--method", "layer_drop", "--count", "4")
    cascade = added(command, "both", "--from", "small", "--method", "cascade", "--large", "@base")
    draft = added(command, "drafted", "--from", "base", "--method", "speculative", "--draft", "@small")

    assert batched["spec"]["runner_config"] == {"batch_size": 16}
    assert kept["spec"]["runner_config"] == {"batch_size": 16, "prefix_cache": 4}
    assert cascade["spec"]["chain"][-1]["config"]["large"]["chain"] == [{"method": "smollm2", "config": {}}]
    assert draft["spec"]["chain"][-1]["config"]["draft"]["chain"][-1]["method"] == "layer_drop"


@pytest.mark.parametrize(
    ("typed", "says"),
    [
        ("--from base --method quantize --bits 3", "quantize takes --bits 16, 8 or 4, not 3"),
        ("--from base --method quantise", "There is no method 'quantise'. Known:"),
        ("--from nobody --method bf16", "There is no variant nobody. Known: base."),
        ("--from base --method cascade --large @nobody", "There is no variant nobody"),
        ("--from base --method bf16 --bits", "--bits needs a value"),
        ("--from base --method wanda --share 2", "less than 1"),
        ("--from base --method wanda --sparsity 0.5", "unknown key 'sparsity'"),
        ("--from base --method batching --count 3", "batching takes size"),
        ("--method bf16", "needs a name, or --from"),
        ("--from base --share 0.5", "--share belongs to a method"),
        ("v --method smollm2 --method magnitude_prune --pattern 2:4 --share 0.4", "zeroes exactly half"),
    ],
)
def test_what_makes_no_sense_is_refused_with_what_would(command: Any, typed: str, says: str) -> None:
    command(*BASE)

    said = command("variant", "add", *typed.split(), code=1)

    assert says in said.err
    assert len(said.err.splitlines()) <= 3


@pytest.mark.parametrize(
    ("typed", "says"),
    [
        ("m --method hf_dir --path /nowhere/tiny", "no file or folder /nowhere/tiny, the path of method hf_dir"),
        ("m --from base --method lora --data gone.jsonl", "no file or folder gone.jsonl, the data of method lora"),
        ('m --runner recorded --config {"path":"gone.csv"}', "no file or folder gone.csv, the path of runner recorded"),
        ('m --runner python --config {"function":"gone:f"}', "gone:f cannot be imported: No module named 'gone'"),
        ('m --runner python --config {"function":"mine:g"}', "mine:g cannot be imported: module 'mine' has no"),
        ('m --runner python --config {"function":"torn:f"}', "torn:f cannot be imported: ZeroDivisionError: "),
    ],
)
def test_what_a_variant_needs_and_is_not_here_is_said_when_it_is_declared(
    command: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, typed: str, says: str
) -> None:
    monkeypatch.chdir(tmp_path)
    for name, code in (("mine", "def f(prompt, sampling): return 'yes'"), ("torn", "1 / 0")):
        (tmp_path / f"{name}.py").write_text(code)
    command(*BASE)

    said = command("variant", "add", *typed.split(), code=1)

    assert says in said.err
    assert "Nothing was declared." in said.err
    assert [row["name"] for row in command("variant", "list", "--json").json] == ["base"]
    assert added(command, "m", "--runner", "python", "--config", '{"function":"mine:f"}')["name"] == "m"


def test_what_may_be_elsewhere_is_warned_of(
    command: Any, monkeypatch: pytest.MonkeyPatch, forget_settings: Any
) -> None:
    fetched = command("variant", "add", "hub", "--method", "hf_dir", "--path", "org/tiny").err
    assert "will fetch org/tiny from the hub" in fetched
    monkeypatch.setenv("DRIFTLINE_BROKER_URL", "redis://elsewhere:6379/0")
    forget_settings()

    said = command("variant", "add", "far", "--method", "hf_dir", "--path", "/models/tiny")

    assert "There is no file or folder /models/tiny" in said.err
    assert "It must be there where the workers run." in said.err
    assert "far declared" in said.out


def test_examples_are_cleaned_against_a_golden_set(command: Any, tmp_path: Path) -> None:
    golden, examples, out = (tmp_path / name for name in ("golden.jsonl", "examples.jsonl", "clean.jsonl"))
    golden.write_text(json.dumps({"input": "Which river flows through the old town of Prague?", "expected": "Vltava"}))
    rows = [{"prompt": "How long is a day?", "answer": "24 hours"}] * 3 + [{"prompt": "Why?", "answer": "Because."}]
    examples.write_text("".join(json.dumps(row) + "\n" for row in rows))
    command("golden", "import", golden, "--name", "qa")

    said = command("variant", "clean", examples, "--out", out, "--golden", "qa", "--json").json

    assert said == {"examples": 2, "duplicates": 2.0, "near_duplicates": 0.0}
    assert [json.loads(line)["answer"] for line in out.read_text().splitlines()] == ["24 hours", "Because."]
    examples.write_text(json.dumps({"prompt": "Which river flows through the old town of Prague?", "answer": "x"}))
    assert "repeat items of a golden set" in command("variant", "clean", examples, "-o", out, "-g", "qa", code=1).err


def test_nothing_to_cancel_and_nothing_replayed_are_said(command: Any, tmp_path: Path) -> None:
    command(*BASE)

    assert "Nothing is being built of base" in command("variant", "cancel", "base", code=1).err
    assert "Nothing was replayed yet" in command("variant", "frontier").out
    golden = tmp_path / "golden.jsonl"
    golden.write_text(json.dumps({"input": "Why?", "expected": "Because."}))
    command("golden", "import", golden, "--name", "qa")
    examples = ("variant", "router-examples", "base", "--large", "base", "-g", "qa", "-o", tmp_path / "x")
    assert "Replay it" in command(*examples, code=1).err


STRANGE = "int8|v2\nbase: fine \x1b[31m[red]"


@pytest.mark.parametrize("name", ["a\nb", "a\tb", "\x1b[31mred", " a", "a ", " ", "\u202ea", "x" * 129])
def test_a_name_that_cannot_be_typed_again_is_refused(command: Any, name: str) -> None:
    said = command("variant", "add", name, "--method", "smollm2", code=1)
    assert "a name is one line of 1 to 128 characters that can be seen" in said.err
    assert len(said.err.splitlines()) == 1


def test_a_name_from_traffic_is_kept_as_it_came_and_shown_on_one_line(
    command: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    call = {"id": "c", "started_at": "2026-05-01T12:00:00Z", "variant": STRANGE, "output": "o"}
    (tmp_path / "in.jsonl").write_text(json.dumps(call))
    command("import", tmp_path / "in.jsonl")
    assert command("variant", "list", "--json").json[0]["name"] == STRANGE
    monkeypatch.setenv("COLUMNS", "200")
    (line,) = [line for line in command("variant", "list").out.splitlines() if "int8" in line]
    assert r"int8|v2\nbase: fine \x1b[31m[red]" in line
    for shown in (command("variant", "show", STRANGE).out, command("variant", "show", "gone", code=1).err):
        assert r"int8|v2\nbase: fine \x1b[31m[red]" in shown
        assert "\x1b" not in shown
    for kind in ("csv", "jsonl", "parquet"):
        command("export", tmp_path / f"out.{kind}")
        assert command("import", tmp_path / f"out.{kind}", "--json").json["duplicates"] == 1
    assert [row["name"] for row in command("variant", "list", "--json").json] == [STRANGE]
    assert added(command, STRANGE, "--method", "smollm2")["name"] == STRANGE  # traffic's name is given its recipe
