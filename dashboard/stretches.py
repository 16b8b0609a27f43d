"""Where in time a list of calls looks first: where Rollups say that a variant's or a status's lie, else the last days.

The start of a call says from which key on it lies, so PostgreSQL leaves out the partitions of days before.
"""

from collections.abc import Iterator
from typing import Any

from sqlalchemy import ColumnElement, true
from sqlmodel import Session, col, func, select

from driftline.moment import DAY, HOUR, now_us
from driftline.store.days import first_key_since
from driftline.store.generations import began_since
from driftline.store.tables import Generation, Rollup

LONGEST_SPAN = HOUR  # what one Rollup may stand for
FEW_DAYS = (2, 30)
AMOUNTS: dict[str | None, Any] = {
    None: Rollup.n,
    "ok": Rollup.n - Rollup.errors - Rollup.aborted,
    "error": Rollup.errors,
    "aborted": Rollup.aborted,
}


def stretches(
    session: Session, project_id: int, wanted: int, *,
    variant_id: int | None = None, status: str | None = None, before: int | None = None,
) -> Iterator[ColumnElement[bool]]:  # fmt: skip
    """Conditions on when calls started, newest first, that leave out only times without such calls.

    Each holds about `wanted` calls, or fewer where hours without any follow; those that were forgotten since are still
    counted. So the cost hangs neither on how long ago the calls were nor on what a database guesses of them.

    Args:
        before: The latest start that is asked for, microseconds.
    """
    amount = AMOUNTS[status]
    query: Any = select(Rollup.minute, func.sum(amount)).where(Rollup.project_id == project_id, amount > 0)
    if variant_id is not None:
        query = query.where(Rollup.variant_id == variant_id)
    query = query.group_by(Rollup.minute).order_by(col(Rollup.minute).desc())
    query = query.limit(wanted)  # each holds at least one
    low = high = None
    held = 0
    while True:
        found = session.exec(query if before is None else query.where(col(Rollup.minute) <= before)).all()
        for minute, calls in found:
            if high is None or low is None:
                high = minute + LONGEST_SPAN
            elif held >= wanted:
                yield _between(session, low, high)
                held, high = 0, min(low, minute + LONGEST_SPAN)
            elif low - minute > LONGEST_SPAN:
                yield _between(session, low, high)
                held, high = 0, minute + LONGEST_SPAN
            held += calls
            low = minute
        if len(found) < wanted:
            break
        before = found[-1][0] - 1
    if low is not None and high is not None:
        yield _between(session, low, high)


def last_days(session: Session, before: int | None = None) -> Iterator[ColumnElement[bool]]:
    """Conditions on when calls started, newest first, that leave out none: few last days, more, and all others.

    A page that is full after the first looks into no other partitions. Where there are none it is one condition.

    Args:
        before: The latest start that is asked for, microseconds.
    """
    newest = now_us() if before is None else min(before, now_us())
    high = None
    for days in FEW_DAYS:
        low = newest - days * DAY
        if not first_key_since(session.connection(), low):
            break
        yield began_since(session.connection(), low) if high is None else _between(session, low, high)
        high = low
    yield true() if high is None else col(Generation.started_at) < high


def _between(session: Session, low: int, high: int) -> ColumnElement[bool]:
    return began_since(session.connection(), low) & (col(Generation.started_at) < high)
