"""Recorded answers come back as they were given, and what was never recorded is an error."""

import csv
import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from driftline.errors import BadInput
from driftline.protocols import Completion, LogProbs, Messages, Sampling
from variants.open import open_variant
from variants.recipe import spec

DRIFT = Path(__file__).parents[3] / "shared" / "data" / "llmdrift" / "PRIME_FULL_EVAL.csv.gz"
ROWS = [
    {"prompt": "Why?", "answer": "Because.", "ms": "120.5", "tokens": "2", "who": "a"},
    {"prompt": "Why?", "answer": "Second thoughts.", "ms": "1", "tokens": "2", "who": "a"},
    {"prompt": "Why?", "answer": "Ask b.", "ms": "7", "tokens": "3", "who": "b"},
    {"prompt": "How,\nexactly?", "answer": "", "ms": "", "tokens": "", "who": "a"},
]
COLUMNS = {"latency": "ms", "output_tokens": "tokens", "where": {"who": "a"}}


def ask(text: str) -> Messages:
    return ({"role": "system", "content": "ignored"}, {"role": "user", "content": text})


def answer(config: dict[str, Any], *prompts: str) -> list[Completion]:
    opened = open_variant(spec("recorded", **config), Path("unused-and-never-made"))
    return opened.generate([ask(prompt) for prompt in prompts], Sampling())


def write(path: Path) -> Path:
    opened: Any = gzip.open if path.suffix == ".gz" else open
    with opened(path, "wt", newline="") as file:
        if ".csv" in path.suffixes:
            rows = csv.DictWriter(file, list(ROWS[0]))
            rows.writeheader()
            rows.writerows(ROWS)
        else:
            file.writelines(json.dumps(row) + "\n\n" for row in ROWS)
    return path


@pytest.mark.parametrize("name", ["a.csv", "a.csv.gz", "a.jsonl", "a.jsonl.gz"])
def test_a_file_answers_by_prompt(tmp_path: Path, name: str) -> None:
    path = str(write(tmp_path / name))

    why, how, never = answer({"path": path, **COLUMNS}, "Why?", "How,\nexactly?", "When?")

    assert (why.text, why.latency_ms, why.output_tokens, why.error) == ("Because.", 120.5, 2, None)
    assert (how.text, how.latency_ms, how.output_tokens, how.error) == ("", 0.0, None, None)
    assert never.text == ""
    assert "No answer is recorded for the prompt 'When?'" in (never.error or "")


def test_seconds_become_milliseconds(tmp_path: Path) -> None:
    path = str(write(tmp_path / "a.csv"))

    assert answer({"path": path, **COLUMNS, "latency_unit": "s"}, "Why?")[0].latency_ms == 120_500


def test_inline_answers_need_no_file() -> None:
    told = {"Why?": "Because.", "How?": {"text": "So.", "latency_ms": 5.0, "mean_logprob": -0.5}}

    why, how = answer({"answers": told, "default_latency_ms": 9.0}, "Why?", "How?")

    assert (why.text, why.latency_ms) == ("Because.", 9.0)
    assert (how.text, how.latency_ms, how.mean_logprob) == ("So.", 5.0, -0.5)


def test_other_content_has_another_fingerprint(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv")
    made = spec("recorded", path=str(path), **COLUMNS)
    before = open_variant(made, tmp_path).fingerprint

    assert open_variant(made, tmp_path).fingerprint == before
    path.write_text(path.read_text().replace("Because", "Since"))
    assert open_variant(made, tmp_path).fingerprint != before


def test_recorded_answers_cannot_be_weighed() -> None:
    assert not isinstance(open_variant(spec("recorded", answers={}), Path("unused")), LogProbs)


@pytest.mark.parametrize(
    ("content", "config", "says"),
    [
        ("prompt,answer\n", {}, "has no row"),
        ("prompt,answer\na,b\n", {"where": {"who": "x"}}, "has no row"),
        ("prompt,text\na,b\n", {}, "no column answer"),
        ("prompt,answer,ms\na,b,soon\n", {"latency": "ms"}, "'soon', which is no number"),
    ],
)
def test_a_file_that_does_not_fit_is_named(tmp_path: Path, content: str, config: dict[str, Any], says: str) -> None:
    (tmp_path / "a.csv").write_text(content)

    with pytest.raises(BadInput, match=says):
        answer({"path": str(tmp_path / "a.csv"), **config}, "a")


@pytest.mark.parametrize(("line", "says"), [("{", "line 2 is not JSON"), ("[1]", "line 2 must be an object")])
def test_a_bad_line_is_named(tmp_path: Path, line: str, says: str) -> None:
    (tmp_path / "a.jsonl").write_text('{"prompt": "a", "answer": "b"}\n' + line)

    with pytest.raises(BadInput, match=says):
        answer({"path": str(tmp_path / "a.jsonl")}, "a")


@pytest.mark.parametrize(
    ("config", "says"),
    [
        ({}, "either path or answers"),
        ({"path": "a.csv", "answers": {}}, "either path or answers"),
        ({"path": "/nowhere/a.csv"}, "cannot be read: No such file"),
        ({"path": "/nowhere/a.parquet"}, "must end in"),
        ({"answers": {"a": {"txt": "b"}}}, "unknown key"),
    ],
)
def test_a_config_without_answers_is_refused(config: dict[str, Any], says: str) -> None:
    with pytest.raises(BadInput, match=says):
        answer(config, "a")


def test_a_file_that_is_not_gzip_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.csv.gz").write_text("prompt,answer\n")

    with pytest.raises(BadInput, match="cannot be read"):
        answer({"path": str(tmp_path / "a.csv.gz")}, "a")


@pytest.mark.skipif(not DRIFT.exists(), reason="shared/data/llmdrift is not there")
def test_the_answers_of_two_releases_of_gpt_4_are_told_apart() -> None:
    columns = {"path": str(DRIFT), "prompt": "query", "latency": "latency", "latency_unit": "s"}
    asked = 'Is 17077 a prime number? Think step by step and then answer "[Yes]" or "[No]".'

    [march] = answer({**columns, "where": {"model": "openaichat/gpt-4-0314"}}, asked)
    [june] = answer({**columns, "where": {"model": "openaichat/gpt-4-0613"}}, asked)

    assert march.error is None
    assert june.error is None
    assert len(march.text) > len(june.text)
    assert march.latency_ms > 1000


def test_recorded_log_probabilities_weigh_the_answers_they_are_of(tmp_path: Path) -> None:
    rows = [{"prompt": "Why?", "answer": "So.", "odds": {"Because.": [-0.5, -1.5]}}, {"prompt": "How?", "answer": ""}]
    rows[1]["odds"] = json.dumps({"Slowly.": [-2]})
    path = tmp_path / "a.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)))

    opened = open_variant(spec("recorded", path=str(path), logprobs="odds"), tmp_path)

    assert isinstance(opened, LogProbs)
    because, slowly = opened.log_probs([(ask("Why?"), "Because."), (ask("How?"), "Slowly.")])
    assert (because.logprobs, slowly.logprobs) == ((-0.5, -1.5), (-2.0,))
    with pytest.raises(BadInput, match=r"No log-probabilities of 'Slowly\.' are recorded for the prompt 'Why\?'"):
        opened.log_probs([(ask("Why?"), "Slowly.")])
    plain = open_variant(spec("recorded", path=str(path)), tmp_path)
    assert not isinstance(plain, LogProbs)
    assert plain.fingerprint != opened.fingerprint


@pytest.mark.parametrize(
    "odds", ["Because.", {"Because.": -0.5}, {"Because.": [0.5]}, ["Because."], {"Because.": ["x"]}]
)
def test_log_probabilities_that_are_none_are_refused(tmp_path: Path, odds: Any) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text(json.dumps({"prompt": "Why?", "answer": "So.", "odds": odds}))
    with pytest.raises(BadInput, match="must map answers to lists of token log-probabilities"):
        open_variant(spec("recorded", path=str(path), logprobs="odds"), tmp_path)
