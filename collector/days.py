"""Opening a day on PostgreSQL: its partition is made first, then the keys of calls jump to it.

The order makes every crash safe. A partition without keys does no harm, and whoever comes next jumps. The jump cannot
be taken back, so it waits until the partition is committed. Whatever fails here is tried again: until then calls are
given keys of the day before. A clock that is set back makes no key smaller.

Each partition costs every question that cannot tell its days, so where days are small one partition spans several.
"""

import logging
import time
from collections.abc import Sequence

from sqlalchemy import Connection, Engine, text
from sqlalchemy.exc import DBAPIError

from collector.insert import take_turn
from driftline.errors import DriftlineError
from driftline.moment import DAY, SECOND
from driftline.store.days import SEQUENCE, Part, key_of, last_key, name_of, parts

log = logging.getLogger("collector.days")

LOOK_S = 600.0  # how often the server's clock is asked, and at its midnight
WIDTHS = ((256 * 2**20, 1), (32 * 2**20, 7), (0, 28))  # bytes a day from which on a partition spans so many days
AGAIN_S = 60.0  # after a failure
_OPENING = 0x44524650  # who makes partitions; writers go on meanwhile
_WAIT = "SET LOCAL lock_timeout = '500ms'"  # making one waits for whoever writes scores, which refer to calls


def server_us(connection: Connection) -> int:
    """The server's clock, microseconds."""
    asked = text("SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint")
    return int(connection.execute(asked).scalar_one())


class Days:
    """Sees to it that calls are given keys of the day on which they come."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._look_at = 0.0  # of time.monotonic()

    def open(self) -> None:
        """Opens the day where it has begun; call it before the transaction that stores calls.

        Costs nothing on SQLite, and on PostgreSQL until the day ends or ten minutes are over.
        """
        if self._engine.dialect.name != "postgresql" or time.monotonic() < self._look_at:
            return
        try:
            wait_s = open_day(self._engine)
        except (DBAPIError, DriftlineError) as error:
            log.warning("The day could not be opened; calls still go to the one before: %s", error)
            wait_s = AGAIN_S
        self._look_at = time.monotonic() + min(wait_s, LOOK_S)


def open_day(engine: Engine) -> float:
    """Opens the server's day and makes the partition of the next one; the seconds until that begins."""
    with engine.connect() as connection:
        now = server_us(connection)
        last = last_key(connection)
        known = parts(connection)
    day = now // DAY
    for one in (day, day + 1):
        if key_of(one) <= last:
            continue
        if not any(part.first <= key_of(one) < part.end for part in known):
            with engine.begin() as connection:
                _make(connection, one)
        if one == day:  # before the next one's turn to fail: whoever looks for a day's calls looks from its keys on
            with engine.begin() as connection:
                take_turn(connection)
                _jump(connection, key_of(day))
    return ((day + 1) * DAY - now) / SECOND


def _make(connection: Connection, day: int) -> None:
    connection.execute(text(_WAIT))
    connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _OPENING})
    known = parts(connection)
    first = key_of(day)
    if any(part.first <= first < part.end for part in known):
        return  # another process was faster
    later = [part.first for part in known if part.first > first]  # where a clock was ahead
    end = min([key_of(day + _width(connection, known, day)), *later])
    # attached rather than made as a partition: that would keep everybody out of all days for a moment
    connection.execute(text(f"CREATE TABLE {name_of(day)} (LIKE generation)"))
    bounds = f"FROM ({first}) TO ({end})"
    connection.execute(text(f"ALTER TABLE generation ATTACH PARTITION {name_of(day)} FOR VALUES {bounds}"))


def _width(connection: Connection, known: Sequence[Part], day: int) -> int:
    """How many days the partition that begins with a day spans, by what the last ones took up."""
    # not by the first, whose day had begun before it; nor by the day that is still going on
    before, until = key_of(day - 2), key_of(day - 1)
    lasted = {part.name: (min(part.end, until) - part.first) / key_of(1) for part in known[2:] if part.first <= before}
    a_day = [_bytes_of(connection, name) / days for name, days in list(lasted.items())[-2:]]
    return next(width for least, width in WIDTHS if max(a_day) >= least) if a_day else 1


def _bytes_of(connection: Connection, table: str) -> int:
    size = text("SELECT pg_total_relation_size(CAST(:name AS regclass))")
    return int(connection.execute(size, {"name": table}).scalar_one())


def _jump(connection: Connection, key: int) -> None:
    if last_key(connection) < key:  # asked in our turn: nobody jumps meanwhile
        connection.execute(text(f"SELECT setval('{SEQUENCE}', :key, false)"), {"key": key})
