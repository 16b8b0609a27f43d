"""Variants: where each comes from, what was measured, how it does on golden sets and in production."""

from collections.abc import Sequence
from typing import Any

from fastapi import APIRouter
from sqlmodel import Session, col, or_, select
from starlette.requests import Request
from starlette.responses import Response

from dashboard.capture import captures
from dashboard.figures.canvas import Drawn
from dashboard.figures.frontier import frontier_figure
from dashboard.figures.traffic import latency_figure, quality_figure, volume_figure
from dashboard.lookups import (
    golden_names,
    judged,
    named_variant,
    newest_verdicts,
    quality_source,
    replay_means,
    roles,
    variant_names,
)
from dashboard.measures import together, traffic
from dashboard.pages.failing import PageRoute
from dashboard.quality import newest_scores, over_time
from dashboard.views import Viewer, page
from dashboard.windows import CHOICES, Window, choose
from driftline.acts.frontier import standings
from driftline.store.engine import reading
from driftline.store.tables import (
    AuditEntry,
    Comparison,
    DriftEvent,
    GoldenSet,
    Monitor,
    Replay,
    Route,
    Variant,
)

router = APIRouter(route_class=PageRoute)
MOST_ANCESTORS = 20


@router.get("/variants")
def variants(request: Request, caller: Viewer) -> Response:
    """All variants."""
    with reading() as session:
        rows = session.exec(
            select(Variant).where(Variant.project_id == caller.project_id).order_by(col(Variant.id).desc()).limit(500)
        ).all()
        ids = [row.id for row in rows]
        context = {
            "verdicts": newest_verdicts(session, caller.project_id, ids),
            "parents": variant_names(session, (row.parent_id for row in rows)),
            "roles": roles(session, caller.project_id),
            "frontier": frontier_figure(standings(session, caller.project_id)),
        }
    return page(request, caller, "variants.html", rows=rows, **context)


@router.get("/variants/{name:path}")
def variant(request: Request, caller: Viewer, name: str, window: str | None = None) -> Response:
    """One variant."""
    with reading() as session:
        row = named_variant(session, caller.project_id, name)
        context = _made(session, row) | _tested(session, row) | _serves(session, row, window)
    return page(request, caller, "variant.html", variant=row, windows=CHOICES, **context)


def _made(session: Session, row: Variant) -> dict[str, Any]:
    """Where it comes from, what came from it, who did what to it."""
    history = select(AuditEntry).where(
        AuditEntry.project_id == row.project_id, AuditEntry.subject == f"variant:{row.id}"
    )
    return {
        "lineage": _lineage(session, row),
        "children": session.exec(select(Variant).where(Variant.parent_id == row.id).limit(20)).all(),
        "history": session.exec(history.order_by(col(AuditEntry.id).desc()).limit(20)).all(),
    }


def _tested(session: Session, row: Variant) -> dict[str, Any]:
    """Its replays and comparisons, and what a new replay can be asked on."""
    of_variant = select(Replay.id).where(Replay.variant_id == row.id)
    touching = or_(
        col(Comparison.candidate_replay_id).in_(of_variant), col(Comparison.baseline_replay_id).in_(of_variant)
    )
    replays = session.exec(
        select(Replay).where(Replay.variant_id == row.id).order_by(col(Replay.id).desc()).limit(20)
    ).all()
    comparisons = session.exec(select(Comparison).where(touching).order_by(col(Comparison.id).desc()).limit(30)).all()
    goldens = select(GoldenSet.name).where(GoldenSet.project_id == row.project_id).order_by(GoldenSet.name)
    return {
        "replays": replays,
        "goldens": golden_names(session, (replay.golden_version_id for replay in replays)),
        "means": replay_means(session, (replay.id for replay in replays)),
        "comparisons": judged(session, comparisons),
        "golden_choices": session.exec(goldens.limit(200)).all(),
    }


def _serves(session: Session, row: Variant, asked: str | None) -> dict[str, Any]:
    """Its traffic, the routes it may serve, and who watches it there."""
    window = choose(session, row.project_id, asked)
    series = traffic(session, row.project_id, window.since, window.until, window.step, variant_id=row.id)
    names = {row.id: row.name}
    routes = session.exec(select(Route).where(Route.project_id == row.project_id).order_by(Route.name)).all()
    events = select(DriftEvent).where(DriftEvent.variant_id == row.id).order_by(col(DriftEvent.id).desc())
    return {
        "window": window,
        "total": together(series, with_ttft=False).get(row.id),
        "figures": [volume_figure(series, names, window), latency_figure(series, names, window)] if series else [],
        "quality": _quality(session, row, window),
        "capture": captures(session, row.project_id, row.name).get(row.name),
        "roles": roles(session, row.project_id).get(row.id, []),
        "routes": routes,
        "baseline": _baseline(session, routes, row),
        "monitors": _monitors(session, row),
        "events": session.exec(events.limit(10)).all(),
    }


def _quality(session: Session, row: Variant, window: Window) -> Drawn | None:
    """The variant's scores over time, of those that the overview looks at; None where there are none."""
    evaluator = quality_source(session, row.project_id)
    if evaluator is None:
        return None
    newest = newest_scores(session, row.project_id, evaluator)
    mine = [one for one in newest if one.variant_id == row.id and window.since <= one.at < window.until]
    return quality_figure(over_time(mine, window.step), evaluator, window) if mine else None


def _lineage(session: Session, row: Variant) -> list[Variant]:
    """The variant and what it was made from, oldest first."""
    chain = [row]
    while chain[-1].parent_id is not None and len(chain) < MOST_ANCESTORS:
        parent = session.get(Variant, chain[-1].parent_id)
        if parent is None or parent.project_id != row.project_id:
            break
        chain.append(parent)
    return chain[::-1]


def _monitors(session: Session, row: Variant) -> list[Monitor]:
    """Monitors of this variant alone and of the routes that it serves."""
    served = select(Route.name).where(
        Route.project_id == row.project_id,
        or_(col(Route.production_variant_id) == row.id, col(Route.canary_variant_id) == row.id),
    )
    touching = or_(
        col(Monitor.variant_id) == row.id,
        col(Monitor.variant_id).is_(None) & col(Monitor.route).in_(served),
    )
    query = select(Monitor).where(Monitor.project_id == row.project_id, touching)
    return list(session.exec(query.order_by(Monitor.name).limit(50)))


def _baseline(session: Session, routes: Sequence[Route], row: Variant) -> str | None:
    """Whom a replay started here is compared with: a route's baseline, else the parent."""
    keys = [*(route.baseline_variant_id for route in routes if route.baseline_variant_id != row.id), row.parent_id]
    first = next((key for key in keys if key is not None), None)
    return variant_names(session, [first]).get(first or 0)
