"""One drift event: what, since when, how much, who moved, and on what evidence."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from fastapi import APIRouter
from sqlmodel import Session, col, select
from starlette.requests import Request
from starlette.responses import Response

from dashboard.acts import find_row
from dashboard.figures.drift import evidence_figure, signal_figure
from dashboard.lookups import variant_names
from dashboard.pages.failing import PageRoute
from dashboard.views import Viewer, page
from driftline.acts.trials import newest_trial
from driftline.errors import NotFound
from driftline.store import artifacts
from driftline.store.engine import reading
from driftline.store.tables import Alert, DriftEvent, Monitor, Reading, Reference, Reoptimization

router = APIRouter(route_class=PageRoute)
BEFORE, AFTER = 400, 80  # blocks shown around the detection
REPORT_POLICY = (  # the report is somebody else's page: it may run its own scripts and reach nothing, not even us
    "sandbox allow-scripts allow-popups; default-src 'none'; script-src 'unsafe-inline' 'unsafe-eval'; "
    "style-src 'unsafe-inline'; img-src data: blob:; font-src data:; worker-src blob:; frame-ancestors 'self'"
)


@dataclass(frozen=True, slots=True)
class Column:
    """One column of the two windows: whether it moved by our calibrated test, whether by Evidently's default."""

    name: str
    ours: bool | None
    effect: float | None
    p_value: float | None
    theirs: bool | None
    test: str | None
    score: float | None

    @property
    def notable(self) -> bool:
        """Whether either says that it moved."""
        return bool(self.ours or self.theirs)


@router.get("/drift-events")
def drift_events(request: Request, caller: Viewer) -> Response:
    """The newest drift events."""
    with reading() as session:
        rows = session.exec(
            select(DriftEvent, Monitor)
            .join(Monitor, col(Monitor.id) == DriftEvent.monitor_id)
            .where(DriftEvent.project_id == caller.project_id)
            .order_by(col(DriftEvent.id).desc())
            .limit(100)
        ).all()
        names = variant_names(session, (event.variant_id for event, _ in rows))
        watched = session.exec(select(Monitor.id).where(Monitor.project_id == caller.project_id).limit(1)).first()
    return page(request, caller, "drift_events.html", rows=rows, names=names, watched=watched is not None)


@router.get("/drift-events/{row_id}")
def drift_event(request: Request, caller: Viewer, row_id: int) -> Response:
    """The page of one drift event."""
    with reading() as session:
        event: DriftEvent = find_row(session, DriftEvent, row_id, caller.project_id, "drift event")
        monitor = session.get_one(Monitor, event.monitor_id)
        detected = session.get_one(Reading, event.reading_id)
        reference = session.get(Reference, detected.reference_id)
        readings = _around(session, detected)
        alerts = session.exec(select(Alert).where(Alert.drift_event_id == event.id).order_by(col(Alert.id))).all()
        repair = session.exec(
            select(Reoptimization)
            .where(Reoptimization.drift_event_id == event.id)
            .order_by(col(Reoptimization.id).desc())
        ).first()
        names = variant_names(session, [event.variant_id])
        again = newest_trial(session, caller.project_id, "reading.recompute", f"reading:{detected.id}")
    return page(
        request, caller, "drift_event.html", again=again, event=event, monitor=monitor, detected=detected,
        reference=reference, alerts=alerts, repair=repair, columns=columns_of(event.evidence),
        variant=names.get(event.variant_id or 0),
        figures=[
            signal_figure(monitor, readings, reference, event),
            evidence_figure(readings, event),
        ],
    )  # fmt: skip


@router.get("/drift-events/{row_id}/report")
def report(caller: Viewer, row_id: int) -> Response:
    """The stored Evidently report, shut off from everything around it."""
    with reading() as session:
        event: DriftEvent = find_row(session, DriftEvent, row_id, caller.project_id, "drift event")
        if event.report_sha256 is None:
            raise NotFound("report of drift event", row_id)
        kept, content = artifacts.content(session, caller.project_id, event.report_sha256)
    return Response(
        content, media_type="text/html",
        headers={
            "Content-Security-Policy": REPORT_POLICY, "X-Frame-Options": "SAMEORIGIN", "ETag": f'"{kept.sha256}"',
            "Cache-Control": "private, max-age=86400", "Cross-Origin-Opener-Policy": "unsafe-none",
        },
    )  # fmt: skip


def columns_of(evidence: Mapping[str, Any]) -> list[Column]:
    """What our tests and Evidently's defaults say of each column, those that moved first.

    >>> columns_of({"evidently": {"latency_ms": {"test": "K-S p_value", "score": 0.01, "drift": True}}})[0].theirs
    True
    """
    ours, theirs = evidence.get("columns") or {}, evidence.get("evidently") or {}
    found = []
    for name in {**theirs, **ours}:
        our, their = ours.get(name) or {}, theirs.get(name) or {}
        found.append(
            Column(
                name=name, ours=our.get("moved"), effect=our.get("effect"), p_value=our.get("p_value"),
                theirs=their.get("drift", their.get("drifted")), test=their.get("test", their.get("method")),
                score=their.get("score"),
            )
        )  # fmt: skip
    return sorted(found, key=lambda one: (not one.ours, not one.theirs, one.name))


def _around(session: Session, detected: Reading) -> list[Reading]:
    """Readings of the same reference around the one that alarmed, oldest first."""
    of_monitor = select(Reading).where(
        Reading.monitor_id == detected.monitor_id, Reading.reference_id == detected.reference_id
    )
    before = session.exec(
        of_monitor.where(col(Reading.block_start) <= detected.block_start)
        .order_by(col(Reading.block_start).desc())
        .limit(BEFORE)
    ).all()
    after = session.exec(
        of_monitor.where(col(Reading.block_start) > detected.block_start)
        .order_by(col(Reading.block_start))
        .limit(AFTER)
    ).all()
    return [*reversed(before), *after]
