"""Monitors: what is watched, against which reference, and what each saw."""

from dataclasses import replace

from fastapi import APIRouter
from markupsafe import Markup
from sqlmodel import Session, col, func, select
from starlette.requests import Request
from starlette.responses import Response

from dashboard.acts import find_row
from dashboard.figures.canvas import Drawn
from dashboard.figures.drift import evidence_figure, signal_figure
from dashboard.lookups import variant_names
from dashboard.pages.failing import PageRoute
from dashboard.views import Viewer, live, page, renewed
from driftline.acts.monitors import SEASONS, defaults_of
from driftline.acts.moved import FDR, moved
from driftline.acts.signals import SIGNALS
from driftline.acts.trials import newest_trial
from driftline.store.engine import reading
from driftline.store.projects import Caller
from driftline.store.tables import AuditEntry, DriftEvent, Monitor, Project, Reading, Reference

router = APIRouter(route_class=PageRoute)
BLOCKS = 400
LATELY = 200


@router.get("/monitors")
def monitors(request: Request, caller: Viewer) -> Response:
    """All monitors with their newest reading."""
    newest = select(func.max(Reading.id)).group_by(col(Reading.monitor_id))
    with reading() as session:
        rows = session.exec(
            select(Monitor).where(Monitor.project_id == caller.project_id).order_by(Monitor.name).limit(500)
        ).all()
        ids = [row.id for row in rows]
        last = {
            one.monitor_id: one
            for one in session.exec(
                select(Reading).where(col(Reading.id).in_(newest.where(col(Reading.monitor_id).in_(ids))))
            )
        }
        events = dict(
            session.exec(
                select(DriftEvent.monitor_id, func.max(DriftEvent.id))
                .where(DriftEvent.project_id == caller.project_id, DriftEvent.state == "open")
                .group_by(col(DriftEvent.monitor_id))
            ).all()
        )
        names = variant_names(session, (row.variant_id for row in rows))
        project = session.get_one(Project, caller.project_id)
    e_values = {key: float(one.evidence["log_e"]) for key, one in last.items() if "log_e" in one.evidence}
    return page(
        request, caller, "monitors.html", rows=rows, last=last, events=events, names=names, project=project,
        weight=sum(row.weight for row in rows if row.status != "paused") or 1.0, moved=moved(e_values), fdr=FDR,
        compared=len(e_values), signals=SIGNALS,
    )  # fmt: skip


@router.get("/monitors/{row_id}")
def monitor(request: Request, caller: Viewer, row_id: int) -> Response:
    """One monitor."""
    with reading() as session:
        row, part = _watched(session, caller, row_id)
        references = session.exec(
            select(Reference).where(Reference.monitor_id == row.id).order_by(col(Reference.id).desc()).limit(10)
        ).all()
        events = session.exec(
            select(DriftEvent).where(DriftEvent.monitor_id == row.id).order_by(col(DriftEvent.id).desc()).limit(20)
        ).all()
        history = session.exec(
            select(AuditEntry)
            .where(AuditEntry.project_id == caller.project_id, AuditEntry.subject == f"monitor:{row.id}")
            .order_by(col(AuditEntry.id).desc())
            .limit(20)
        ).all()
        variant = variant_names(session, [row.variant_id]).get(row.variant_id or 0)
        trial = newest_trial(session, caller.project_id, "monitor.backtest", f"monitor:{row.id}")
    return page(
        request, caller, "monitor.html", monitor=row, part=part, references=references, events=events,
        history=history, variant=variant, trial=trial, params={**defaults_of(row), **row.params}, seasons=SEASONS,
        signal=SIGNALS[row.signal],
    )  # fmt: skip


@router.get("/parts/monitors/{row_id}")
def monitor_part(request: Request, caller: Viewer, row_id: int) -> Response:
    """Its newest readings."""
    with reading() as session:
        return renewed(request, _watched(session, caller, row_id)[1])


def _watched(session: Session, caller: Caller, row_id: int) -> tuple[Monitor, Markup]:
    row: Monitor = find_row(session, Monitor, row_id, caller.project_id, "monitor")
    readings, reference, event = _newest(session, row, BLOCKS)
    figures = [signal_figure(row, readings, reference, event), evidence_figure(readings, event)] if readings else []
    return row, live(
        f"/parts/monitors/{row.id}", 10, "parts/monitor.html", caller, monitor=row, reference=reference,
        readings=readings, figures=figures, event=event,
    )  # fmt: skip


def newest_signal(session: Session, row: Monitor) -> Drawn | None:
    """A small figure of what a monitor saw lately; None before its first block."""
    readings, reference, event = _newest(session, row, LATELY)
    if not readings:
        return None
    figure = signal_figure(row, readings, reference, event, height=230)
    return replace(figure, title=f"Route {row.route}, by {row.source or row.signal}")


def _newest(session: Session, row: Monitor, count: int) -> tuple[list[Reading], Reference | None, DriftEvent | None]:
    """The newest readings, oldest first, the reference they are judged against, and the open event."""
    newest = session.exec(
        select(Reading).where(Reading.monitor_id == row.id).order_by(col(Reading.block_start).desc()).limit(count)
    ).all()
    standing = select(Reference).where(Reference.monitor_id == row.id, col(Reference.replaced_at).is_(None))
    reference = session.exec(standing.order_by(col(Reference.id).desc())).first()
    event = session.exec(
        select(DriftEvent)
        .where(DriftEvent.monitor_id == row.id, DriftEvent.state == "open")
        .order_by(col(DriftEvent.id).desc())
    ).first()
    return list(reversed(newest)), reference, event
