"""Which call has an id: entries of hashes, as cheap to add with millions stored as with none.

Ids come at random. In an index of them all each new one changes a page of its own, and with millions stored most of
what a commit writes is such pages. So on SQLite entries lie in levels, above their hash in the same number: the first
is so small that a commit changes few pages of it, and each following one is `GROWTH` times as large. As calls come, a
hand goes round each level but the last; what it passes moves a level down, hundreds of entries to neighbouring places.
This is the rolling merge of O'Neil, Cheng, Gawlick, O'Neil, "The log-structured merge-tree", 1996. Where the hands
stand follows from the newest call's key, so nothing else is kept, and nothing is lost with a crash. PostgreSQL has one
level: what pages cost is its server's to choose.

Two ids may have one hash, and an entry may be left of a call that is gone: whoever finds an entry looks at the call.
"""

from collections.abc import Iterable
from typing import Any
from zlib import crc32

from driftline.store.hashing import sample_key

HASH_BITS = 59
TRACE_CHARS = 32  # of a trace's id in hexadecimal digits: the id of a call that came as a span begins with it
SPAN_CHARS = TRACE_CHARS + 16
FIRST = 8_192  # calls whose entries the first level holds
GROWTH = 16
STRIDE = 64  # calls after which the hands move on
AT_ONCE = 4_096  # entries that a commit may move from a level, beside some for each of its calls
PART_BITS = 13  # SQLite's indexes of sessions and users are in parts of 8192 calls that came one after the other
PART = f"seq >> {PART_BITS}"

_OWN_BITS = 27  # of a span's hash; those above are its trace's, so that a trace's calls lie together
_LEVEL = 1 << HASH_BITS
_OTHER_PROJECT = 0x9E3779B97F4A7C15  # any odd number: ids that several projects share have hashes of their own


def id_hash(project_id: int, identity: str, shuffled: int | None = None) -> int:
    """The hash of a call's id in its project, 59 bits; `shuffled` is the id's `sample_key` where it is known."""
    own = sample_key(identity) if shuffled is None else shuffled
    if len(identity) != SPAN_CHARS:
        return (own ^ project_id * _OTHER_PROJECT) & _LEVEL - 1
    return _trace_hash(project_id, identity[:TRACE_CHARS]) << _OWN_BITS | own & (1 << _OWN_BITS) - 1


def trace_hashes(project_id: int, trace_id: str) -> tuple[int, int]:
    """The smallest and the largest hash that the spans of a trace may have."""
    trace = _trace_hash(project_id, trace_id)
    return trace << _OWN_BITS, (trace + 1 << _OWN_BITS) - 1


def _trace_hash(project_id: int, trace_id: str) -> int:
    return crc32(trace_id.encode("utf-8", "surrogatepass"), project_id & 0xFFFFFFFF)


def levels(newest: int) -> int:
    """How many levels a SQLite store has whose newest call has this key.

    >>> levels(0), levels(8_192), levels(8_193), levels(5_000_000)
    (1, 1, 2, 4)
    """
    count, held = 1, FIRST
    while held < newest:
        count, held = count + 1, held * GROWTH
    return count


def on_levels(hashes: Iterable[int], newest: int) -> list[int]:
    """The hashes as they may be stored on SQLite, one after the other in the order of its table."""
    ordered = sorted(hashes)
    return [level * _LEVEL + one for level in range(levels(newest)) for one in ordered]


def newest_key(driver: Any) -> int:
    """The largest key that SQLite gave a call, 0 before the first; `driver` is its own connection."""
    found = driver.execute("SELECT seq FROM sqlite_sequence WHERE name = 'generation'").fetchone()
    return found[0] if found else 0


def move_on(driver: Any, before: int, newest: int) -> None:
    """Moves SQLite's hands on from where they stood when `before` was the newest key, in the caller's transaction."""
    before, newest = before // STRIDE, newest // STRIDE
    if before == newest:
        return
    held, most = FIRST // STRIDE, AT_ONCE + 8 * (newest - before) * STRIDE
    for level in range(levels(newest * STRIDE) - 1):
        for first, end in _passed(before, newest, held):
            _move(driver, level * _LEVEL + first, level * _LEVEL + end, most)
        held *= GROWTH


def _move(driver: Any, first: int, end: int, most: int) -> None:
    # Calls of one trace lie together, and a trace may have a million: what is too much now stays until the next round.
    passed = "FROM generation_key WHERE hash >= ? AND hash < ?"
    too_much = driver.execute(f"SELECT hash {passed} ORDER BY hash LIMIT 1 OFFSET ?", (first, end, most)).fetchone()
    places = (first, too_much[0] if too_much else end)
    driver.execute(f"INSERT INTO generation_key SELECT hash + {_LEVEL}, seq {passed}", places)
    driver.execute(f"DELETE {passed}", places)


def _passed(before: int, newest: int, round_: int) -> list[tuple[int, int]]:
    """What a hand passes that takes so many steps for a round, as spans of hashes."""
    if newest - before >= round_:
        return [(0, _LEVEL)]
    first, end = (step % round_ * _LEVEL // round_ for step in (before, newest))
    return [(first, end)] if first < end else [(first, _LEVEL), (0, end)]
