"""Writing rows as fast as each database can, knowing afterwards which of them were new."""

from collections.abc import Sequence
from functools import lru_cache
from itertools import chain
from typing import Any

from msgspec.structs import astuple
from sqlalchemy import BigInteger, Connection, Float, Insert, Integer, case, text
from sqlalchemy.dialects import postgresql, sqlite
from sqlmodel import SQLModel

from collector.rows import Row
from driftline.store.tables import ClientCount, Generation

COLUMNS = Row.__struct_fields__[:-1]
_NAMES = ", ".join(COLUMNS)
_MARKS = ", ".join("?" * len(COLUMNS))
_MOST_AT_ONCE = 128  # rows in one statement; fewer than SQLite has room for variables

# Keys are counted up when a row is inserted but seen when it is committed. Readers go through generations by key, so
# writers take turns: whoever sees a key has seen all smaller ones. SQLite has one writer at a time by itself.
_TURN = 0x44524657

_COPY = f"COPY generation (seq, {_NAMES}) FROM STDIN (FORMAT BINARY)"  # text takes twice the time on both sides
_STILL_THERE = (
    "SELECT (SELECT count(*) FROM (SELECT FROM project WHERE id = ANY(%s) FOR KEY SHARE) AS held), "
    "(SELECT count(*) FROM (SELECT FROM variant WHERE id = ANY(%s) FOR KEY SHARE) AS held)"
)
_ADD_KEYS = (
    "INSERT INTO generation_key (project_id, id, seq) "
    "SELECT project_id, id, nextval('generation_seq_seq') "
    "FROM unnest(%s::bigint[], %s::text[]) AS sent (project_id, id) "
    "ON CONFLICT DO NOTHING RETURNING project_id, id, seq"
)


def take_turn(connection: Connection) -> None:
    """Waits for other writers; must come before anything the transaction inserts, and before what it looks up."""
    if connection.dialect.name == "postgresql":
        connection.execute(text("SELECT pg_advisory_xact_lock(:turn)"), {"turn": _TURN})


def insert_generations(connection: Connection, rows: Sequence[Row]) -> set[int]:
    """Inserts rows in order; returns the places in `rows` of those whose id was taken, which change nothing."""
    if not rows:
        return set()
    if connection.dialect.name == "postgresql":
        return _copy_new(connection, rows)
    driver: Any = connection.connection.driver_connection
    newest = driver.execute("SELECT coalesce(max(seq), 0) FROM generation").fetchone()[0]
    if _insert_many(driver, rows) == len(rows):
        return set()
    return _left_over(rows, driver.execute("SELECT project_id, id FROM generation WHERE seq > ?", (newest,)))


def _insert_many(driver: Any, rows: Sequence[Row]) -> int:
    # The driver lets other threads run during each statement, and then has to wait for its turn. With one statement a
    # row that wait costs more than the insert; with one for many, others decode meanwhile on another core.
    start, size, inserted = 0, _MOST_AT_ONCE, 0
    while start < len(rows):
        while size > len(rows) - start:
            size //= 2
        values = chain.from_iterable(astuple(row)[:-1] for row in rows[start : start + size])
        inserted += driver.execute(_several(size), tuple(values)).rowcount
        start += size
    return inserted


@lru_cache(maxsize=8)
def _several(size: int) -> str:
    marks = ", ".join([f"({_MARKS})"] * size)
    return f"INSERT INTO generation ({_NAMES}) VALUES {marks} ON CONFLICT DO NOTHING"  # noqa: S608 - our own names


def _copy_new(connection: Connection, rows: Sequence[Row]) -> set[int]:
    # COPY knows no conflict, so keys go first: an id that gets none was taken.
    driver: Any = connection.connection.driver_connection
    left = set()
    with driver.cursor() as cursor:
        _hold_referred(connection, cursor, rows)
        cursor.execute(_ADD_KEYS, ([row.project_id for row in rows], [row.id for row in rows]), binary=True)
        new = {(project, identity): seq for project, identity, seq in cursor.fetchall()}
        cursor.adapters.register_dumper(dict, _json_dumper())
        with cursor.copy(_COPY) as copy:
            copy.set_types(_binary_types())
            for place, row in enumerate(rows):
                seq = new.pop((row.project_id, row.id), None)
                if seq is None:
                    left.add(place)
                else:
                    copy.write_row((seq, *astuple(row)[:-1]))
    return left


def _hold_referred(connection: Connection, cursor: Any, rows: Sequence[Row]) -> None:
    # What a foreign key would do for each row: nobody deletes these projects and variants before the commit.
    referred = [list({row.project_id for row in rows}), list({row.variant_id for row in rows})]
    found = cursor.execute(_STILL_THERE, referred).fetchone()
    if found != tuple(map(len, referred)):
        dialect: Any = connection.dialect
        raise dialect.dbapi.IntegrityError("A project or a variant that calls refer to is not there.")


@lru_cache(maxsize=1)
def _binary_types() -> tuple[str, ...]:
    # PostgreSQL's names of the columns' types: the binary form of a number has its type's width, not more.
    kinds = {BigInteger: "int8", Integer: "int4", Float: "float8", postgresql.JSONB: "jsonb"}
    dialect: Any = postgresql.dialect()  # type: ignore[no-untyped-call]
    stored = (Generation.__table__.c[name].type.dialect_impl(dialect) for name in ("seq", *COLUMNS))  # type: ignore[attr-defined]
    return tuple(next((name for kind, name in kinds.items() if isinstance(one, kind)), "text") for one in stored)


@lru_cache(maxsize=1)
def _json_dumper() -> Any:
    from psycopg.types.json import JsonbBinaryDumper

    class EncodedJson(JsonbBinaryDumper):  # rows hold their JSON as text already
        def dump(self, obj: str) -> bytes:
            return b"\x01" + obj.encode()

    return EncodedJson


def _left_over(rows: Sequence[Row], added: Any) -> set[int]:
    # Of two rows with the same id in one batch the first was inserted, so each key found is used up once.
    new = set(added)
    left = set()
    for place, row in enumerate(rows):
        key = (row.project_id, row.id)
        if key in new:
            new.remove(key)
        else:
            left.add(place)
    return left


def insert_new(connection: Connection, table: type[SQLModel]) -> Insert:
    """An INSERT that leaves rows alone which are there already."""
    if connection.dialect.name == "postgresql":
        return postgresql.insert(table).on_conflict_do_nothing()
    return sqlite.insert(table).on_conflict_do_nothing()


def raise_client_counts(connection: Connection, counts: Sequence[dict[str, Any]], *, add: bool = False) -> None:
    """Writes cumulative counts of clients; the largest heard wins, so that late and repeated ones change nothing.

    With `add` they are added to what is there instead.
    """
    made = (postgresql if connection.dialect.name == "postgresql" else sqlite).insert(ClientCount)
    heard, known = made.excluded.n, ClientCount.__table__.c.n  # type: ignore[attr-defined]
    connection.execute(
        made.on_conflict_do_update(
            index_elements=["project_id", "client", "variant", "reason"],
            set_={
                "n": known + heard if add else case((heard > known, heard), else_=known),
                "updated_at": made.excluded.updated_at,
            },
        ),
        counts,
    )
