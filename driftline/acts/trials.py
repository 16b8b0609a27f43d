"""Asking for what a rule would have done, and for a stored reading to be computed once more: both are jobs."""

from collections.abc import Mapping
from typing import Any

from sqlmodel import Session, col, select

from driftline.acts.monitors import draft, find_monitor
from driftline.errors import BadInput, NotFound
from driftline.queue import request
from driftline.store.tables import DriftEvent, Job, Monitor, Reading


def request_backtest(session: Session, project_id: int, told: Mapping[str, Any]) -> Job:
    """The job that backtests a stored monitor (`monitor`, its name) told otherwise, or a draft (`signal`, `route`, …).

    Its result says how often the rule would have fired, its false-alarm bound and the delay it buys.

    Raises:
        BadInput: Neither a monitor nor a signal is named, or the rule makes no sense.
        NotFound: No monitor of that name.
    """
    known: Monitor | None = None
    params = dict(told.get("params") or {})
    weight = float(1.0 if told.get("weight") is None else told["weight"])
    if told.get("monitor"):
        known = find_monitor(session, project_id, str(told["monitor"]))
        draft(
            project_id, known.name, known.signal, route=known.route, source=known.source,
            weight=weight, params={**known.params, **params},
        )  # fmt: skip
    elif told.get("signal"):
        draft(
            project_id, "draft", str(told["signal"]), route=str(told.get("route") or "default"),
            source=str(told.get("source") or ""), weight=weight, params=params,
        )  # fmt: skip
    else:
        raise BadInput("Name a stored monitor or a signal to try.")
    subject = f"monitor:{known.id}" if known is not None else "monitor:draft"
    return request(
        session, "monitor.backtest", "drift", dict(told), project_id=project_id, subject=subject, max_attempts=2
    )


def find_reading(session: Session, project_id: int, reading_id: int) -> tuple[Reading, Monitor]:
    """A reading and its monitor.

    Raises:
        NotFound: No such reading in this project.
    """
    row = session.get(Reading, reading_id)
    monitor = session.get(Monitor, row.monitor_id) if row is not None else None
    if row is None or monitor is None or monitor.project_id != project_id:
        raise NotFound("reading", reading_id)
    return row, monitor


def request_recompute(session: Session, project_id: int, reading_id: int) -> Job:
    """The job that computes a stored reading once more; its result says whether it agrees.

    Raises:
        NotFound: No such reading in this project.
    """
    row, _ = find_reading(session, project_id, reading_id)
    return request(
        session, "reading.recompute", "drift", {"reading_id": row.id}, project_id=project_id,
        subject=f"reading:{row.id}", max_attempts=2,
    )  # fmt: skip


def recompute_event(session: Session, event: DriftEvent) -> Job:
    """The same for the reading that raised an event."""
    return request_recompute(session, event.project_id, event.reading_id)


def newest_trial(session: Session, project_id: int, kind: str, subject: str) -> Job | None:
    """The newest job of a kind for a subject, done or not."""
    of_subject = select(Job).where(Job.project_id == project_id, Job.kind == kind, Job.subject == subject)
    return session.exec(of_subject.order_by(col(Job.id).desc()).limit(1)).first()
