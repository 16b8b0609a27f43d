"""From a passed gate to production: held for a yes, in the shadow, as a canary; and the way back from each of them."""

import json
from collections.abc import Callable
from typing import Any

import pytest
from repairs import QUESTIONS, decide, look, now, policy, route_now, steps, variant, work_until
from sqlmodel import col, select

from driftline.acts import reoptimizations as acts
from driftline.acts.variants import promote
from driftline.errors import Conflict
from driftline.moment import DAY, HOUR, SECOND, now_us
from driftline.store.artifacts import content
from driftline.store.engine import reading, writing
from driftline.store.tables import (
    AuditEntry,
    GoldenVersion,
    HeldOutUse,
    Monitor,
    Reoptimization,
    Replay,
    Score,
    Variant,
)


@pytest.fixture
def canary(
    world: Any, repair: Callable[..., Reoptimization], work_off: Any, monkeypatch: pytest.MonkeyPatch
) -> Reoptimization:
    """A repair whose candidate `good` is the canary of a quarter of the sessions."""
    from scheduler import canary as module

    monkeypatch.setattr(module, "settings", lambda: type("Now", (), {"settle_s": -1.0}))
    policy(canary_share=0.25, canary_items=40)
    row = repair(good=60)
    decide(acts.approve, row)
    work_until(row, "canary", work_off)
    return row


def serve(world: Any, n: int, *, canary_fails: float = 0.0, session: str | None = None) -> None:
    """Production and the canary each answer so many records, in turns; a share of the canary's are errors."""
    for place in range(n):
        fails = place % 10 < canary_fails * 10
        same = {"session_id": f"{session}"} if session else {}
        world.traffic(variant("int8"), [now_us()], route="default", id=f"p-{now_us()}-{place}")
        status = "error" if fails else "ok"
        world.traffic(variant("good"), [now_us()], route="default", status=status, id=f"c-{now_us()}-{place}", **same)


def test_a_held_repair_waits_with_its_evidence_until_somebody_releases_it(
    repair: Callable[..., Reoptimization], work_off: Any
) -> None:
    row = repair(good=60, bad=30)
    decide(acts.approve, row, hold=True)
    work_off(early=True)
    assert (now(row).state, route_now()[0]) == ("ready", "int8")
    assert (now(row).expires_at or 0) > now_us()
    decide(acts.release, row, "bob")
    work_off(early=True)
    assert (now(row).state, now(row).decided_by, route_now()[0]) == ("promoted", "bob", "good")
    assert steps(row) == ["approved", "building", "replaying", "gated", "ready", "released", "promoted"]
    with pytest.raises(Conflict):
        decide(acts.release, row, "eve")


def test_the_evidence_names_what_failed_before_and_what_is_answered_after(
    world: Any, repair: Callable[..., Reoptimization], work_off: Any
) -> None:
    row = repair(good=60)
    decide(acts.approve, row)
    work_off(early=True)
    with reading() as session:
        kept, raw = content(session, world.project_id, now(row).bundle_sha256 or "")
    lines = [json.loads(line) for line in raw.decode().splitlines()]
    head, items = lines[0], [one for one in lines if one["kind"] == "item"]
    assert (kept.kind, head["chosen"], head["replaces"], head["items_lost"]) == ("evidence", "good", "int8", 30)
    assert len(items) == 30
    assert items[0]["before"]["text"] == "I do not know."
    assert items[0]["after"]["text"] == items[0]["expected"][0] == items[0]["baseline"]["text"]
    assert head["gate"]["use"] == 1


def test_every_decision_on_the_same_items_costs_some_of_their_power(
    world: Any, repair: Callable[..., Reoptimization], work_off: Any
) -> None:
    for number in range(2):
        row = repair(bad=30 - number)
        decide(acts.approve, row)
        work_off(early=True)
        assert now(row).state == "rejected"
    with reading() as session:
        spent = [one.alpha for one in session.exec(select(HeldOutUse).order_by(col(HeldOutUse.id)))]
    assert spent == [pytest.approx(0.05 / 2), pytest.approx(0.05 / 6)]
    assert now(row).evidence["gate"]["use"] == 2


def test_new_items_have_not_judged_yet_and_old_ones_in_a_new_version_have(world: Any, golden: GoldenVersion) -> None:
    from scheduler.gate import uses_of

    pairs = [(f"Question {n}?", f"answer {n}") for n in range(60)]
    more = world.golden([*pairs, ("And then?", "Then.")], name="qa")
    fresh = world.golden([(f"Fresh {n}?", "yes") for n in range(20)], name="fresh")
    with writing() as session:
        row = Reoptimization(
            project_id=world.project_id, subject_variant_id=world.recorded("x").id, created_at=0, updated_at=0
        )
        session.add(row)
        session.flush()
        session.add(HeldOutUse(project_id=world.project_id, golden_version_id=golden.id, reoptimization_id=row.id,
                               candidates=1, alpha=0.1, created_at=0))  # fmt: skip
    with reading() as session:
        assert [uses_of(session, world.project_id, one.id) for one in (golden, more, fresh)] == [1, 1, 0]


def test_items_to_train_on_do_not_judge(world: Any, repair: Callable[..., Reoptimization], work_off: Any) -> None:
    from driftline.acts.golden import canonical, import_items

    with writing() as session:
        rows = [{"input": asked, "expected": f"answer {n}", "split": "train" if n < 30 else "test"}
                for n, asked in enumerate(QUESTIONS)]  # fmt: skip
        version, _ = import_items(session, world.project_id, "halves", map(canonical, rows), "test", source="test")
    row = repair(half=30)  # right on the first thirty alone
    with writing() as session:
        there = session.get_one(Reoptimization, row.id)
        there.plan = there.plan | {"golden_version_id": version.id}
        session.add(there)
    decide(acts.approve, row)
    work_off(early=True)
    assert now(row).state == "rejected"
    assert (now(row).evidence["candidates"][0]["n"], now(row).evidence["gate"]["items"]) == (30, 30)


def test_a_canary_serves_its_share_and_becomes_production_when_it_does_no_harm(
    world: Any, canary: Reoptimization, work_off: Any
) -> None:
    assert route_now() == ("int8", "good", 0.25)
    assert variant("good").state == "canary"
    serve(world, 39)
    assert look(canary) == "canary"
    serve(world, 2)
    assert look(canary) == "promoted"
    assert route_now() == ("good", None, 0.0)
    with reading() as session:
        entry = session.exec(select(AuditEntry).where(AuditEntry.action == "reoptimization.promoted")).one()
    assert entry.detail["tests"]["errors"]["canary_n"] == 41


def test_a_canary_that_fails_is_taken_back_by_itself(world: Any, canary: Reoptimization) -> None:
    serve(world, 38, canary_fails=0.6)
    assert look(canary) == "rolled_back"
    assert route_now() == ("int8", None, 0.0)
    assert variant("good").state == "candidate"
    assert "answers without an error" in (now(canary).reason or "")
    assert now(canary).finished_at is not None


def test_a_canary_whose_scores_fall_is_taken_back(
    world: Any, repair: Callable[..., Reoptimization], work_off: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from scheduler import canary as module

    monkeypatch.setattr(module, "settings", lambda: type("Now", (), {"settle_s": -1.0}))
    with writing() as session:
        monitor = session.exec(select(Monitor)).one()
        monitor.source = "token_f1"
        session.add(monitor)
    policy(canary_share=0.25, canary_items=1000)
    row = repair(good=60)
    decide(acts.approve, row)
    work_until(row, "canary", work_off)
    for name, value in (("int8", 0.9), ("good", 0.2)) * 30:
        (seq,) = world.traffic(variant(name), [now_us()], route="default", id=f"{name}-{now_us()}")
        with writing() as session:
            session.add(Score(project_id=world.project_id, evaluator="token_f1", version="1", generation_seq=seq,
                              value=value, created_at=now_us()))  # fmt: skip
    assert look(row) == "rolled_back"
    assert "token_f1 0.200 against 0.900" in (now(row).reason or "")


def test_the_records_of_one_session_count_once(world: Any, canary: Reoptimization) -> None:
    serve(world, 60, canary_fails=1.0, session="the same user all the time")
    assert look(canary) == "canary"
    assert now(canary).evidence["canary"]["streams"]["errors"]["seen"][0] == 1


def test_a_canary_without_traffic_does_not_stand_for_ever(canary: Reoptimization) -> None:
    with writing() as session:
        there = session.get_one(Reoptimization, canary.id)
        there.evidence = there.evidence | {"canary": there.evidence["canary"] | {"not_after": now_us() - 1}}
        session.add(there)
    assert look(canary) == "rolled_back"
    assert "Does the app ask which variant to use?" in (now(canary).reason or "")


@pytest.mark.parametrize(("act", "state"), [(acts.undo, "rolled_back"), (acts.cancel, "cancelled")])
def test_a_canary_can_be_taken_back_by_a_person(canary: Reoptimization, act: Any, state: str) -> None:
    decide(act, canary, "bob", reason="no")
    assert (now(canary).state, route_now()) == (state, ("int8", None, 0.0))
    assert look(canary) == state


def test_whoever_promotes_something_else_ends_the_canary(world: Any, canary: Reoptimization) -> None:
    other = world.recorded("other")
    with writing() as session:
        promote(session, world.project_id, "default", session.get_one(Variant, other.id), "eve", "")
    assert look(canary) == "cancelled"
    assert route_now() == ("other", None, 0.0)
    assert variant("good").state == "candidate"


def asked_before(world: Any, n: int = 20) -> None:
    """Stored prompts of the route, some of those that the recorded variants can answer."""
    texts = [json.dumps([{"role": "user", "content": asked}]) for asked in QUESTIONS[:n]]
    world.traffic(variant("int8"), [now_us() + place for place in range(n)], route="default", input=texts)


def test_in_the_shadow_the_candidate_answers_real_prompts_unseen(
    world: Any, repair: Callable[..., Reoptimization], work_off: Any
) -> None:
    row = repair(good=60)
    asked_before(world)
    policy(shadow_items=16)
    decide(acts.approve, row)
    work_until(row, "shadow", work_off)
    assert (variant("good").state, route_now()) == ("shadow", ("int8", None, 0.0))
    work_until(row, "promoted", work_off)
    assert now(row).evidence["shadow"]["items"] == 16
    assert "On 16 real prompts beside int8" in (now(row).reason or "")
    assert route_now()[0] == "good"


def test_a_candidate_that_cannot_answer_real_prompts_stays_in_the_shadow(
    world: Any, repair: Callable[..., Reoptimization], work_off: Any
) -> None:
    row = repair(good=60)
    asked_before(world)
    policy(shadow_items=16)
    decide(acts.approve, row)
    work_until(row, "shadow", work_off)
    with writing() as session:
        there = session.get_one(Replay, now(row).evidence["shadow"]["replay_id"])
        there.state, there.error = "failed", "out of memory"
        session.add(there)
    assert look(row) == "rejected"
    assert "out of memory" in (now(row).reason or "")
    assert variant("good").state == "candidate"


def test_without_stored_prompts_there_is_no_shadow(repair: Callable[..., Reoptimization], work_off: Any) -> None:
    policy(shadow_items=16)
    row = repair(good=60)
    decide(acts.approve, row)
    work_off(early=True)
    assert "shadow" not in steps(row)
    assert now(row).state == "promoted"


def test_time_passes_before_a_canary_becomes_production_where_the_policy_asks_for_it(
    world: Any, canary: Reoptimization
) -> None:
    with writing() as session:
        there = session.get_one(Reoptimization, canary.id)
        state = there.evidence["canary"] | {"not_before": now_us() + HOUR, "not_after": now_us() + DAY + SECOND}
        there.evidence = there.evidence | {"canary": state}
        session.add(there)
    serve(world, 60)
    assert look(canary) == "canary"
