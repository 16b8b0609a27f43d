"""Values that jobs of ours measure for a monitor; the captured share is the simplest of them."""

from collections.abc import Sequence
from typing import Any

from sqlmodel import Session, col, select

from driftline.moment import MINUTE, SECOND, now_us
from driftline.settings import settings
from driftline.store.engine import reading, writing
from driftline.store.tables import Monitor, Observation
from scheduler.captured import captured_between
from scheduler.work import Work

MOST_WINDOWS = 200  # that one turn of the job makes up for


def add_run(
    session: Session, monitor: Monitor, run: int, items: Sequence[tuple[str, float | None, dict[str, Any]]],
    variant_id: int | None = None, at: int | None = None,
) -> bool:  # fmt: skip
    """Stores what one run measured, in the caller's transaction; False where that run is stored already."""
    known = select(Observation.id).where(Observation.monitor_id == monitor.id, Observation.run == run)
    if session.exec(known.limit(1)).first() is not None:
        return False
    now = at or now_us()
    session.add_all(
        Observation(
            monitor_id=monitor.id,
            run=run,
            item=item,
            variant_id=variant_id,
            value=value,
            detail=detail,
            created_at=now,
        )
        for item, value, detail in items
    )
    session.flush()
    return True


def newest(session: Session, monitor: Monitor) -> Observation | None:
    """The last value measured for the monitor."""
    of_monitor = select(Observation).where(Observation.monitor_id == monitor.id)
    return session.exec(of_monitor.order_by(col(Observation.id).desc()).limit(1)).first()


def count_captured(work: Work, monitor_id: int) -> None:
    """For a monitor of the captured share: one value per window of `every_s` that has ended, 1 - share.

    A window without any call gives none. What clients say they dropped counts in the window in which they say it.
    """
    with reading() as session:
        monitor = session.get_one(Monitor, monitor_id)
        if monitor.signal != "captured" or monitor.status == "paused":
            return
        before = newest(session, monitor)
    every = max(MINUTE, int(float(monitor.params["every_s"]) * SECOND) // MINUTE * MINUTE)  # rollups are of minutes
    ended = (now_us() - int(settings().settle_s * SECOND)) // every
    first = before.run + 1 if before is not None else ended - 1
    for window in range(max(first, ended - MOST_WINDOWS), ended):
        with writing() as session:
            work.hold(session)
            last = newest(session, monitor)
            found = captured_between(
                session, monitor.project_id, window * every, (window + 1) * every, last.detail if last else None
            )
            value = None if last is None or found["share"] is None else 1 - found["share"]
            add_run(session, monitor, window, [("", value, found)], at=(window + 1) * every)
