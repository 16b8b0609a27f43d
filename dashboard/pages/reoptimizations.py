"""Re-optimizations: a proposed repair, its candidates and their proofs, and the click that decides."""

import math
from dataclasses import dataclass
from typing import Any

from fastapi import APIRouter
from markupsafe import Markup
from sqlmodel import Session, col, select
from starlette.requests import Request
from starlette.responses import Response

from dashboard.acts import find_row
from dashboard.lookups import golden_names, variant_names
from dashboard.pages.failing import PageRoute
from dashboard.views import Viewer, live, page, renewed
from driftline.acts.reoptimizations import AT_WORK, ENDED
from driftline.acts.routes import rollout_of
from driftline.store.engine import reading
from driftline.store.projects import Caller
from driftline.store.tables import AuditEntry, DriftEvent, Job, Reoptimization, Route

router = APIRouter(route_class=PageRoute)
ROAD = ("proposed", "approved", "building", "replaying", "gated", "promoted")
DETOURS = ("ready", "shadow", "canary")  # stops before the promotion, where the plan or the route asks for them


@dataclass(frozen=True, slots=True)
class Stop:
    """A state on the road: passed, here, ahead; or not reached because the road ended before."""

    state: str
    place: str


@router.get("/reoptimizations")
def reoptimizations(request: Request, caller: Viewer) -> Response:
    """The newest re-optimizations."""
    with reading() as session:
        rows = session.exec(
            select(Reoptimization)
            .where(Reoptimization.project_id == caller.project_id)
            .order_by(col(Reoptimization.id).desc())
            .limit(100)
        ).all()
        names = variant_names(
            session, {key for row in rows for key in (row.subject_variant_id, row.candidate_variant_id)}
        )
    return page(request, caller, "reoptimizations.html", rows=rows, names=names)


@router.get("/reoptimizations/{row_id}")
def reoptimization(request: Request, caller: Viewer, row_id: int) -> Response:
    """One re-optimization; its page follows the work."""
    with reading() as session:
        row, part = _part(session, caller, row_id)
    return page(request, caller, "reoptimization.html", row=row, part=part)


@router.get("/parts/reoptimizations/{row_id}")
def part(request: Request, caller: Viewer, row_id: int) -> Response:
    """All of it that moves."""
    with reading() as session:
        return renewed(request, _part(session, caller, row_id)[1])


def _part(session: Session, caller: Caller, row_id: int) -> tuple[Reoptimization, Markup]:
    row: Reoptimization = find_row(session, Reoptimization, row_id, caller.project_id, "re-optimization")
    names = variant_names(session, [row.subject_variant_id, row.baseline_variant_id, row.candidate_variant_id])
    version_id = row.plan.get("golden_version_id")
    event = session.get(DriftEvent, row.drift_event_id) if row.drift_event_id else None
    history = session.exec(
        select(AuditEntry)
        .where(AuditEntry.project_id == caller.project_id, AuditEntry.subject == f"reoptimization:{row.id}")
        .order_by(col(AuditEntry.id))
    ).all()
    candidates = _candidates(row)
    return row, live(
        f"/parts/reoptimizations/{row.id}", 2 if row.state in AT_WORK else 5, "parts/reoptimization.html", caller,
        row=row, subject=names.get(row.subject_variant_id, ""), baseline=names.get(row.baseline_variant_id or 0),
        winner=names.get(row.candidate_variant_id or 0), event=event, history=history, candidates=candidates,
        golden=golden_names(session, [version_id]).get(version_id) if isinstance(version_id, int) else None,
        road=road(row.state, [entry.action.rpartition(".")[2] for entry in history]),
        jobs=_jobs(session, row, candidates),
        at_work=("requested", *AT_WORK), ended=ENDED, rollout=rollout_of(_route(session, row)),
        canary=_canary(row),
    )  # fmt: skip


def _candidates(row: Reoptimization) -> list[dict[str, Any]]:
    """What was planned, filled up with what was found."""
    found = {one.get("name"): one for one in row.evidence.get("candidates") or []}
    planned = [dict(one) | found.pop(one.get("name"), {}) for one in row.plan.get("candidates") or []]
    return planned + list(found.values())


def _route(session: Session, row: Reoptimization) -> Route:
    there = session.exec(select(Route).where(Route.project_id == row.project_id, Route.name == row.route)).first()
    return there or Route(project_id=row.project_id, name=row.route, updated_at=0)


def _canary(row: Reoptimization) -> list[dict[str, Any]]:
    """What the canary's tests have seen so far, side by side."""
    streams = row.evidence.get("canary", {}).get("streams", {})
    found = []
    for name, state in streams.items():
        (canary_n, production_n), totals = state["seen"], state["totals"]
        alpha, peak = state["worse"]["alpha"], state["worse"]["wealth"]["log_peak"]
        found.append(
            {
                "name": name.removeprefix("score:"),
                "canary_n": canary_n,
                "production_n": production_n,
                "canary": totals[0] / canary_n if canary_n else None,
                "production": totals[1] / production_n if production_n else None,
                "share": max(0.0, min(1.0, peak / -math.log(alpha))),
            }
        )
    return found


def _jobs(session: Session, row: Reoptimization, candidates: list[dict[str, Any]]) -> list[Job]:
    """Unfinished builds and replays that work for it."""
    subjects = [f"variant:{one['variant_id']}" for one in candidates if one.get("variant_id")]
    subjects += [f"replay:{one['replay_id']}" for one in candidates if one.get("replay_id")]
    working = select(Job).where(
        Job.project_id == row.project_id, col(Job.subject).in_(subjects), col(Job.state).in_(["queued", "running"])
    )
    return list(session.exec(working.order_by(col(Job.id)).limit(10)))


def road(state: str, history: list[str]) -> list[Stop]:
    """The way a re-optimization takes, as far as it went, with its end.

    >>> [stop.place for stop in road("building", ["proposed", "approved", "building"])]
    ['passed', 'passed', 'here', 'ahead', 'ahead', 'ahead']
    >>> [(stop.state, stop.place) for stop in road("rejected", ["proposed", "rejected"])][:2]
    [('proposed', 'passed'), ('rejected', 'here')]
    >>> [stop.state for stop in road("canary", ["proposed", "approved", "gated", "canary"])][4:]
    ['gated', 'canary', 'promoted']
    """
    detours = [one for one in DETOURS if one == state or one in history]
    first = ["requested"] if "requested" in (state, *history) else []
    way = [*first, *ROAD[:-1], *detours, ROAD[-1]]
    if state in way:
        at = way.index(state)
        return [Stop(s, "passed" if i < at else "here" if i == at else "ahead") for i, s in enumerate(way)]
    reached = max((way.index(action) for action in history if action in way), default=0)
    passed = [Stop(s, "passed") for s in way[: reached + 1]]
    return [*passed, Stop(state, "here"), *(Stop(s, "missed") for s in way[reached + 1 :])]
