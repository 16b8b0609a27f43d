"""Repairs with candidates of a test's own, and what became of them."""

from collections.abc import Callable
from typing import Any

from sqlmodel import col, select

from driftline.acts import reoptimizations as acts
from driftline.acts.routes import set_policy
from driftline.moment import now_us
from driftline.store.engine import reading, writing
from driftline.store.tables import (
    AuditEntry,
    DriftEvent,
    GoldenVersion,
    Job,
    Reoptimization,
    Route,
    Variant,
)
from scheduler.work import run_job

QUESTIONS = [f"Question {n}?" for n in range(60)]


def propose_repair(
    world: Any, event: DriftEvent, golden: GoldenVersion, margin: float = 0.1, aim: str = "size", **candidates: int
) -> Reoptimization:
    """A proposal with candidates of the test's own: a name and how many answers are right."""
    told = []
    for name, right in candidates.items():
        answers = {asked: f"answer {n}" if n < right else "No." for n, asked in enumerate(QUESTIONS)}
        spec = {"runner": "recorded", "runner_config": {"answers": answers}, "chain": []}
        told.append({"name": name, "spec": spec, "why": "a try"})
    with writing() as session:
        base = session.exec(select(Variant).where(Variant.name == "base")).one()
        row = Reoptimization(
            project_id=world.project_id, drift_event_id=event.id, subject_variant_id=event.variant_id or 0,
            baseline_variant_id=base.id, created_at=now_us(), updated_at=now_us(), expires_at=acts.expiry(),
            plan={"candidates": told, "golden_version_id": golden.id, "evaluator": "contains", "margin": margin,
                  "because": "Quality fell.", "cause": "variant", "aim": aim},
        )  # fmt: skip
        session.add(row)
    return row


def decide(act: Callable[..., Any], row: Reoptimization, actor: str = "ann", **given: Any) -> None:
    with writing() as session:
        act(session, session.get_one(Reoptimization, row.id), actor, **given)


def now(row: Reoptimization) -> Reoptimization:
    with reading() as session:
        return session.get_one(Reoptimization, row.id)


def policy(**given: Any) -> None:
    with writing() as session:
        route = session.exec(select(Route)).one()
        set_policy(session, route, "ann", **given)


def steps(row: Reoptimization) -> list[str]:
    with reading() as session:
        of_row = select(AuditEntry).where(AuditEntry.subject == f"reoptimization:{row.id}")
        return [one.action.split(".")[1] for one in session.exec(of_row.order_by(col(AuditEntry.id)))]


def route_now() -> tuple[str, str | None, float]:
    with reading() as session:
        route = session.exec(select(Route)).one()
        names = {one.id: one.name for one in session.exec(select(Variant))}
        return names[route.production_variant_id], names.get(route.canary_variant_id), route.canary_share


def look(row: Reoptimization) -> str:
    """One run of the job that advances the repair."""
    with writing() as session:
        job = session.exec(select(Job).where(Job.kind == "reoptimization.advance", Job.state == "queued")).one()
        job.due_at = 0
        session.add(job)
    run_job(job.id)
    return now(row).state


def work_until(row: Reoptimization, state: str, work_off: Any) -> None:
    for _ in range(30):
        if now(row).state == state:
            return
        work_off(["variant.build", "replay.run", "comparison.make"], early=True)
        look(row)
    raise AssertionError(f"it is {now(row).state}, not {state}: {now(row).reason}")


def variant(name: str) -> Variant:
    with reading() as session:
        return session.exec(select(Variant).where(Variant.name == name)).one()
