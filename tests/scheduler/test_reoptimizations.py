"""The way back: approved by one person once, every step on record, promoted only by proof, and taken back."""

from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from sqlmodel import col, select

from driftline.acts import reoptimizations as acts
from driftline.acts.replays import cancel_replay, request_replay
from driftline.acts.variants import find_route, promote, request_build
from driftline.errors import Conflict
from driftline.moment import now_us
from driftline.store.engine import reading, writing
from driftline.store.tables import (
    AuditEntry,
    DriftEvent,
    GoldenVersion,
    Job,
    Monitor,
    Reoptimization,
    Replay,
    Route,
    Score,
    Variant,
)
from scheduler.proposals import propose
from scheduler.work import run_job

MARGIN = 0.1


class Killed(BaseException):
    """What nothing catches: the worker is gone in this very moment."""


def propose_for(event: DriftEvent) -> Reoptimization | None:
    with writing() as session:
        return propose(session, session.get_one(DriftEvent, event.id), "default", "Quality fell.", None)


@pytest.fixture
def proposed(drifted: DriftEvent) -> Reoptimization:
    """A proposal to go back to the baseline."""
    row = propose_for(drifted)
    assert row is not None
    return row


@pytest.fixture
def plan(world: Any, drifted: DriftEvent, golden: GoldenVersion) -> Callable[..., Reoptimization]:
    """A proposal with candidates of the test's own; each a name and how many answers are right (None: it is broken)."""

    def write(**candidates: int | None) -> Reoptimization:
        def spec(right: int | None) -> dict[str, Any]:
            if right is None:
                return {"runner": "recorded", "runner_config": {"path": "/no/such.csv"}, "chain": []}
            answers = {f"Question {n}?": f"answer {n}" if n < right else "No." for n in range(60)}
            return {"runner": "recorded", "runner_config": {"answers": answers}, "chain": []}

        told = [{"name": name, "spec": spec(right), "why": "a try"} for name, right in candidates.items()]
        with writing() as session:
            base = session.exec(select(Variant).where(Variant.name == "base")).one()
            row = Reoptimization(
                project_id=world.project_id, drift_event_id=drifted.id, subject_variant_id=drifted.variant_id or 0,
                baseline_variant_id=base.id, created_at=now_us(), updated_at=now_us(),
                plan={
                    "candidates": told, "golden_version_id": golden.id, "evaluator": "contains", "margin": MARGIN,
                    "because": "Quality fell.",
                },
            )  # fmt: skip
            session.add(row)
        return row

    return write


def decide(act: Callable[..., Any], row: Reoptimization, actor: str = "ann", *reason: str) -> None:
    with writing() as session:
        act(session, session.get_one(Reoptimization, row.id), actor, *reason)


def now(row: Reoptimization) -> Reoptimization:
    with reading() as session:
        return session.get_one(Reoptimization, row.id)


def steps(row: Reoptimization) -> list[tuple[str, str]]:
    with reading() as session:
        of_row = select(AuditEntry).where(AuditEntry.subject == f"reoptimization:{row.id}")
        return [(e.action.split(".")[1], e.actor) for e in session.exec(of_row.order_by(col(AuditEntry.id)))]


def production() -> str:
    with reading() as session:
        route = session.exec(select(Route)).one()
        return session.get_one(Variant, route.production_variant_id).name


def test_the_best_candidate_is_promoted_by_proof_and_every_step_is_on_record(
    plan: Callable[..., Reoptimization], work_off: Any, drifted: DriftEvent
) -> None:
    row = plan(bad=30, good=60)
    decide(acts.approve, row)
    work_off(early=True)
    done = now(row)
    assert done.state == "promoted"
    assert steps(row) == [
        ("approved", "ann"), ("building", "driftline"), ("replaying", "driftline"), ("gated", "driftline"),
        ("promoted", "driftline"),
    ]  # fmt: skip
    assert production() == "good"
    verdicts = {entry["name"]: (entry["verdict"], entry["passed"]) for entry in done.evidence["candidates"]}
    assert verdicts["bad"] == ("worse", False)
    assert verdicts["good"][1] is True
    assert (done.decided_by, done.finished_at is not None) == ("ann", True)
    with reading() as session:
        promoted = session.exec(select(AuditEntry).where(AuditEntry.action == "route.promoted")).all()[-1]
        assert (promoted.actor, promoted.detail["reason"]) == ("ann", f"re-optimization {row.id}")
        assert session.get_one(DriftEvent, drifted.id).state == "closed"
        assert session.exec(select(Monitor.status)).one() == "watching"


def test_going_back_to_the_baseline_needs_no_comparison(proposed: Reoptimization, work_off: Any) -> None:
    decide(acts.approve, proposed)
    work_off(early=True)
    assert now(proposed).state == "promoted"
    assert production() == "base"


def test_when_no_candidate_passes_production_stays(plan: Callable[..., Reoptimization], work_off: Any) -> None:
    row = plan(bad=30, worse=10)
    decide(acts.approve, row)
    work_off(early=True)
    assert now(row).state == "rejected"
    assert now(row).reason == "No candidate passed the gate (bad: worse, worse: worse)."
    assert production() == "int8"


def test_a_candidate_that_cannot_be_built_is_passed_over(plan: Callable[..., Reoptimization], work_off: Any) -> None:
    row = plan(broken=None, good=60)
    decide(acts.approve, row)
    work_off(early=True)
    assert now(row).state == "promoted"
    broken = now(row).evidence["candidates"][0]
    assert broken["passed"] is False
    assert "/no/such.csv cannot be read" in broken["problem"]


def test_a_candidate_that_failed_to_build_before_is_built_anew(
    world: Any, plan: Callable[..., Reoptimization], work_off: Any, tmp_path: Path
) -> None:
    path = tmp_path / "late.jsonl"
    late = world.declare("late", {"runner": "recorded", "runner_config": {"path": str(path)}, "chain": []})
    with writing() as session:
        request_build(session, session.get_one(Variant, late.id), "ann")
    assert work_off(early=True) == [("variant.build", "failed")]
    rows = [f'{{"prompt": "Question {n}?", "answer": "answer {n}"}}' for n in range(60)]
    path.write_text("\n".join(rows))
    row = plan(late=None)
    with writing() as session:
        there = session.get_one(Reoptimization, row.id)
        there.plan = there.plan | {"candidates": [{"name": "late", "spec": late.spec, "why": "it is there now"}]}
        session.add(there)
    decide(acts.approve, row)
    work_off(early=True)
    assert now(row).state == "promoted"
    assert production() == "late"


def test_a_candidate_that_cannot_be_judged_is_passed_over(plan: Callable[..., Reoptimization], work_off: Any) -> None:
    row = plan(good=60)
    with writing() as session:
        there = session.get_one(Reoptimization, row.id)
        there.plan = there.plan | {"evaluator": "taste"}
        session.add(there)
    decide(acts.approve, row)
    work_off(early=True)
    assert now(row).state == "rejected"
    assert "There is no scorer taste" in (now(row).reason or "")


def test_a_candidate_whose_scorer_has_changed_since_the_baselines_replay_is_passed_over(
    world: Any, golden: GoldenVersion, plan: Callable[..., Reoptimization], work_off: Any
) -> None:
    row = plan(good=60)
    with writing() as session:
        base = session.exec(select(Variant).where(Variant.name == "base")).one()
        request_replay(session, world.project_id, base, golden, "ann", scorers=["contains"])
    work_off()
    with writing() as session:
        for score in session.exec(select(Score)):
            score.version = "0"
            session.add(score)
    decide(acts.approve, row)
    work_off(early=True)
    assert now(row).state == "rejected"
    assert "Replay the older one again" in (now(row).reason or "")


def test_a_candidate_whose_replay_is_cancelled_is_passed_over(
    plan: Callable[..., Reoptimization], work_off: Any
) -> None:
    row = plan(good=60)
    decide(acts.approve, row)
    advance_until(row, "replaying", work_off)
    with writing() as session:
        replay = session.get_one(Replay, now(row).evidence["candidates"][0]["replay_id"])
        cancel_replay(session, replay, "bob")
    work_off(early=True)
    assert now(row).state == "rejected"
    assert "its replay was cancelled" in (now(row).reason or "")


def advance_until(row: Reoptimization, state: str, work_off: Any) -> None:
    """Works the repair forward, builds included, until it has come to a state."""
    for _ in range(20):
        if now(row).state == state:
            return
        work_off(["variant.build"])
        with reading() as session:
            job = session.exec(select(Job).where(Job.kind == "reoptimization.advance", Job.state == "queued")).one()
        with writing() as session:
            there = session.get_one(Job, job.id)
            there.due_at = 0
            session.add(there)
        run_job(job.id)
    raise AssertionError(f"it is {now(row).state}, not {state}")


@pytest.mark.parametrize("state", ["approved", "building", "replaying", "gated"])
def test_cancelled_in_the_middle_nothing_is_promoted(
    plan: Callable[..., Reoptimization], work_off: Any, state: str
) -> None:
    row = plan(good=60)
    decide(acts.approve, row)
    if state == "gated":
        advance_until(row, "replaying", work_off)
        work_off(["replay.run", "comparison.make"], early=True)
    advance_until(row, state, work_off)
    decide(acts.cancel, row, "bob", "not today")
    work_off(early=True)
    assert now(row).state == "cancelled"
    assert steps(row)[-1] == ("cancelled", "bob")
    assert now(row).reason == "not today"
    assert production() == "int8"


def test_a_worker_that_died_at_any_step_is_followed_by_one_that_asks_for_nothing_twice(
    plan: Callable[..., Reoptimization], work_off: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from scheduler import reoptimizations, rollout

    row = plan(good=60, bad=30)
    decide(acts.approve, row)
    genuine, died = acts.move, list[str]()

    def dies_once(session: Any, moved: Any, from_states: Any, to_state: str, *rest: Any, **values: Any) -> None:
        genuine(session, moved, from_states, to_state, *rest, **values)
        if to_state not in died:
            died.append(to_state)
            raise Killed

    for module in (reoptimizations, rollout):
        monkeypatch.setattr(module, "move", dies_once)
    while now(row).finished_at is None:
        with suppress(Killed):
            work_off(early=True)
        with writing() as session:
            for job in session.exec(select(Job).where(Job.state == "running")):
                job.state = "queued"  # what the end of its lease comes to
                session.add(job)
    assert died == ["building", "replaying", "gated", "promoted"]
    assert now(row).state == "promoted"
    assert [step for step, _ in steps(row)] == ["approved", *died]
    with reading() as session:
        replayed = Counter(session.exec(select(Replay.variant_id)))
        built = Counter(session.exec(select(Job.subject).where(Job.kind == "variant.build")))
    assert set(replayed.values()) == set(built.values()) == {1}


def test_only_one_click_approves(proposed: Reoptimization) -> None:
    decide(acts.approve, proposed, "ann")
    with pytest.raises(Conflict, match="is approved; only one that is proposed can become approved"):
        decide(acts.approve, proposed, "bob")
    with pytest.raises(Conflict):
        decide(acts.reject, proposed, "bob")
    assert steps(proposed) == [("proposed", "driftline"), ("approved", "ann")]
    with reading() as session:
        assert len(session.exec(select(Job).where(Job.kind == "reoptimization.advance")).all()) == 1


def test_a_rejected_proposal_keeps_its_reason_and_is_over(proposed: Reoptimization, work_off: Any) -> None:
    decide(acts.reject, proposed, "ann", "we retire int8 anyway")
    assert work_off(early=True) == []
    assert (now(proposed).state, now(proposed).reason) == ("rejected", "we retire int8 anyway")
    with pytest.raises(Conflict):
        decide(acts.cancel, proposed)


def test_a_promotion_is_taken_back_once(plan: Callable[..., Reoptimization], work_off: Any) -> None:
    row = plan(good=60)
    decide(acts.approve, row)
    work_off(early=True)
    decide(acts.undo, row, "bob", "users dislike it")
    assert (now(row).state, production()) == ("rolled_back", "int8")
    with pytest.raises(Conflict, match="is rolled_back"):
        decide(acts.undo, row)


def test_a_promotion_that_was_followed_by_another_cannot_be_taken_back(
    world: Any, plan: Callable[..., Reoptimization], work_off: Any
) -> None:
    row = plan(good=60)
    decide(acts.approve, row)
    work_off(early=True)
    newest = world.recorded("newest")
    with writing() as session:
        promote(session, world.project_id, "default", session.get_one(Variant, newest.id), "ann", "")
    with pytest.raises(Conflict, match="has moved on since"):
        decide(acts.undo, row)
    assert (now(row).state, production()) == ("promoted", "newest")


def test_a_proposal_stands_once_per_variant(drifted: DriftEvent, proposed: Reoptimization) -> None:
    assert propose_for(drifted) is None
    decide(acts.reject, proposed)
    assert propose_for(drifted) is not None


def test_nothing_is_proposed_where_nothing_could_be_better(world: Any, drifted: DriftEvent) -> None:
    with writing() as session:
        route = find_route(session, world.project_id, "default")
        route.baseline_variant_id = drifted.variant_id
        session.add(route)
    assert propose_for(drifted) is None


def test_a_proposal_is_judged_by_what_can_judge_both_sides(world: Any, proposed: Reoptimization) -> None:
    assert proposed.plan["evaluator"] == "token_f1"


def test_the_gate_uses_the_baselines_own_sampling_so_that_its_replay_counts(
    world: Any, golden: GoldenVersion, plan: Callable[..., Reoptimization], work_off: Any
) -> None:
    row = plan(good=60)
    with writing() as session:
        base = session.exec(select(Variant).where(Variant.name == "base")).one()
        request_replay(
            session, world.project_id, base, golden, "ann", sampling={"max_tokens": 99}, scorers=["token_f1"]
        )
    work_off()
    decide(acts.approve, row)
    work_off(early=True)
    assert now(row).state == "promoted"
    with reading() as session:
        candidate = session.exec(select(Replay).order_by(col(Replay.id).desc())).first()
    assert candidate is not None
    assert candidate.sampling["max_tokens"] == 99
    assert candidate.scorers[0] == "contains"
