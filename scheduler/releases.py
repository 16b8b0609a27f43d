"""Ending what has ended: the blocks of an alarmed monitor, held against the edge that its alarm had crossed."""

import math
from typing import Any

from sqlmodel import Session, col, select

from driftline.acts.alerts import ACTOR
from driftline.acts.monitors import close_event
from driftline.moment import DAY, SECOND
from driftline.store.tables import DriftEvent, Monitor, Reference
from evaluators.drift.release import Release, edges_of
from scheduler.references import frozen_lines, frozen_mean, made_of, weights_of
from scheduler.signals import Row
from scheduler.values import values_of

ERROR = 0.05  # chance that a certificate is wrong while nothing has become better
TESTED = ("esr", "exceedance")  # alarms of other detectors are ended by people
WITHIN_DAYS = 30.0  # of looking


def open_event(session: Session, monitor: Monitor) -> DriftEvent | None:
    """The open event of a monitor."""
    of_monitor = select(DriftEvent).where(DriftEvent.monitor_id == monitor.id, DriftEvent.state == "open")
    return session.exec(of_monitor.order_by(col(DriftEvent.id).desc())).first()


def look(session: Session, monitor: Monitor, reference: Reference, rows: list[Row]) -> None:
    """Judges one more block after an alarm, and closes its event, with a certificate, once the stream is well again."""
    event = open_event(session, monitor) if rows and monitor.detector in TESTED else None
    if event is None:
        return
    watch = Release.from_state(event.release) if event.release else _begin(monitor, reference)
    streams = _streams(session, monitor, reference, rows)
    judged = watch.update(streams, weights_of(rows, reference.frozen["least_rate"]))
    event.release = watch.state()
    session.add(event)
    session.flush()
    if judged.alarmed:
        items, blocks = judged.detail["items"], judged.detail["blocks"]
        certificate: dict[str, Any] = {
            "says": f"Back within the margin: {items} records in {blocks} blocks since the alarm say so; were it still "
            f"beyond, they would in at most {ERROR:.0%} of cases within {WITHIN_DAYS:.0f} days.",
            "statistic": judged.statistic, "threshold": judged.threshold, "items": items, "blocks": blocks,
            "error": ERROR, "edges": [part["m0"] for part in event.release["parts"]], "reference_id": reference.id,
        }  # fmt: skip
        close_event(session, event, ACTOR, certificate)


def log_line(block_s: float) -> float:
    """log A of a certificate that errs at most so often while blocks of this length come."""
    return math.log(WITHIN_DAYS * DAY / (block_s * SECOND) / ERROR)


def _begin(monitor: Monitor, reference: Reference) -> Release:
    line = log_line(float(monitor.params["block_s"]))
    if monitor.detector == "exceedance":
        return Release(edges=edges_of(frozen_lines(reference)), direction="rise", log_threshold=line)
    mean = frozen_mean(reference)
    return Release(edges=[mean.m0], direction=mean.direction, log_threshold=line)


def _streams(session: Session, monitor: Monitor, reference: Reference, rows: list[Row]) -> list[list[float]]:
    values = values_of(session, monitor, made_of(dict(reference.frozen)), rows)
    if monitor.detector != "exceedance":
        return [values]
    return frozen_lines(reference).exceedances(
        [ms for ms, _, _ in values], [tokens or 0 for _, tokens, _ in values], [tokens or 0 for _, _, tokens in values]
    )
