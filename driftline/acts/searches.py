"""Asking for a search over recipes and generation settings, and cancelling a build or a search."""

from typing import Any

from sqlmodel import Session, col, select

from driftline.errors import BadInput, Conflict
from driftline.moment import now_us
from driftline.queue import request
from driftline.store.claims import claim
from driftline.store.projects import audit
from driftline.store.tables import GoldenVersion, Job, Variant

SAMPLERS = ("random", "tpe", "hyperband")
OBJECTIVES = ("quality", "latency_ms", "bytes_stored", "joules_per_answer")


def request_search(
    session: Session, parent: Variant, version: GoldenVersion, space: dict[str, Any], actor: str, *,
    trials: int = 20, sampler: str = "tpe", objectives: list[str] | None = None, scorer: str = "token_f1",
    items: int = 64, seed: int = 0,
) -> Job:  # fmt: skip
    """A job that tries `trials` children of `parent` on the version's training split, and declares the best.

    Raises:
        BadInput: An unknown sampler or objective, or no trial.
    """
    wanted = objectives or ["quality", "latency_ms"]
    unknown = [name for name in wanted if name not in OBJECTIVES]
    if unknown or len(set(wanted)) != len(wanted):
        raise BadInput(f"Objectives are some of {', '.join(OBJECTIVES)}, each once; got {', '.join(wanted)}.")
    if sampler not in SAMPLERS:
        raise BadInput(f"There is no sampler {sampler!r}. Known: {', '.join(SAMPLERS)}.")
    if sampler == "hyperband" and wanted != ["quality"]:
        raise BadInput("hyperband stops trials early by one objective: give quality alone, or take tpe.")
    if trials < 1 or items < 2:
        raise BadInput(f"A search needs at least one trial and two items; got {trials} and {items}.")
    job = request(
        session, "variant.search", "build",
        {"variant_id": parent.id, "version_id": version.id, "space": space, "trials": trials, "sampler": sampler,
         "objectives": wanted, "scorer": scorer, "items": items, "seed": seed, "actor": actor},
        project_id=parent.project_id, subject=f"variant:{parent.id}", max_attempts=3,
    )  # fmt: skip
    audit(session, parent.project_id, actor, "variant.search_requested", f"variant:{parent.id}", {"job": job.id})
    return job


def cancel_work(session: Session, variant: Variant, actor: str) -> int:
    """Cancels the variant's builds and searches that have not ended; steps that are built stay.

    Raises:
        Conflict: There is none.
    """
    waiting = select(Job).where(
        Job.subject == f"variant:{variant.id}", col(Job.kind).in_(["variant.build", "variant.search"]),
        col(Job.state).in_(["queued", "running"]),
    )  # fmt: skip
    ended = 0
    for job in session.exec(waiting).all():
        ended += claim(
            session, Job, Job.id == job.id, col(Job.state).in_(["queued", "running"]),
            state="cancelled", finished_at=now_us(), dedup_key=None, lease_until=None,
        )  # fmt: skip
    if not ended:
        raise Conflict(f"Nothing is being built of {variant.name}.")
    if variant.build_state == "building":
        variant.build_state = "declared"
        session.add(variant)
    audit(session, variant.project_id, actor, "variant.build_cancelled", f"variant:{variant.id}", {})
    return ended
