"""Two replays are compared when both are done, once, and only when the comparison means something."""

from typing import Any

import pytest
from sqlmodel import col, select

from driftline.acts.golden import find_version
from driftline.acts.replays import request_comparison, request_replay
from driftline.errors import BadInput, Conflict
from driftline.store.engine import reading, writing
from driftline.store.tables import Answer, Comparison, GoldenVersion, Job, Replay, Score, Variant

SCORERS = ["contains", "token_f1"]


def ask_for(world: Any, variant: Variant, golden: GoldenVersion, **options: Any) -> Replay:
    with writing() as session:
        return request_replay(session, world.project_id, variant, golden, "ann", **({"scorers": SCORERS} | options))


def comparisons(evaluator: str = "contains") -> list[Comparison]:
    with reading() as session:
        of_evaluator = select(Comparison).where(Comparison.evaluator == evaluator)
        return list(session.exec(of_evaluator.order_by(col(Comparison.id))))


def failed() -> str:
    with reading() as session:
        return session.exec(select(Job).where(Job.kind == "comparison.make", Job.state == "failed")).one().error or ""


def test_a_broken_variant_is_worse_with_interval_and_flips(world_on_each: Any, work_off: Any) -> None:
    world = world_on_each
    base, broken = world.recorded("base", right=55), world.recorded("int8", right=30)
    ask_for(world, broken, world.golden(), baseline=base)
    work_off(early=True)
    (found,) = comparisons()
    assert found.verdict == "worse"
    assert found.estimate == pytest.approx(-25 / 60)
    assert found.low < found.estimate < found.high < 0
    assert (found.n, found.worse, found.better, found.ties) == (60, 25, 0, 35)
    assert found.evidence["flips_total"] == 25
    assert found.evidence["latency"]["candidate_p50"] == pytest.approx(129.5)
    beside = found.evidence["bca"]
    assert found.low < beside["low"] < found.estimate < beside["high"] < found.high  # narrower on 60 items
    assert (beside["units"], "too narrow" in beside["warning"]) == (60, True)
    (other,) = comparisons("token_f1")
    assert other.verdict == "worse"


def test_a_variant_with_the_same_answers_is_not_worse(world: Any, work_off: Any) -> None:
    ask_for(world, world.recorded("twin"), world.golden(), baseline=world.recorded("base"), margin=0.1)
    work_off(early=True)
    assert comparisons()[0].verdict in ("equivalent", "not_worse")


def test_a_comparison_waits_for_both_sides(world: Any, work_off: Any) -> None:
    ask_for(world, world.recorded("int8", right=30), world.golden(), baseline=world.recorded("base"))
    assert work_off(["comparison.make"]) == [("comparison.make", "queued")]
    work_off(["replay.run"])
    assert work_off(["comparison.make"], early=True) == [("comparison.make", "done")]


def test_a_comparison_says_how_many_scorers_it_has_compared(world: Any, work_off: Any) -> None:
    ask_for(world, world.recorded("int8", right=30), world.golden(), baseline=world.recorded("base"))
    work_off(early=True)
    with reading() as session:
        job = session.exec(select(Job).where(Job.kind == "comparison.make")).one()
    assert (job.progress_done, job.progress_total) == (2, 2)


def test_the_baselines_finished_replay_is_used_again(world: Any, work_off: Any) -> None:
    base, golden = world.recorded("base"), world.golden()
    first = ask_for(world, base, golden)
    work_off()
    ask_for(world, world.recorded("int8", right=30), golden, baseline=base)
    work_off(early=True)
    assert comparisons()[0].baseline_replay_id == first.id
    with reading() as session:
        assert len(session.exec(select(Replay)).all()) == 2


def test_a_replay_with_other_sampling_is_not_used_again(world: Any, work_off: Any) -> None:
    base, golden = world.recorded("base"), world.golden()
    ask_for(world, base, golden, sampling={"max_tokens": 5})
    work_off()
    ask_for(world, world.recorded("int8", right=30), golden, baseline=base)
    with reading() as session:
        assert len(session.exec(select(Replay)).all()) == 3


def test_comparing_twice_leaves_one_comparison(world: Any, work_off: Any) -> None:
    new = ask_for(world, world.recorded("int8", right=30), world.golden(), baseline=world.recorded("base"))
    work_off(early=True)
    before = comparisons()
    with writing() as session:
        old = session.get_one(Replay, before[0].baseline_replay_id)
        request_comparison(session, session.get_one(Replay, new.id), old, 0.02)
    assert work_off() == [("comparison.make", "done")]
    assert [row.model_dump() for row in comparisons()] == [row.model_dump() for row in before]


def test_replays_of_different_golden_versions_are_refused(world: Any, work_off: Any) -> None:
    base = world.recorded("base")
    first = ask_for(world, base, world.golden())
    second = ask_for(world, base, world.golden([("Question 1?", "answer 1")]))
    with reading() as session:
        assert find_version(session, world.project_id, "qa").number == 2
    with writing() as session, pytest.raises(Conflict, match="only answers to the same items"):
        request_comparison(session, second, first, 0.02)


def test_replays_judged_by_different_versions_of_a_scorer_are_refused(world: Any, work_off: Any) -> None:
    base, golden = world.recorded("base"), world.golden()
    old = ask_for(world, base, golden)
    work_off()
    with writing() as session:
        for score in session.exec(select(Score)):
            score.version = "0"
            session.add(score)
    ask_for(world, world.recorded("int8"), golden, baseline=base)
    work_off(early=True)
    assert comparisons() == []
    assert f"replay {old.id} by 0. Replay the older one again" in failed()


def test_a_failed_side_fails_the_comparison_with_its_reason(world: Any, work_off: Any) -> None:
    gone = world.declare("gone", {"runner": "recorded", "runner_config": {"path": "/no/such.csv"}, "chain": []})
    ask_for(world, gone, world.golden(), baseline=world.recorded("base"))
    work_off(early=True)
    assert "/no/such.csv cannot be read" in failed()


def test_replays_that_share_no_scorer_say_so(world: Any, work_off: Any) -> None:
    base, golden = world.recorded("base"), world.golden()
    old = ask_for(world, base, golden, scorers=["contains"])
    new = ask_for(world, world.recorded("int8"), golden, scorers=["token_f1"])
    with writing() as session:
        request_comparison(session, new, old, 0.02)
    work_off(early=True)
    assert "No scorer gave both replay" in failed()


def test_replays_that_nothing_scored_say_what_was_lacking(world: Any, work_off: Any) -> None:
    golden = world.golden([(f"Question {n}?", "") for n in range(8)])
    ask_for(world, world.recorded("int8"), golden, baseline=world.recorded("base"), scorers=["contains"])
    work_off(early=True)
    assert "for example: the item has no reference answer." in failed()


def test_a_long_configuration_of_a_scorer_is_kept_on_every_database(world_on_each: Any, work_off: Any) -> None:
    world, golden = world_on_each, world_on_each.golden()
    long = 'regex:{"full": true, "pattern": "answer [0-9]+ or what else is right here"}'
    ask_for(world, world.recorded("int8"), golden, baseline=world.recorded("base"), scorers=[long])
    work_off(early=True)
    assert [row.evaluator_version for row in comparisons("regex")] == ["1 " + long.removeprefix("regex:")]


def test_a_scorer_counts_once_and_with_one_configuration(world: Any, work_off: Any) -> None:
    base, golden = world.recorded("base"), world.golden()
    assert ask_for(world, base, golden, scorers=["exact", "exact"]).scorers == ["exact"]
    with pytest.raises(BadInput, match="Scorer regex is named twice with different configurations"):
        ask_for(world, base, golden, scorers=['regex:{"pattern": "a"}', "regex"])


def test_a_scorer_that_could_judge_no_item_does_not_keep_the_others_from_being_compared(
    world: Any, work_off: Any
) -> None:
    golden = world.golden([(f"Question {n}?", "") for n in range(40)])
    ask_for(world, world.recorded("int8"), golden, baseline=world.recorded("base"), scorers=["contains", "empty"])
    work_off(early=True)
    assert comparisons("contains") == []
    assert comparisons("empty")[0].n == 40


def test_items_that_failed_are_counted(world: Any, work_off: Any) -> None:
    ask_for(world, world.recorded("int8"), world.golden(), baseline=world.recorded("base"))
    work_off(["replay.run"])
    with writing() as session:
        new = session.exec(select(Replay).where(Replay.variant_id == 1)).first()
        assert new is not None
        for answer in session.exec(select(Answer).where(Answer.replay_id == new.id).limit(5)):
            answer.error = "timeout"
            session.add(answer)
    work_off(early=True)
    (found,) = comparisons()
    assert len(found.evidence["errors"]) == 5
    assert found.worse == 5
