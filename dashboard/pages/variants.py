"""Variants: where each comes from, what was measured, how it does on golden sets and in production."""

from fastapi import APIRouter
from sqlmodel import Session, col, or_, select
from starlette.requests import Request
from starlette.responses import Response

from dashboard.figures.traffic import latency_figure, volume_figure
from dashboard.lookups import golden_names, judged, named_variant, newest_verdicts, replay_means, roles, variant_names
from dashboard.measures import together, traffic
from dashboard.pages.failing import PageRoute
from dashboard.views import Viewer, page
from dashboard.windows import CHOICES, choose
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
        }
    return page(request, caller, "variants.html", rows=rows, **context)


@router.get("/variants/{name:path}")
def variant(request: Request, caller: Viewer, name: str, window: str | None = None) -> Response:
    """One variant."""
    with reading() as session:
        row = named_variant(session, caller.project_id, name)
        chosen = choose(session, caller.project_id, window)
        series = traffic(session, caller.project_id, chosen.since, chosen.until, chosen.step, variant_id=row.id)
        replays = session.exec(
            select(Replay).where(Replay.variant_id == row.id).order_by(col(Replay.id).desc()).limit(20)
        ).all()
        of_variant = select(Replay.id).where(Replay.variant_id == row.id)
        comparisons = session.exec(
            select(Comparison)
            .where(
                or_(
                    col(Comparison.candidate_replay_id).in_(of_variant),
                    col(Comparison.baseline_replay_id).in_(of_variant),
                )
            )
            .order_by(col(Comparison.id).desc())
            .limit(30)
        ).all()
        context = {
            "lineage": _lineage(session, row),
            "children": session.exec(select(Variant).where(Variant.parent_id == row.id).limit(20)).all(),
            "roles": roles(session, caller.project_id).get(row.id, []),
            "replays": replays,
            "goldens": golden_names(session, (replay.golden_version_id for replay in replays)),
            "means": replay_means(session, (replay.id for replay in replays)),
            "comparisons": judged(session, comparisons),
            "monitors": _monitors(session, row),
            "events": session.exec(
                select(DriftEvent).where(DriftEvent.variant_id == row.id).order_by(col(DriftEvent.id).desc()).limit(10)
            ).all(),
            "history": _history(session, row),
            "golden_choices": session.exec(
                select(GoldenSet.name).where(GoldenSet.project_id == caller.project_id).order_by(GoldenSet.name)
            ).all(),
            "routes": session.exec(
                select(Route).where(Route.project_id == caller.project_id).order_by(Route.name)
            ).all(),
            "total": together(series).get(row.id),
        }
        context["baseline"] = _baseline(session, context["routes"], row)
    names = {row.id: row.name}
    figures = [volume_figure(series, names, chosen), latency_figure(series, names, chosen)] if series else []
    return page(
        request, caller, "variant.html", variant=row, window=chosen, windows=CHOICES, figures=figures, **context
    )


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


def _history(session: Session, row: Variant) -> list[AuditEntry]:
    entries = select(AuditEntry).where(
        AuditEntry.project_id == row.project_id, AuditEntry.subject == f"variant:{row.id}"
    )
    return list(session.exec(entries.order_by(col(AuditEntry.id).desc()).limit(20)))


def _baseline(session: Session, routes: object, row: Variant) -> str | None:
    """Whom a replay started here is compared with: a route's baseline, else the parent."""
    assert isinstance(routes, list)
    keys = [route.baseline_variant_id for route in routes if route.baseline_variant_id not in (None, row.id)]
    keys.append(row.parent_id)
    return next(iter(variant_names(session, keys[:1]).values()), None)
