"""The newest calls of one session or user on SQLite, whose indexes of names are in parts of some thousand calls each.

Each part is asked for the start of its newest such call, a search each. From there on parts are read as far as a list
needs them, so neither a name with few calls nor one with millions costs more than that.
"""

import heapq
from collections.abc import Iterator
from itertools import islice
from typing import Any, Literal

from sqlmodel import Session

from driftline.store.generations import with_keys
from driftline.store.ids import PART, PART_BITS

MOST_AT_ONCE = 4_096
LATEST = 2**62  # after every start
_PARTS = (
    f"WITH RECURSIVE part (n) AS (SELECT min(seq) >> {PART_BITS} FROM generation "  # noqa: S608 - our own words
    f"UNION ALL SELECT n + 1 FROM part WHERE n < (SELECT max(seq) >> {PART_BITS} FROM generation))"
)
Named = tuple[Literal["session_id", "user_id"], str]  # column and name


def newest_named(session: Session, project_id: int, named: Named, wanted: int, before: int | None) -> Iterator[Any]:
    """Conditions that keep calls of a session or user, newest first: about `wanted`, then more, all in the end.

    Args:
        before: The latest start that is asked for, microseconds.
    """
    keys = _keys(session, project_id, named, wanted, LATEST if before is None else min(before, LATEST))
    while batch := list(islice(keys, wanted)):
        yield with_keys(session.connection(), batch)
        wanted = min(4 * wanted, MOST_AT_ONCE)


def _keys(session: Session, project_id: int, named: Named, chunk: int, before: int) -> Iterator[int]:
    column, name = named
    driver: Any = session.connection().connection.driver_connection
    of_name = f"FROM generation WHERE {PART} = {{}} AND project_id = ? AND {column} = ?"
    heads = f"{_PARTS} SELECT n, (SELECT max(started_at) {of_name.format('n')} AND started_at <= ?) AS head FROM part"  # noqa: S608 - our own words
    newest = "(started_at, seq) < (?, ?) ORDER BY started_at DESC, seq DESC LIMIT ?"
    following = f"SELECT started_at, seq {of_name.format('?')} AND {newest}"
    # What comes next: calls (rank 1), and places from which on a part was not read yet (rank 0).
    heap = [
        (-head, 0, 0, part, (before + 1, 0))
        for part, head in driver.execute(heads, (project_id, name, before))
        if head is not None
    ]
    heapq.heapify(heap)
    while heap:
        _, rank, key, part, place = heapq.heappop(heap)
        if rank == 1:
            yield -key
            continue
        found = driver.execute(following, (part, project_id, name, *place, chunk)).fetchall()
        for at, seq in found:
            heapq.heappush(heap, (-at, 1, -seq, part, place))
        if len(found) == chunk:
            heapq.heappush(heap, (-found[-1][0], 0, 0, part, found[-1]))


def is_in_parts(session: Session) -> bool:
    """Whether names are in parts in this store."""
    return session.connection().dialect.name != "postgresql"
