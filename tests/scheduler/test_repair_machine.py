"""Whatever people, workers, clocks and traffic do to repairs, in any order: no path skips the gate, none gets stuck,
every one can be undone."""

import shutil
from collections.abc import Callable, Iterator
from contextlib import suppress
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test
from sqlmodel import Session, col, select

from driftline.acts import reoptimizations as acts
from driftline.acts.golden import canonical, import_items
from driftline.acts.routes import set_policy
from driftline.acts.variants import declare, find_route, promote, set_baseline
from driftline.errors import Conflict
from driftline.moment import now_us
from driftline.store.engine import engine, reading, writing
from driftline.store.hashing import sample_key
from driftline.store.projects import ensure_project
from driftline.store.tables import AuditEntry, Generation, Job, Reoptimization, Route, Variant
from scheduler.proposals import approve_by_policy
from scheduler.reoptimizations import failed, withdraw_expired
from scheduler.work import run_job

ITEMS, MARGIN = 20, 0.5
QUESTIONS = [f"Question {n}?" for n in range(ITEMS)]
STEPS = {
    "proposed": {"approved", "rejected", "cancelled", "expired"},
    "approved": {"building", "cancelled", "failed"},
    "building": {"replaying", "cancelled", "failed"},
    "replaying": {"gated", "cancelled", "failed"},
    "gated": {"ready", "shadow", "canary", "promoted", "rejected", "cancelled", "failed"},
    "ready": {"released", "rejected", "cancelled", "expired"},
    "released": {"shadow", "canary", "promoted", "rejected", "cancelled", "failed"},
    "shadow": {"canary", "promoted", "rejected", "cancelled", "failed", "rolled_back"},
    "canary": {"promoted", "rolled_back", "cancelled", "failed"},
    "promoted": {"rolled_back"},
}
SERVING = ("shadow", "canary", "promoted")
PEOPLE = st.sampled_from(["ann", "bob"])
SELDOM = st.integers(0, 5).map(lambda drawn: drawn == 5)  # what would end most ways before they get anywhere


def recorded(right: int) -> dict[str, Any]:
    answers = {asked: f"answer {n}" if n < right else "No." for n, asked in enumerate(QUESTIONS)}
    return {"runner": "recorded", "runner_config": {"answers": answers}, "chain": []}


class Repairs(RuleBasedStateMachine):
    """A route whose production is bad, and candidates of which one is as good as the baseline."""

    fresh_store: Callable[[], None]

    @initialize(approval=st.sampled_from(["manual", "auto"]), canary=st.sampled_from([0.0, 0.25, 0.25]),
                shadow=st.sampled_from([0, 8]))  # fmt: skip
    def begin(self, approval: str, canary: float, shadow: int) -> None:
        type(self).fresh_store()
        self.by_hand = {"base", "worn"}
        with writing() as session:
            self.project = ensure_project(session).id
            items = [canonical({"input": asked, "expected": f"answer {n}"}) for n, asked in enumerate(QUESTIONS)]
            self.golden = import_items(session, self.project, "qa", items, "test", source="test")[0].id
            made = {name: declare(session, self.project, name, recorded(right), "test")
                    for name, right in {"base": ITEMS, "worn": 2, "hand-made": 10}.items()}  # fmt: skip
            promote(session, self.project, "default", made["base"], "test", "")
            set_baseline(session, find_route(session, self.project, "default"), made["base"], "test")
            promote(session, self.project, "default", made["worn"], "test", "")
            self.send(session, made["worn"].id, "ok", 10)
        self.the_policy_changes(approval, canary, shadow)

    @rule(who=PEOPLE, hold=st.booleans(), broken=st.booleans(), rounds=st.integers(4, 10))
    def the_usual_way(self, who: str, hold: bool, broken: bool, rounds: int) -> None:
        self.somebody_proposes(True, broken)
        self.somebody_approves(who, hold)
        self.workers_work(20, rounds)

    @rule(good=st.booleans(), broken=st.booleans())
    def somebody_proposes(self, good: bool, broken: bool) -> None:
        candidates = {"bad": recorded(2)} | ({"good": recorded(ITEMS)} if good else {})
        if broken:
            candidates["broken"] = {"runner": "recorded", "runner_config": {"path": "/no/such.csv"}, "chain": []}
        with writing() as session:
            route = find_route(session, self.project, "default")
            subject = session.get_one(Variant, route.production_variant_id)
            if acts.standing_of(session, self.project, subject.id) is not None or subject.name == "good":
                return
            row = Reoptimization(
                project_id=self.project, subject_variant_id=subject.id, baseline_variant_id=route.baseline_variant_id,
                created_at=now_us(), updated_at=now_us(), expires_at=acts.expiry(),
                plan={"candidates": [{"name": name, "spec": spec, "why": "a try"} for name, spec in candidates.items()],
                      "golden_version_id": self.golden, "evaluator": "contains", "margin": MARGIN, "aim": "size"},
            )  # fmt: skip
            session.add(row)
            session.flush()
            session.add(AuditEntry(project_id=self.project, at=now_us(), actor="test", detail={},
                                   action="reoptimization.proposed", subject=f"reoptimization:{row.id}"))  # fmt: skip
            approve_by_policy(session, row, route)

    @rule(approval=st.sampled_from(["manual", "auto"]), canary=st.sampled_from([0.0, 0.25]),
          shadow=st.sampled_from([0, 8]))  # fmt: skip
    def the_policy_changes(self, approval: str, canary: float, shadow: int) -> None:
        with writing() as session:
            route = find_route(session, self.project, "default")
            set_policy(session, route, "ann", approval=approval, canary_share=canary, shadow_items=shadow,
                       canary_items=10)  # fmt: skip

    @rule(who=PEOPLE, hold=st.booleans())
    def somebody_approves(self, who: str, hold: bool) -> None:
        self.act(acts.approve, who, hold=hold)

    @rule(who=PEOPLE)
    def somebody_releases(self, who: str) -> None:
        self.act(acts.release, who)

    @rule(act=st.sampled_from([acts.reject, acts.cancel, acts.undo]), who=PEOPLE, seldom=SELDOM)
    def somebody_says_no(self, act: Callable[..., Any], who: str, seldom: bool) -> None:
        if seldom:
            self.act(act, who)

    def act(self, act: Callable[..., Any], who: str, **given: Any) -> None:
        with reading() as session:
            newest = session.exec(select(Reoptimization.id).order_by(col(Reoptimization.id).desc())).first()
        if newest is not None:
            with suppress(Conflict), writing() as session:
                act(session, session.get_one(Reoptimization, newest), who, **given)

    @rule(most=st.integers(1, 12), rounds=st.integers(1, 6))
    def workers_work(self, most: int, rounds: int) -> None:
        for _ in range(rounds):
            self.work(most)

    def work(self, most: int) -> int:
        with writing() as session:
            jobs = session.exec(select(Job).where(Job.state == "queued").order_by(col(Job.due_at)).limit(most)).all()
            for job in jobs:
                job.due_at = 0
                session.add(job)
        for job in jobs:
            run_job(job.id)
        return len(jobs)

    @rule(seldom=SELDOM)
    def the_job_fails_for_good(self, seldom: bool) -> None:
        if not seldom:
            return
        with writing() as session:
            job = session.exec(
                select(Job).where(Job.kind == "reoptimization.advance", Job.state == "queued").limit(1)
            ).first()
            if job is not None:
                job.state, job.dedup_key = "failed", None
                session.add(job)
                failed(session, job.args, "the disk is full")

    @rule(canary_fails=st.booleans(), n=st.integers(1, 40))
    def traffic_comes(self, canary_fails: bool, n: int) -> None:
        with writing() as session:
            route = find_route(session, self.project, "default")
            for variant_id, status in ((route.production_variant_id, "ok"),
                                       (route.canary_variant_id, "error" if canary_fails else "ok")):  # fmt: skip
                self.send(session, variant_id, status, n)

    def send(self, session: Session, variant_id: int | None, status: str, n: int) -> None:
        for place in range(n if variant_id is not None else 0):
            identity = f"{variant_id}-{place}-{now_us()}"
            asked = f'[{{"role": "user", "content": "Question {place % ITEMS}?"}}]'
            session.add(Generation(
                project_id=self.project, id=identity, started_at=now_us(), received_at=0, variant_id=variant_id,
                input=asked, sample_key=sample_key(identity), status=status,
            ))  # fmt: skip

    @rule(seldom=SELDOM)
    def nobody_decides_in_time(self, seldom: bool) -> None:
        if seldom:
            self.expire()

    def expire(self) -> None:
        with writing() as session:
            for row in session.exec(select(Reoptimization).where(col(Reoptimization.expires_at).is_not(None))):
                row.expires_at = 1
                session.add(row)
        with writing() as session:
            withdraw_expired(session)

    @rule(seldom=SELDOM)
    def somebody_promotes_by_hand(self, seldom: bool) -> None:
        if not seldom:
            return
        with writing() as session:
            made = session.exec(select(Variant).where(Variant.name == "hand-made")).one()
            promote(session, self.project, "default", made, "eve", "I know better")
        self.by_hand.add("hand-made")

    @invariant()
    def no_path_skips_the_gate(self) -> None:
        with reading() as session:
            names = {one.id: one.name for one in session.exec(select(Variant))}
            rows = session.exec(select(Reoptimization)).all()
            route = session.exec(select(Route)).first()
            proven = {
                entry["name"] for row in rows for entry in row.evidence.get("candidates", []) if entry.get("passed")
            }
            for row in rows:
                trail = self.trail(session, row)
                for before, after in pairwise(trail):
                    assert after in STEPS[before], trail
                assert trail[-1] == row.state or (trail[-1], row.state) == ("released", "gated"), (trail, row.state)
                if row.state in SERVING:
                    assert "gated" in trail, trail
                    assert "approved" in trail, trail
                    assert names[row.candidate_variant_id] in proven
        if route is None:
            return
        assert names[route.production_variant_id] in proven | self.by_hand
        if route.canary_variant_id is not None:
            trying = [row.candidate_variant_id for row in rows if row.state == "canary"]
            assert trying.count(route.canary_variant_id) == 1
            assert names[route.canary_variant_id] in proven

    def trail(self, session: Session, row: Reoptimization) -> list[str]:
        of_row = select(AuditEntry.action).where(AuditEntry.subject == f"reoptimization:{row.id}")
        return [one.split(".")[1] for one in session.exec(of_row.order_by(col(AuditEntry.id)))]

    def teardown(self) -> None:
        if not hasattr(self, "project"):
            return
        self.none_gets_stuck()
        self.every_one_can_be_undone()
        engine().dispose()

    def none_gets_stuck(self) -> None:
        for _ in range(60):
            busy = self.work(50)
            self.expire()
            with writing() as session:
                for row in session.exec(select(Reoptimization).where(Reoptimization.state == "canary")):
                    row.evidence = row.evidence | {"canary": row.evidence["canary"] | {"not_after": 1}}
                    session.add(row)
            with reading() as session:
                states = session.exec(select(Reoptimization.state)).all()
            if not busy and set(states) <= set(acts.ENDED):
                return
        raise AssertionError(f"still {states}")

    def every_one_can_be_undone(self) -> None:
        with reading() as session:
            newest = session.exec(
                select(Reoptimization).where(Reoptimization.state == "promoted").order_by(col(Reoptimization.id).desc())
            ).first()
            route = session.exec(select(Route)).one()
        if newest is None or newest.candidate_variant_id != route.production_variant_id:
            return
        with writing() as session:
            acts.undo(session, session.get_one(Reoptimization, newest.id), "ann", "after all")
        with reading() as session:
            back = session.exec(select(Route)).one()
            assert back.production_variant_id == newest.subject_variant_id
            assert session.get_one(Reoptimization, newest.id).state == "rolled_back"


@pytest.fixture
def stores(
    tmp_path: Path, upgraded_sqlite: Path, monkeypatch: pytest.MonkeyPatch, forget_settings: Callable[[], None]
) -> Iterator[Callable[[], None]]:
    """Makes a fresh store and points this process at it."""
    made = 0

    def make() -> None:
        nonlocal made
        made += 1
        folder = tmp_path / str(made)
        folder.mkdir()
        shutil.copy(upgraded_sqlite, folder / "driftline.db")
        monkeypatch.setenv("DRIFTLINE_DATA_DIR", str(folder))
        forget_settings()

    yield make
    forget_settings()


def run(stores: Callable[[], None], examples: int, steps: int) -> None:
    machine = type("FreshRepairs", (Repairs,), {"fresh_store": staticmethod(stores)})
    run_state_machine_as_test(machine, settings=settings(
        max_examples=examples, stateful_step_count=steps, deadline=None, suppress_health_check=list(HealthCheck),
    ))  # fmt: skip


def test_no_path_skips_the_gate_none_gets_stuck_every_one_can_be_undone(stores: Callable[[], None]) -> None:
    run(stores, examples=8, steps=15)


@pytest.mark.slow
def test_the_same_on_many_and_longer_ways(stores: Callable[[], None]) -> None:
    run(stores, examples=100, steps=30)
