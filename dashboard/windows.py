"""Spans of time that pages and series look at, and how finely."""

from dataclasses import dataclass
from typing import Any

from sqlmodel import Session, func, select

from driftline.moment import DAY, HOUR, MINUTE, now_us
from driftline.store.tables import Rollup

CHOICES = {
    "1h": (HOUR, MINUTE),
    "6h": (6 * HOUR, 5 * MINUTE),
    "24h": (DAY, 15 * MINUTE),
    "7d": (7 * DAY, 2 * HOUR),
    "30d": (30 * DAY, 8 * HOUR),
}


@dataclass(frozen=True, slots=True)
class Window:
    """From `since` (inclusive) to `until` (exclusive), in steps; microseconds. `words` says it to people."""

    name: str
    since: int
    until: int
    step: int

    @property
    def words(self) -> str:
        """For example "the last 6 hours"."""
        number, unit = self.name[:-1], {"h": "hour", "d": "day"}[self.name[-1]]
        return f"the last {unit}" if number == "1" else f"the last {number} {unit}s"


def choose(session: Session, project_id: int, asked: str | None = None) -> Window:
    """The window that was asked for, else the shortest one that holds the project's last day of traffic.

    Where the newest traffic is older than a day, the window ends with it, so that a quiet project still shows its past.
    """
    mine = Rollup.project_id == project_id  # each its own question: as one, SQLite would read the whole index
    ends: list[Any] = [select(end(Rollup.minute)).where(mine).scalar_subquery() for end in (func.min, func.max)]
    first, last = session.connection().execute(select(*ends)).one()
    now = now_us()
    until = now + MINUTE - now % MINUTE
    if last is not None and last < until - DAY:
        until = last + MINUTE
    name = asked if asked in CHOICES else None
    if name is None:
        wanted = min(until - first, DAY) if first is not None else HOUR
        name = next(name for name, (length, _) in CHOICES.items() if length >= wanted)
    length, step = CHOICES[name]
    return Window(name, until - length, until, step)
