"""The days of calls on PostgreSQL: the table `generation` is parted by the day of arrival.

A call's key holds the day: when one begins, the sequence jumps to the day's number, counted from 1970 by the server's
clock, times 2^36. So keys stay one growing number below 2^53, of which each partition holds a day's, or those of
several small days. Calls that came before days were counted lie in the partition `generation_before`. SQLite has one
table and counts from one.
"""

import re
import time
from dataclasses import dataclass
from datetime import UTC, datetime

from sqlalchemy import Connection, text

from driftline.moment import DAY, SECOND

DAY_BITS = 36  # keys of one day: more than a day can bring
BEFORE = "generation_before"
PAST = "generation_before_past"  # on its way out
KNOWN_S = 60.0  # how long a process goes by the partitions it knows
SEQUENCE = "generation_seq_seq"

_NAME = re.compile(rf"{BEFORE}|{PAST}|generation_\d{{8}}")
_BOUNDS = re.compile(r"FROM \((?:MINVALUE|'?(\d+)'?)\) TO \('?(\d+)'?\)")
_PARTS = text(
    "SELECT part.relname, pg_get_expr(part.relpartbound, part.oid) FROM pg_inherits AS link "
    "JOIN pg_class AS part ON part.oid = link.inhrelid "
    "WHERE link.inhparent = 'generation'::regclass AND NOT link.inhdetachpending"
)


@dataclass(frozen=True, slots=True, order=True)
class Part:
    """A partition: it holds the keys from `first` to before `end`."""

    first: int
    end: int
    name: str


def key_of(day: int) -> int:
    """The first key of a day; days are counted from 1970, UTC.

    >>> key_of(20_000)
    1374389534720000
    """
    return day << DAY_BITS


def name_of(day: int) -> str:
    """The name of the partition that begins with a day.

    >>> name_of(20_000)
    'generation_20241004'
    """
    return f"generation_{datetime.fromtimestamp(day * DAY // SECOND, UTC):%Y%m%d}"


def is_part(table: str) -> bool:
    """Whether a table is a partition, which the code declares nowhere.

    >>> is_part("generation_20241004"), is_part("generation_key")
    (True, False)
    """
    return _NAME.fullmatch(table) is not None


def parts(connection: Connection) -> list[Part]:
    """The partitions, oldest first."""
    found = []
    for name, bound in connection.execute(_PARTS):
        limits = _BOUNDS.search(bound)
        assert limits is not None, bound
        found.append(Part(int(limits[1] or 0), int(limits[2]), name))
    return sorted(found)


def last_key(connection: Connection) -> int:
    """The largest key that was given, or the one that is given next: later ones are never smaller."""
    return int(connection.execute(text(f"SELECT last_value FROM {SEQUENCE}")).scalar_one())  # noqa: S608 - our own name


def first_key_since(connection: Connection, moment: int) -> int:
    """A key that no call which began at or after a moment (microseconds) lies below; 0 where nothing is known of it.

    Calls come after they begin, but for a day by which a sender's clock may be ahead, and one more for the server's.
    """
    if connection.dialect.name != "postgresql":
        return 0
    latest = key_of(max(moment // DAY - 2, 0))
    return max((part.first for part in _known(connection) if part.first <= latest), default=0)


_seen: dict[str, tuple[float, list[Part]]] = {}


def _known(connection: Connection) -> list[Part]:
    # A partition that is not known yet, or is gone, makes a first key smaller than it need be, never larger than it is.
    url = str(connection.engine.url)
    at, found = _seen.get(url, (0.0, []))
    if not found or time.monotonic() - at > KNOWN_S:
        found = parts(connection)
        _seen[url] = (time.monotonic(), found)
    return found
