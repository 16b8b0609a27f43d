"""Conditions on calls that lead a database to them where it would look at all: by ids, and on PostgreSQL by days."""

import json
from collections.abc import Collection, Sequence
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Connection,
    FromClause,
    Table,
    and_,
    any_,
    func,
    literal,
    or_,
    select,
    text,
    true,
)
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.orm import aliased

from driftline.store.days import first_key_since
from driftline.store.ids import TRACE_CHARS, id_hash, newest_key, on_levels, trace_hashes
from driftline.store.tables import Feedback, Generation, GenerationKey

_FEEDBACK: Table = Feedback.__table__  # type: ignore[attr-defined]
_GENERATION: Table = Generation.__table__  # type: ignore[attr-defined]
_KEY: Table = GenerationKey.__table__  # type: ignore[attr-defined]
_MOST_LISTED = 10_000  # keys that are named one by one in a condition

# hashes in order, one search each, and a look at the call; `CROSS JOIN` is how SQLite is told the order
_IDS_WITH = (
    "SELECT call.project_id, call.id FROM json_each(?) AS sent "
    "CROSS JOIN generation_key AS entry ON entry.hash = sent.value "
    "CROSS JOIN generation AS call ON call.seq = entry.seq"
)
KEYS_WITH = "SELECT entry.seq FROM json_each(?) AS sent CROSS JOIN generation_key AS entry ON entry.hash = sent.value"
# With a limit that no hash reaches PostgreSQL searches for each, whatever it knows of the table, or does not yet.
KEYS_WITH_ON_POSTGRES = (
    "SELECT entry.seq FROM unnest(%s::bigint[]) AS sent (hash) CROSS JOIN LATERAL "
    "(SELECT seq FROM generation_key WHERE generation_key.hash = sent.hash ORDER BY seq LIMIT 1000) AS entry"
)
_FORGET = (
    "DELETE FROM generation_key WHERE hash IN (SELECT value FROM json_each(?)) "
    "AND +seq IN (SELECT value FROM json_each(?))"  # with the plus it is no search for each pair of the two
)
_FORGET_ON_POSTGRES = text(
    "DELETE FROM generation_key AS entry USING unnest(CAST(:hashes AS bigint[]), CAST(:keys AS bigint[])) "
    "AS gone (hash, seq) WHERE entry.hash = gone.hash AND entry.seq = gone.seq RETURNING entry.seq"
)


def ids_with(connection: Connection, hashes: Sequence[int]) -> set[tuple[int, str]]:
    """Projects and ids of the calls whose `id_hash` is one of these."""
    if connection.dialect.name != "postgresql":
        return {
            (project, identity)
            for project, identity in connection.exec_driver_sql(_IDS_WITH, _sent(connection, hashes))
        }
    keys = _keys_with(connection, hashes)
    if not keys:
        return set()
    asked = select(_GENERATION.c.project_id, _GENERATION.c.id).where(with_keys(connection, keys))
    return {(project, identity) for project, identity in connection.execute(asked)}


def with_ids(connection: Connection, project_id: int, ids: Collection[str]) -> ColumnElement[bool]:
    """The condition on generations that keeps those of a project with these ids."""
    keys = _keys_with(connection, [id_hash(project_id, identity) for identity in ids])
    found = with_keys(connection, keys)
    return and_(found, _GENERATION.c.project_id == project_id, _one_of(connection, _GENERATION.c.id, ids))


def of_trace(connection: Connection, project_id: int, trace_id: str) -> ColumnElement[bool]:
    """The condition on generations that keeps the spans of a project's trace, given as 32 hexadecimal digits."""
    first, last = trace_hashes(project_id, trace_id)
    spans = or_(*(_KEY.c.hash.between(first + at, last + at) for at in _levels(connection)))
    of_trace = select(_KEY.c.seq).where(spans)
    keys = list(connection.execute(of_trace.limit(_MOST_LISTED + 1)).scalars())
    # known before planning, so that PostgreSQL picks partitions
    found = with_keys(connection, keys) if len(keys) <= _MOST_LISTED else _GENERATION.c.seq.in_(of_trace)
    is_of_it = func.substr(_GENERATION.c.id, 1, TRACE_CHARS) == trace_id
    return and_(found, _GENERATION.c.project_id == project_id, is_of_it)


def with_keys(connection: Connection, keys: Collection[int]) -> ColumnElement[bool]:
    """The condition on generations that keeps those with these keys."""
    return _one_of(connection, _GENERATION.c.seq, keys)


def began_since(connection: Connection, moment: int) -> ColumnElement[bool]:
    """The condition on generations that keeps those that began at or after a moment, microseconds."""
    first = first_key_since(connection, moment)
    began = _GENERATION.c.started_at >= moment
    return began & (_GENERATION.c.seq >= first) if first else began


def feedback_with_calls(connection: Connection) -> tuple[FromClause, type[Generation]]:
    """Feedback joined with the generations it is about, and what stands for these in a query on it."""
    if connection.dialect.name == "postgresql":
        return _feedback_with_calls_on_postgres()
    entry = _KEY.c.hash.in_([_FEEDBACK.c.call_hash + at for at in _levels(connection)])
    call = and_(_GENERATION.c.seq == _KEY.c.seq, *_is_about())
    return _FEEDBACK.join(_KEY, entry).join(_GENERATION, call), Generation


def _feedback_with_calls_on_postgres() -> tuple[FromClause, type[Generation]]:
    # Limits that are never reached keep the order: feedback, entries, calls. Of tables that were not analyzed yet
    # PostgreSQL believes that a route has few calls, and begins with them: two minutes for what takes milliseconds.
    entries = select(_KEY.c.seq).where(_KEY.c.hash == _FEEDBACK.c.call_hash).order_by(_KEY.c.seq).limit(1_000)
    entry = entries.lateral("entry")
    call = select(_GENERATION).where(_GENERATION.c.seq == entry.c.seq, *_is_about()).limit(1).lateral("call")
    return _FEEDBACK.join(entry, true()).join(call, true()), aliased(Generation, call)


def _is_about() -> tuple[ColumnElement[bool], ...]:
    return _GENERATION.c.project_id == _FEEDBACK.c.project_id, _GENERATION.c.id == _FEEDBACK.c.generation_id


def forget_ids(connection: Connection, project_id: int, calls: Collection[tuple[int, str]]) -> set[int]:
    """Takes the entries of calls away, given as keys and ids; the keys of those that had one."""
    hashes = [id_hash(project_id, identity) for _, identity in calls]
    keys = [key for key, _ in calls]
    if connection.dialect.name == "postgresql":
        gone = connection.execute(_FORGET_ON_POSTGRES, {"hashes": hashes, "keys": keys})
        return {key for (key,) in gone}
    connection.exec_driver_sql(_FORGET, (*_sent(connection, hashes), str(keys)))
    return set(keys)


def _keys_with(connection: Connection, hashes: Sequence[int]) -> list[int]:
    if connection.dialect.name == "postgresql":
        return list(connection.exec_driver_sql(KEYS_WITH_ON_POSTGRES, (sorted(hashes),)).scalars())
    return list(connection.exec_driver_sql(KEYS_WITH, _sent(connection, hashes)).scalars())


def _sent(connection: Connection, hashes: Sequence[int]) -> tuple[str]:
    return (str(on_levels(hashes, newest_key(connection.connection.driver_connection))),)  # a list of numbers is JSON


def _levels(connection: Connection) -> list[int]:
    """What stands above a hash in generation_key."""
    if connection.dialect.name == "postgresql":
        return [0]
    return on_levels([0], newest_key(connection.connection.driver_connection))


def _one_of(connection: Connection, column: ColumnElement[Any], values: Collection[Any]) -> ColumnElement[bool]:
    """The condition that a column has one of these values, which may be many."""
    if connection.dialect.name == "postgresql":
        return column == any_(literal(list(values), ARRAY(column.type)))
    if len(values) <= 1_000:
        return column.in_(values)
    return column.in_(select(func.json_each(json.dumps(list(values))).table_valued("value").c.value))
