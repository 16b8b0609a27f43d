"""Who says yes to a repair, until when, and within which budget."""

from collections.abc import Callable
from typing import Any

import pytest
from repairs import decide, look, now, policy, route_now, variant
from sqlmodel import select

from driftline.acts import reoptimizations as acts
from driftline.acts.routes import set_policy, set_project_approval
from driftline.acts.variants import find_route
from driftline.errors import BadInput, Conflict
from driftline.moment import now_us
from driftline.store.engine import reading, writing
from driftline.store.projects import find_project
from driftline.store.tables import Comparison, DriftEvent, Job, Monitor, Reoptimization, Variant
from scheduler.proposals import AUTO_A_DAY, POLICY, decide_by_policy, propose
from scheduler.reoptimizations import withdraw_expired
from scheduler.work import run_job


def test_what_nobody_decides_on_expires_and_no_late_click_revives_it(
    repair: Callable[..., Reoptimization], work_off: Any
) -> None:
    row = repair(good=60)
    with writing() as session:
        there = session.get_one(Reoptimization, row.id)
        there.expires_at = now_us() - 1
        session.add(there)
    with pytest.raises(Conflict, match="has expired"):
        decide(acts.approve, row)
    assert (now(row).state, work_off(early=True)) == ("proposed", [])
    with writing() as session:
        assert withdraw_expired(session) == 1
        assert withdraw_expired(session) == 0
    assert now(row).state == "expired"
    with pytest.raises(Conflict, match="is expired"):
        decide(acts.approve, row)


def test_under_policy_auto_nobody_has_to_click(world: Any, drifted: DriftEvent, work_off: Any) -> None:
    with writing() as session:
        set_project_approval(session, find_project(session, "default"), "auto", "ann")
    with writing() as session:
        row = propose(session, session.get_one(DriftEvent, drifted.id), "default", "Quality fell.", None)
    assert row is not None
    work_off(early=True)
    assert (now(row).state, now(row).decided_by, route_now()[0]) == ("promoted", POLICY, "base")


def test_a_route_may_ask_for_a_person_where_the_project_does_not(drifted: DriftEvent) -> None:
    with writing() as session:
        set_project_approval(session, find_project(session, "default"), "auto", "ann")
    policy(approval="manual")
    with writing() as session:
        row = propose(session, session.get_one(DriftEvent, drifted.id), "default", "Quality fell.", None)
        assert row is not None
        assert row.state == "proposed"


def test_a_policy_that_changes_says_yes_to_what_waits(repair: Callable[..., Reoptimization]) -> None:
    row, late = repair(good=60), repair(better=60)
    with writing() as session:
        there = session.get_one(Reoptimization, late.id)
        there.expires_at = now_us() - 1
        session.add(there)
        decide_by_policy(session)
    assert now(row).state == "proposed"
    policy(approval="auto")
    with writing() as session:
        decide_by_policy(session)
    assert (now(row).state, now(row).decided_by, now(late).state) == ("approved", POLICY, "proposed")


def test_the_policy_says_yes_only_so_often_a_day(drifted: DriftEvent) -> None:
    policy(approval="auto")
    states = []
    for _ in range(AUTO_A_DAY + 1):
        with writing() as session:
            row = propose(session, session.get_one(DriftEvent, drifted.id), "default", "Quality fell.", None)
            assert row is not None
            states.append(row.state)
            acts.cancel(session, row, "ann")
    assert states == ["approved"] * AUTO_A_DAY + ["proposed"]


def test_candidates_that_take_longer_than_the_budget_are_passed_over(
    repair: Callable[..., Reoptimization], work_off: Any
) -> None:
    row = repair(good=60, slow=60)
    decide(acts.approve, row)
    look(row)
    with reading() as session:
        builds = {
            job.args["variant_id"]: job.id for job in session.exec(select(Job).where(Job.kind == "variant.build"))
        }
    run_job(builds[variant("good").id])
    with writing() as session:
        there = session.get_one(Reoptimization, row.id)
        there.evidence = there.evidence | {"stops_at": now_us() - 1}
        session.add(there)
    assert look(row) == "replaying"
    assert variant("slow").build_error == "not built within the budget of 6 hours"
    with reading() as session:
        assert session.get_one(Job, builds[variant("slow").id]).state == "cancelled"
    assert look(row) == "gated"
    assert look(row) == "rejected"
    assert "good: not replayed in the budget" in (now(row).reason or "")


@pytest.mark.parametrize(
    ("given", "says"),
    [({"canary_share": 0.9}, "at most half"), ({"canary_items": -1}, "from 0"), ({"approval": "yes"}, "manual or auto"),
     ({"canary_share": 0.1, "canary_days": 0.0}, "more days"), ({"speed": 1.0}, "no 'speed'")],
)  # fmt: skip
def test_a_policy_that_makes_no_sense_is_refused(world: Any, given: Any, says: str) -> None:

    with writing() as session, pytest.raises(BadInput, match=says):
        set_policy(session, find_route(session, world.project_id, "default"), "ann", **given)


@pytest.mark.parametrize(("verdict", "cause"), [("worse", "variant"), ("equivalent", "latency")])
def test_a_slow_variant_that_is_worse_as_well_is_repaired_for_its_quality(
    drifted: DriftEvent, verdict: str, cause: str
) -> None:
    with writing() as session:
        monitor = session.get_one(Monitor, drifted.monitor_id)
        monitor.signal = "latency"
        session.add(monitor)
        slow = session.get_one(Variant, drifted.variant_id)
        chain = [{"method": method, "config": {}} for method in ("smollm2", "bf16", "int8_dynamic")]
        slow.spec = {"runner": "transformers", "runner_config": {}, "chain": chain}
        session.add(slow)
        session.flush()
        judged = Comparison(evaluator="contains", margin=0.02, verdict=verdict)
        row = propose(session, session.get_one(DriftEvent, drifted.id), "default", "It got slower.", judged)
        assert row is not None
        assert row.plan["cause"] == cause
