"""Where in time the calls of a variant or of a status lie, from Rollups: a list of them reads nothing else."""

from collections.abc import Iterator
from typing import Any

from sqlalchemy import ColumnElement, and_
from sqlmodel import Session, col, func, select

from driftline.moment import HOUR
from driftline.store.tables import Generation, Rollup

LONGEST_SPAN = HOUR  # what one Rollup may stand for
AT_ONCE = 1000  # minutes that are looked up in one query
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
    query = query.group_by(Rollup.minute).order_by(col(Rollup.minute).desc()).limit(AT_ONCE)
    low = high = None
    held = 0
    while True:
        found = session.exec(query if before is None else query.where(col(Rollup.minute) <= before)).all()
        for minute, calls in found:
            if high is None or low is None:
                high = minute + LONGEST_SPAN
            elif held >= wanted:
                yield _between(low, high)
                held, high = 0, min(low, minute + LONGEST_SPAN)
            elif low - minute > LONGEST_SPAN:
                yield _between(low, high)
                held, high = 0, minute + LONGEST_SPAN
            held += calls
            low = minute
        if len(found) < AT_ONCE:
            break
        before = found[-1][0] - 1
    if low is not None and high is not None:
        yield _between(low, high)


def _between(low: int, high: int) -> ColumnElement[bool]:
    return and_(col(Generation.started_at) >= low, col(Generation.started_at) < high)
