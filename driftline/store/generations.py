"""Conditions on calls that lead PostgreSQL to the days which hold them, where it would look into every day's partition.

SQLite needs none of it: it has one table, with a unique index on ids.
"""

from collections.abc import Collection

from sqlalchemy import BigInteger, ColumnElement, Connection, FromClause, Table, any_, delete, literal, select
from sqlalchemy.dialects.postgresql import ARRAY

from driftline.store.days import first_key_since
from driftline.store.tables import Feedback, Generation, GenerationKey

_FEEDBACK: Table = Feedback.__table__  # type: ignore[attr-defined]
_GENERATION: Table = Generation.__table__  # type: ignore[attr-defined]
_KEY: Table = GenerationKey.__table__  # type: ignore[attr-defined]
_MOST_LISTED = 10_000  # keys that are named one by one in a condition


def with_ids(connection: Connection, project_id: int, ids: Collection[str]) -> ColumnElement[bool]:
    """The condition on generations that keeps those of a project with these ids."""
    if connection.dialect.name != "postgresql":
        return (_GENERATION.c.project_id == project_id) & _GENERATION.c.id.in_(ids)
    return _of_keys(connection, (_KEY.c.project_id == project_id) & _KEY.c.id.in_(ids))


def with_ids_between(connection: Connection, project_id: int, first: str, before: str) -> ColumnElement[bool]:
    """The condition on generations that keeps those of a project whose ids lie from `first` to before `before`."""
    table = _KEY if connection.dialect.name == "postgresql" else _GENERATION
    condition = (table.c.project_id == project_id) & (table.c.id >= first) & (table.c.id < before)
    return _of_keys(connection, condition) if table is _KEY else condition


def with_keys(connection: Connection, seqs: Collection[int]) -> ColumnElement[bool]:
    """The condition on generations that keeps those with these keys."""
    if connection.dialect.name != "postgresql":
        return _GENERATION.c.seq.in_(seqs)
    return _GENERATION.c.seq == any_(literal(list(seqs), ARRAY(BigInteger)))


def began_since(connection: Connection, moment: int) -> ColumnElement[bool]:
    """The condition on generations that keeps those that began at or after a moment, microseconds."""
    first = first_key_since(connection, moment)
    began = _GENERATION.c.started_at >= moment
    return began & (_GENERATION.c.seq >= first) if first else began


def _of_keys(connection: Connection, condition: ColumnElement[bool]) -> ColumnElement[bool]:
    of_keys = select(_KEY.c.seq).where(condition)
    seqs = list(connection.execute(of_keys.limit(_MOST_LISTED + 1)).scalars())
    if len(seqs) > _MOST_LISTED:
        return _GENERATION.c.seq.in_(of_keys)
    return with_keys(connection, seqs)  # known before planning, so that it picks partitions


def feedback_with_calls(connection: Connection) -> FromClause:
    """Feedback joined with the generations it is about."""
    table = _KEY if connection.dialect.name == "postgresql" else _GENERATION
    same = (_FEEDBACK.c.project_id == table.c.project_id) & (_FEEDBACK.c.generation_id == table.c.id)
    joined = _FEEDBACK.join(table, same)
    return joined.join(_GENERATION, _GENERATION.c.seq == _KEY.c.seq) if table is _KEY else joined


def forget_ids(connection: Connection, project_id: int, ids: Collection[str]) -> None:
    """Takes the keys of generations away that are deleted."""
    if connection.dialect.name == "postgresql":
        connection.execute(delete(_KEY).where(_KEY.c.project_id == project_id, _KEY.c.id.in_(ids)))
