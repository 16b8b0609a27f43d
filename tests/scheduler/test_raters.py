"""Judges in a replay: a variant of its own judges, anchors measure it, and its drift is taken out of the verdict."""

import json
import sys
from collections import Counter
from types import ModuleType
from typing import Any
from uuid import uuid4

import pytest
from sqlmodel import select

from driftline.acts.golden import canonical, import_items
from driftline.acts.replays import request_replay
from driftline.store.engine import reading, writing
from driftline.store.tables import Comparison, Replay, Score, Variant

ITEMS = [(f"Question {place}?", f"answer {place}") for place in range(40)]


@pytest.fixture
def judge_of(world: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Declares a judge that says what a function of the asked text says."""

    def declare(says: Any, name: str = "judge-7b") -> str:
        module = ModuleType(f"judge_of_a_test_{uuid4().hex}")  # models stay open by name, across tests
        vars(module)["say"] = lambda messages, sampling: says(messages[-1]["content"])
        monkeypatch.setitem(sys.modules, module.__name__, module)
        spec = {"runner": "python", "runner_config": {"function": f"{module.__name__}:say"}, "chain": []}
        world.declare(name, spec)
        return f"judge:{json.dumps({'variant': name, 'anchors': 'people'})}"

    return declare


def anchors(world: Any, n: int = 30, grade: str = "0.5") -> None:
    items = [canonical({"input": f"A{k}?", "expected": f"said {k}", "tags": {"grade": grade}}) for k in range(n)]
    with writing() as session:
        import_items(session, world.project_id, "people", items, "ann", source="test")


def replayed(world: Any, work_off: Any, name: str, right: int, scorer: str, **options: Any) -> Replay:
    variant = world.recorded(name, right, ITEMS)
    with writing() as session:
        row = request_replay(
            session, world.project_id, variant, world.golden(ITEMS), "ann", scorers=[scorer], **options
        )
    work_off(early=True)
    with reading() as session:
        return session.get_one(Replay, row.id)


def test_the_variant_that_is_named_judges_and_its_anchors_are_kept(world: Any, work_off: Any, judge_of: Any) -> None:
    anchors(world)
    scorer = judge_of(lambda asked: "Grade: 5" if "answer 3" in asked else "Grade: 3")
    row = replayed(world, work_off, "base", 40, scorer)
    assert row.state == "done", row.error
    noise = row.judges["judge"]
    assert (noise["anchors"], noise["agreement"]) == (30, 1.0)
    assert set(noise["errors"].values()) == {0.0}
    with reading() as session:
        versions = set(session.exec(select(Score.version)))
    assert len(versions) == 1
    assert " by " in versions.pop()


def test_what_a_judge_moved_by_between_two_replays_is_taken_out(world: Any, work_off: Any, judge_of: Any) -> None:
    anchors(world)
    mood = {"grade": 4}
    scorer = judge_of(lambda _: f"Grade: {mood['grade']}")
    replayed(world, work_off, "base", 40, scorer)
    mood["grade"] = 3  # the judge has become stricter; the answers are the same
    with reading() as session:
        base = session.exec(select(Variant).where(Variant.name == "base")).one()
    replayed(world, work_off, "twin", 39, scorer, baseline=base, margin=0.1)
    with reading() as session:
        row = session.exec(select(Comparison)).one()
    assert row.candidate_mean - row.baseline_mean == -0.25
    assert round(row.estimate, 9) == 0.0
    assert round(row.evidence["judge"]["drift"], 9) == -0.25
    assert row.verdict != "worse"
    assert row.method.endswith("judge drift on 30 anchors taken out")


def test_too_few_anchors_leave_everything_undecided(world: Any, work_off: Any, judge_of: Any) -> None:
    anchors(world, n=10)
    scorer = judge_of(lambda asked: "Grade: 5" if "I do not know" not in asked else "Grade: 1")
    base = world.recorded("base", 40, ITEMS)
    replayed(world, work_off, "broken", 5, scorer, baseline=base)
    with reading() as session:
        row = session.exec(select(Comparison)).one()
    assert (row.verdict, row.low, row.high) == ("undecided", -1.0, pytest.approx(row.estimate + 1.0, abs=0.2))


def test_how_a_judge_differs_from_itself_is_a_term_of_the_verdict(world: Any, work_off: Any, judge_of: Any) -> None:
    calls: Counter[str] = Counter()

    def fickle(asked: str) -> str:
        calls[asked] += 1
        return f"Grade: {(2, 4, 3)[calls[asked] % 3]}"

    judge_of(fickle)
    scorer = 'judge:{"variant": "judge-7b", "repeats": 3}'
    replayed(world, work_off, "base", 40, scorer)
    with reading() as session:
        base = session.exec(select(Variant).where(Variant.name == "base")).one()
    row = replayed(world, work_off, "twin", 39, scorer, baseline=base, margin=0.01)
    kept = row.judges["judge"]["repeats"]
    assert (kept["scores"], kept["agreement"]) == (40, 0.0)
    assert kept["noise"] == pytest.approx(40 * 0.25**2 / 3)  # grades 2, 3 and 4 of 5 lie a quarter apart
    with reading() as session:
        found = session.exec(select(Comparison)).one()
    told = found.evidence["judge"]
    assert told["own_reach"] == pytest.approx(1.96 * (2 * 0.25**2 / 3 / 40) ** 0.5, rel=1e-3)
    assert (told["agreement"], told["baseline_agreement"]) == (0.0, 0.0)
    assert found.low <= found.estimate - told["own_reach"] < found.estimate + told["own_reach"] <= found.high


def test_a_judge_that_answers_prose_leaves_items_unscored_with_the_reason(
    world: Any, work_off: Any, judge_of: Any
) -> None:
    anchors(world)
    replayed(world, work_off, "base", 40, judge_of(lambda _: "A lovely answer, I must say."))
    with reading() as session:
        rows = session.exec(select(Score.value, Score.because)).all()
    assert set(rows) == {(None, "the judge gave no grade")}
    assert len(rows) == 40


@pytest.mark.parametrize(
    ("scorer", "says"),
    [
        ("judge", "Scorer judge needs a judge: name the variant that judges"),
        ('judge:{"variant": "nobody"}', "There is no variant nobody."),
        ('judge:{"variant": "base", "anchors": "nowhere"}', "There is no golden set nowhere."),
        ('judge:{"variant": "base", "anchors": "qa"}', "is no anchor: it needs the answer to be judged"),
        ('numeric:{"tolerance": -1}', "The tolerance is -1"),
        ('numeric:{"taste": 1}', "It takes tolerance, relative, take."),
        ("likely", "There is no scorer likely."),
    ],
)
def test_a_scorer_that_cannot_be_set_up_fails_the_replay_with_the_reason(
    world: Any, work_off: Any, scorer: str, says: str
) -> None:
    row = replayed(world, work_off, "base", 40, scorer)
    assert row.state == "failed"
    assert says in (row.error or "")
