"""Overview: every variant's quality, speed, cost and traffic at a glance; what drifts, what waits, what runs."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from fastapi import APIRouter
from markupsafe import Markup
from sqlmodel import Session, col, func, select
from starlette.requests import Request
from starlette.responses import Response

from dashboard.figures.canvas import Drawn
from dashboard.figures.traffic import latency_figure, volume_figure
from dashboard.lookups import Judged, newest_verdicts, quality_source, roles, variant_names
from dashboard.measures import Traffic, captured, together, traffic
from dashboard.pages.attention import attention
from dashboard.pages.failing import PageRoute
from dashboard.pages.monitors import newest_signal
from dashboard.pages.running import running
from dashboard.quality import means, newest_scores
from dashboard.views import Viewer, live, page, renewed
from dashboard.windows import CHOICES, Window, choose
from driftline.store.engine import reading
from driftline.store.projects import Caller
from driftline.store.tables import Monitor, Reading, Variant

router = APIRouter(route_class=PageRoute)
SHOWN = 30
QUALITY_CHARTS = 3


@dataclass(frozen=True, slots=True)
class Line:
    """One variant in the table."""

    variant: Variant
    parent: str | None
    roles: list[str]
    verdicts: list[Judged]
    golden_mean: tuple[str, float] | None
    quality: tuple[float, int] | None
    traffic: Traffic | None
    counts: list[float]


@router.get("/")
def overview(request: Request, caller: Viewer, window: str | None = None) -> Response:
    """The first page."""
    with reading() as session:
        chosen = choose(session, caller.project_id, window)
        series = traffic(session, caller.project_id, chosen.since, chosen.until, chosen.step)
        parts = {
            "attention": _attention(session, caller),
            "running": _running(session, caller),
            "variants": _variants(session, caller, chosen, series),
        }
        watching = _watching(session, caller.project_id)
        names = variant_names(session, {point.variant_id for point in series})
        quality = _quality(session, caller.project_id)
    figures = [volume_figure(series, names, chosen), latency_figure(series, names, chosen)] if series else []
    return page(
        request, caller, "overview.html", parts=parts, figures=figures, quality=quality, window=chosen, windows=CHOICES,
        watching=watching,
    )  # fmt: skip


@router.get("/parts/overview/attention")
def attention_part(request: Request, caller: Viewer) -> Response:
    """What drifts, fires or waits for a decision."""
    with reading() as session:
        return renewed(request, _attention(session, caller))


@router.get("/parts/overview/running")
def running_part(request: Request, caller: Viewer) -> Response:
    """Jobs at work and processes."""
    with reading() as session:
        return renewed(request, _running(session, caller))


@router.get("/parts/overview/variants")
def variants_part(request: Request, caller: Viewer, window: str | None = None) -> Response:
    """The table of variants."""
    with reading() as session:
        chosen = choose(session, caller.project_id, window)
        series = traffic(session, caller.project_id, chosen.since, chosen.until, chosen.step)
        return renewed(request, _variants(session, caller, chosen, series))


def _attention(session: Session, caller: Caller) -> Markup:
    return live("/parts/overview/attention", 3, "parts/attention.html", caller, **attention(session, caller.project_id))


def _running(session: Session, caller: Caller) -> Markup:
    return live("/parts/overview/running", 2, "parts/running.html", caller, **running(session, caller.project_id))


def _variants(session: Session, caller: Caller, window: Window, series: Sequence[Traffic]) -> Markup:
    evaluator = quality_source(session, caller.project_id)
    lines = _lines(session, caller.project_id, window, series, evaluator)
    ends = [max(abs(c.low), abs(c.high), c.margin) for line in lines for c in (v.comparison for v in line.verdicts[:1])]
    return live(
        f"/parts/overview/variants?window={window.name}", 10, "parts/variants.html", caller,
        lines=lines, reach=1.15 * max(ends, default=1.0) or 1.0, window=window, evaluator=evaluator,
        captured=captured(session, caller.project_id),
    )  # fmt: skip


def _lines(
    session: Session, project_id: int, window: Window, series: Sequence[Traffic], evaluator: str | None
) -> list[Line]:
    totals = together(series, with_ttft=False)
    used = roles(session, project_id)
    query = select(Variant).where(Variant.project_id == project_id)
    known = {row.id: row for row in session.exec(query.where(Variant.state != "retired").limit(500))}
    unlisted = set(totals) - set(known)
    known |= {row.id: row for row in session.exec(query.where(col(Variant.id).in_(unlisted)))} if unlisted else {}
    ordered = sorted(known.values(), key=lambda v: _rank(v, used.get(v.id, []), totals.get(v.id)))[:SHOWN]
    ids = [variant.id for variant in ordered]
    verdicts = newest_verdicts(session, project_id, ids)
    quality = means(newest_scores(session, project_id, evaluator)) if evaluator else {}
    counts = _counts(series, window)
    golden_means = {
        one.baseline: (one.comparison.evaluator, one.comparison.baseline_mean)
        for judged in verdicts.values()
        for one in judged[:1]
    }
    parents = variant_names(session, (variant.parent_id for variant in ordered))
    return [
        Line(
            variant=variant, parent=parents.get(variant.parent_id or 0), roles=used.get(variant.id, []),
            verdicts=verdicts.get(variant.id, []), golden_mean=golden_means.get(variant.name),
            quality=quality.get(variant.id), traffic=totals.get(variant.id), counts=counts.get(variant.id, []),
        )
        for variant in ordered
    ]  # fmt: skip


def _rank(variant: Variant, used: Sequence[str], seen: Traffic | None) -> tuple[int, int, int]:
    order = ("production", "canary", "shadow", "candidate", "retired")
    at = order.index(variant.state) if variant.state in order else len(order)
    return (0 if used else 1, at, -(seen.n if seen else 0))


def _counts(series: Sequence[Traffic], window: Window) -> dict[int, list[float]]:
    if not series:
        return {}
    start = min(point.at for point in series)
    length = (window.until - start) // window.step + 1
    found: dict[int, list[float]] = defaultdict(lambda: [0.0] * length)
    for point in series:
        found[point.variant_id][(point.at - start) // window.step] += point.n
    return dict(found)


def _quality(session: Session, project_id: int) -> list[Drawn]:
    """The watched quality of each route, block by block, newest routes' monitors last."""
    query = select(Monitor).where(Monitor.project_id == project_id, Monitor.signal == "quality")
    monitors = session.exec(query.order_by(col(Monitor.id)).limit(QUALITY_CHARTS)).all()
    return [drawn for monitor in monitors if (drawn := newest_signal(session, monitor)) is not None]


def _watching(session: Session, project_id: int) -> dict[str, object]:
    """How many monitors there are by state, and when one last judged."""
    states = dict(
        session.exec(
            select(Monitor.status, func.count(col(Monitor.id)))
            .where(Monitor.project_id == project_id)
            .group_by(Monitor.status)
        ).all()
    )
    newest = session.exec(
        select(Reading.block_end)
        .join(Monitor, col(Monitor.id) == Reading.monitor_id)
        .where(Monitor.project_id == project_id)
        .order_by(col(Reading.id).desc())
        .limit(1)
    ).first()
    return {"states": states, "total": sum(states.values()), "newest": newest}
