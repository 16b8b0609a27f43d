"""`driftline gate` for CI: 0 not worse, 1 worse, 2 undecided, 3 for everything that is no verdict."""

import json
import subprocess
import sys
from pathlib import Path
from subprocess import DEVNULL
from typing import Any
from xml.etree import ElementTree

import pytest

from driftline.cli.reporting import Gated, summary

ITEMS = 200


@pytest.fixture
def ready(command: Any, tmp_path: Path) -> Any:
    """A golden set of two hundred questions and recorded variants that answer so many of them right."""
    path = tmp_path / "golden.jsonl"
    path.write_text("\n".join(json.dumps({"input": f"Q{n}?", "expected": f"answer number {n}"}) for n in range(ITEMS)))
    command("golden", "import", path, "--name", "qa")
    for name, right in {"base": 170, "twin": 170, "broken": 90, "close": 168, "better": 200}.items():
        answers = tmp_path / f"{name}.jsonl"
        rows = [{"prompt": f"Q{n}?", "answer": f"answer number {n}" if n < right else "none"} for n in range(ITEMS)]
        answers.write_text("\n".join(map(json.dumps, rows)))
        config = json.dumps({"path": str(answers)})
        command("variant", "add", name, "--runner", "recorded", "--config", config)
    return command


def gate(command: Any, candidate: str, *more: str, code: int, baseline: str = "base") -> Any:
    return command("gate", candidate, "--baseline", baseline, "--golden", "qa", *more, code=code)


@pytest.mark.usefixtures("worker")
@pytest.mark.parametrize(
    ("candidate", "code", "verdicts"),
    [
        ("twin", 0, {"equivalent", "not_worse"}),
        ("better", 0, {"better"}),
        ("broken", 1, {"worse"}),
        ("close", 2, {"undecided"}),
    ],
)
def test_the_exit_code_is_the_verdict(ready: Any, candidate: str, code: int, verdicts: set[str]) -> None:
    said = gate(ready, candidate, "--json", code=code).json
    assert said["verdict"] in verdicts
    assert said["n"] == ITEMS
    assert said["low"] <= said["estimate"] <= said["high"]


@pytest.mark.usefixtures("worker")
@pytest.mark.parametrize("items", [1, 5])
def test_a_few_items_that_tie_decide_nothing_and_it_says_how_many_would(ready: Any, tmp_path: Path, items: int) -> None:
    few = tmp_path / "few.jsonl"
    few.write_text("\n".join(json.dumps({"input": f"Q{n}?", "expected": f"answer number {n}"}) for n in range(items)))
    ready("golden", "import", few, "--name", "few")
    said = ready("gate", "twin", "--baseline", "base", "--golden", "few", "--json", code=2).json
    assert (said["n"], said["ties"], said["estimate"]) == (items, items, 0.0)
    assert said["low"] < -0.02 < 0.02 < said["high"]
    assert said["n_to_decide"] > 100


@pytest.mark.usefixtures("worker")
def test_people_read_what_the_verdict_rests_on(ready: Any) -> None:
    text = gate(ready, "broken", code=1).out
    assert text.startswith("broken against base: worse. token_f1 -0.")
    assert "on 200 items, margin 0.02" in text
    hint = gate(ready, "close", code=2).out
    assert "items would decide" in hint
    told = gate(ready, "close", "--margin", "0", "--json", code=2).json
    assert told["n_if_as_seen"] > ITEMS


@pytest.mark.usefixtures("worker")
def test_another_scorer_and_margin_can_decide(ready: Any) -> None:
    said = gate(ready, "close", "--scorer", "exact", "--margin", "0.2", "--json", code=0).json
    assert (said["evaluator"], said["margin"]) == ("exact", 0.2)


@pytest.mark.usefixtures("worker")
@pytest.mark.parametrize(
    ("candidate", "more", "says"),
    [
        ("nobody", (), "There is no variant nobody. Known: base, better, broken, close, gone, twin."),
        ("twin", ("--baseline", "nobody"), "There is no variant nobody."),
        ("twin", ("--golden", "qa@7"), "There is no version of golden set qa 7. Known: 1."),
        ("twin", ("--scorer", "taste"), "There is no scorer taste."),
        ("twin", ("--scorer", ""), "There is no scorer ."),
        ("twin", ("--scorer", 'regex:{"pattern": "("}'), "The pattern '(' cannot be read"),
        ("twin", ("--scorer", 'numeric:{"tolerance": NaN}'), "The tolerance is nan"),
        ("twin", ("--scorer", 'numeric:{"width": 1}'), "It takes tolerance, relative, take."),
        ("twin", ("--scorer", "judge"), 'Scorer judge needs a judge: name the variant that judges, as in judge:{"'),
        ("twin", ("--scorer", 'judge:{"variant": "nobody"}'), "There is no variant nobody."),
        ("twin", ("--scorer", 'judge:{"variant": "twin", "anchors": "none"}'), "There is no golden set none."),
        ("twin", ("--scorer", 'numeric:{"tolerance": "wide"}'), "Scorer numeric cannot take tolerance 'wide'"),
        ("twin", ("--project", "elsewhere"), "There is no project elsewhere."),
        ("base", (), "base cannot be compared with itself"),
        ("gone", (), "answers.csv cannot be read: No such file or directory"),
    ],
)
def test_what_cannot_be_judged_is_3_with_the_reason(
    ready: Any, tmp_path: Path, candidate: str, more: tuple[str, ...], says: str
) -> None:
    answers = tmp_path / "answers.csv"
    answers.touch()
    ready("variant", "add", "gone", "--runner", "recorded", "--config", json.dumps({"path": str(answers)}))
    answers.unlink()
    said = gate(ready, candidate, *more, code=3)
    assert says in said.err
    assert said.out == ""


@pytest.mark.parametrize("wrong", [["gate"], ["gate", "twin", "--margin", "much"], ["gate", "twin", "--nonsense"]])
def test_a_call_that_cannot_be_understood_is_3_too_as_2_is_a_verdict(command: Any, wrong: list[str]) -> None:
    assert "Usage" in command(*wrong, code=3).err


def test_help_of_the_gate_is_no_failure(command: Any) -> None:
    assert "exit 0 when not worse" in " ".join(command("gate", "--help").out.split())


def test_a_database_that_is_away_is_3(driftline: Any) -> None:
    away = {"DRIFTLINE_DATABASE_URL": "postgresql://127.0.0.1:9/x"}
    said = driftline("gate", "a", "--baseline", "b", "--golden", "qa", code=3, **away)
    assert "does not answer" in said.err


def test_without_any_worker_the_gate_says_so_instead_of_waiting_for_ever(
    ready: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from driftline.cli import waiting

    monkeypatch.setattr(waiting, "PATIENCE_S", 0.5)
    said = gate(ready, "twin", code=3)
    assert "no worker runs. Start one with `driftline up` or `driftline work`; the job waits for it." in said.err


def test_a_worker_alone_is_enough(ready: Any, driftline: Any) -> None:
    worker = subprocess.Popen([sys.executable, "-m", "driftline", "work"], stdout=DEVNULL, stderr=DEVNULL)
    try:  # no clock runs that would send the comparison again, which came before the replays were done
        assert driftline("gate", "twin", "--baseline", "base", "--golden", "qa", "--json").json["n"] == ITEMS
    finally:
        worker.terminate()
        worker.wait(60)


@pytest.mark.usefixtures("worker")
def test_a_replay_by_hand_shows_its_comparison(ready: Any) -> None:
    alone = ready("replay", "twin", "--golden", "qa", "--json").json
    assert alone["state"] == "done"
    rows = ready("replay", "broken", "--golden", "qa", "--baseline", "base", "--json").json
    assert {row["evaluator"]: row["verdict"] for row in rows} == {"token_f1": "worse", "contains": "worse"}


@pytest.mark.usefixtures("worker")
def test_a_scorer_that_could_judge_nothing_is_told_with_its_reason(ready: Any) -> None:
    asked = ("--golden", "qa", "--baseline", "base", "--scorer")
    prose = 'judge:{"variant": "better"}'  # answers with an error, as nobody recorded what a judge is asked
    for command, code in (("replay", 0), ("gate", 3)):
        said = ready(command, "twin", *asked, prose, code=code)
        assert "Nothing was scored by judge on both sides: the judge" in said.err
        assert said.out.count("token_f1") == (code == 0)


@pytest.mark.usefixtures("worker")
def test_items_that_could_not_be_scored_are_told_beside_the_verdict(ready: Any, tmp_path: Path) -> None:
    path = tmp_path / "half.jsonl"
    items = [{"input": f"Q{n}?"} | ({"expected": f"answer number {n}"} if n % 2 else {}) for n in range(ITEMS)]
    path.write_text("\n".join(map(json.dumps, items)))
    ready("golden", "import", path, "--name", "half")
    said = ready("gate", "broken", "--baseline", "base", "--golden", "half", code=1)
    assert "on 100 items, margin 0.02. 100 more could not be scored." in said.out


@pytest.mark.usefixtures("worker")
def test_a_variant_is_built_while_one_waits(ready: Any) -> None:
    assert ready("variant", "build", "twin", "--json").json["state"] == "done"
    assert {row["name"]: row["build"] for row in ready("variant", "list", "--json").json}["twin"] == "built"


@pytest.mark.usefixtures("worker")
def test_ci_gets_a_junit_report_and_people_a_summary(ready: Any, tmp_path: Path) -> None:
    junit, markdown = tmp_path / "gate.xml", tmp_path / "summary.md"
    files = ("--junit", str(junit), "--markdown", str(markdown))
    gate(ready, "twin", *files, code=0)
    suite = ElementTree.parse(junit).getroot()
    assert (suite.get("tests"), suite.get("failures"), suite.get("errors")) == ("1", "0", "0")
    gate(ready, "broken", *files, code=1)
    suite = ElementTree.parse(junit).getroot()
    assert suite.get("failures") == "1"
    assert suite.find("testcase/failure").get("type") == "worse"  # type: ignore[union-attr]
    gate(ready, "nobody", *files, code=3)
    problem = ElementTree.parse(junit).getroot().find("testcase/error")
    assert "There is no variant nobody." in problem.get("message")  # type: ignore[union-attr, operator]
    said = markdown.read_text()
    assert [line for line in said.splitlines() if line.startswith("## ")] == [
        "## ✅ twin: equivalent", "## ❌ broken: worse", "## ⚠️ nobody: could not run",
    ]  # fmt: skip
    assert "| token_f1 | worse | -0." in said
    assert "| contains | worse |" in said
    assert said.count("- Beside it, by BCa bootstrap: ") == 2


def test_a_name_with_a_bar_or_a_line_stays_in_its_cell() -> None:
    deciding = {
        "verdict": "equivalent", "evaluator": "token_f1", "estimate": 0.0, "low": -0.01, "high": 0.01, "n": 200,
        "n_to_decide": None, "slices": [],
        "costs": [{"name": "latency", "unit": "ms", "candidate": 1.0, "baseline": 2.0, "ratio": 0.5}],
    }  # fmt: skip
    said = summary(Gated("twin|2\n## fine", "base", "qa", 0.02, deciding=deciding))
    assert r"| cost | twin\|2\n## fine | base | ratio |" in said
    assert [line for line in said.splitlines() if line.startswith("##")] == [r"## ✅ twin|2\n## fine: equivalent"]


def test_a_report_that_cannot_be_written_is_3(ready: Any) -> None:
    said = gate(ready, "nobody", "--junit", "/no/such/folder/gate.xml", code=3)
    assert "/no/such/folder/gate.xml cannot be written: No such file or directory." in said.err


@pytest.mark.usefixtures("worker")
def test_the_gate_may_end_as_soon_as_it_knows(ready: Any) -> None:
    said = gate(ready, "broken", "--early-stop", "--json", code=1).json
    assert said["n"] < ITEMS / 2
    assert "the evidence decides: worse than the baseline" in said["stopped"]


@pytest.mark.usefixtures("worker")
def test_the_gate_keeps_its_budget_and_says_how_many_items_would_decide(ready: Any) -> None:
    said = gate(ready, "twin", "--budget", "calls=10", "--json", code=2).json
    assert (said["n"], said["stopped"]) == (10, "its budget of 10 calls is spent")
    assert said["n_to_decide"] > 10
    assert "A budget is written NAME=NUMBER" in gate(ready, "twin", "--budget", "calls", code=3).err
    assert "There is no budget in time." in gate(ready, "twin", "--budget", "time=3", code=3).err


def test_prices_are_listed_as_they_were_said(command: Any) -> None:
    command("price", "set", "small", "--input", "0.15", "--output", "0.6")
    command("price", "set", "large", "--input", "3", "--output", "15")
    assert command("price", "set", "small", "--input", "0.1", "--output", "0.4", "--json").json["version"] == 3
    listed = {row["model"]: (row["input"], row["output"]) for row in command("price", "list", "--json").json}
    assert listed == {"small": (0.1, 0.4), "large": (3.0, 15.0)}


def test_a_replay_is_cancelled_from_the_command_line(ready: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from driftline.cli import waiting

    monkeypatch.setattr(waiting, "PATIENCE_S", 0.1)
    ready("replay", "twin", "--golden", "qa", code=1)
    assert ready("cancel", "1", "--json").json == {"replay": 1, "state": "cancelled"}
    assert "Replay 1 is cancelled and cannot be cancelled." in ready("cancel", "1", code=1).err
    assert "There is no replay 99." in ready("cancel", "99", code=1).err


def test_the_summary_tells_how_a_judge_differs_from_itself_and_has_moved() -> None:
    from driftline.cli.reporting import Gated, summary

    judge = {
        "agreement": 0.8,
        "baseline_agreement": 0.75,
        "own_reach": 0.012,
        "drift": -0.25,
        "reach": 0.05,
        "anchors": 30,
    }
    beside = {"low": -0.09, "high": 0.08, "warning": "on 40 units BCa is too narrow"}
    row = {"evaluator": "judge", "verdict": "undecided", "estimate": 0.0, "low": -0.1, "high": 0.1, "n": 40, "worse": 3,
           "better": 3, "n_to_decide": None, "judge": judge, "bca": beside}  # fmt: skip
    gated = Gated("a", "b", "qa", 0.02)
    gated.judged, gated.deciding = [row], row
    text = summary(gated)
    assert "judge agrees with itself in 80% of pairs of repeats (baseline 75%)" in text
    assert "its own noise alone makes ± 0.0120 of the interval" in text
    assert "judge moved by -0.2500 ± 0.0500 on 30 anchors" in text
    assert "by BCa bootstrap: -0.0900 to +0.0800 (on 40 units BCa is too narrow)" in text


def test_while_it_waits_it_shows_how_much_of_how_much(ready: Any, worker: None) -> None:
    said = ready("gate", "twin", "--baseline", "base", "--golden", "qa", code=0)
    assert f"{ITEMS}/{ITEMS}" in said.err
    assert "/?" not in said.err
