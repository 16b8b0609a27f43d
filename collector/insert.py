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
from driftline.store.generations import ids_with
from driftline.store.ids import id_hash, move_on, newest_key
from driftline.store.tables import ClientCount, Generation

COLUMNS = Row.__struct_fields__[:-1]
_NAMES = ", ".join(COLUMNS)
_MOST_AT_ONCE = 128  # rows in one statement; fewer than SQLite has room for variables

# Keys are counted up when a row is inserted but seen when it is committed. Readers go through generations by key, so
# writers take turns: whoever sees a key has seen all smaller ones. SQLite has one writer at a time by itself.
_TURN = 0x44524657

_COPY = f"COPY generation (seq, {_NAMES}) FROM STDIN (FORMAT BINARY)"  # text takes twice the time on both sides
_COPY_KEYS = "COPY generation_key (hash, seq) FROM STDIN (FORMAT BINARY)"
_STILL_THERE = (
    "SELECT (SELECT count(*) FROM (SELECT FROM project WHERE id = ANY(%s) FOR KEY SHARE) AS held), "
    "(SELECT count(*) FROM (SELECT FROM variant WHERE id = ANY(%s) FOR KEY SHARE) AS held)"
)
_NEXT_KEYS = "SELECT nextval('generation_seq_seq') FROM generate_series(1, %s)"


def take_turn(connection: Connection) -> None:
    """Waits for other writers; must come before anything the transaction inserts, and before what it looks up."""
    if connection.dialect.name == "postgresql":
        connection.execute(text("SELECT pg_advisory_xact_lock(:turn)"), {"turn": _TURN})


def insert_generations(connection: Connection, rows: Sequence[Row]) -> set[int]:
    """Inserts rows in order; returns the places in `rows` of those whose id was taken, which change nothing.

    Of two rows with the same id the first is inserted. Only in its turn may a transaction do this, see `take_turn`.
    """
    if not rows:
        return set()
    driver: Any = connection.connection.driver_connection
    is_postgres = connection.dialect.name == "postgresql"
    if is_postgres:
        _hold_referred(connection, driver, rows)
    hashes = [id_hash(row.project_id, row.id, row.sample_key) for row in rows]
    known = ids_with(connection, hashes)
    left: set[int] = set()
    new, new_hashes = [], []
    for place, row in enumerate(rows):
        identity = (row.project_id, row.id)
        if identity in known:
            left.add(place)
        else:
            known.add(identity)
            new.append(row)
            new_hashes.append(hashes[place])
    if new:
        (_copy if is_postgres else _insert)(driver, new, new_hashes)
    return left


def _insert(driver: Any, rows: Sequence[Row], hashes: Sequence[int]) -> None:
    before = newest_key(driver)
    keys = range(before + 1, before + 1 + len(rows))
    calls = [(key, *astuple(row)[:-1]) for key, row in zip(keys, rows, strict=True)]
    _insert_many(driver, "generation", ("seq", *COLUMNS), calls)
    _insert_many(driver, "generation_key", ("hash", "seq"), list(zip(hashes, keys, strict=True)))
    move_on(driver, before, keys[-1])


def _insert_many(driver: Any, table: str, columns: tuple[str, ...], values: Sequence[tuple[Any, ...]]) -> None:
    # The driver lets other threads run during each statement, and then has to wait for its turn. With one statement a
    # row that wait costs more than the insert; with one for many, others decode meanwhile on another core.
    start, size = 0, _MOST_AT_ONCE
    while start < len(values):
        while size > len(values) - start:
            size //= 2
        driver.execute(_several(table, columns, size), tuple(chain.from_iterable(values[start : start + size])))
        start += size


@lru_cache(maxsize=16)
def _several(table: str, columns: tuple[str, ...], size: int) -> str:
    marks = ", ".join([f"({', '.join('?' * len(columns))})"] * size)
    return f"INSERT INTO {table} ({', '.join(columns)}) VALUES {marks}"  # noqa: S608 - our own names


def _copy(driver: Any, rows: Sequence[Row], hashes: Sequence[int]) -> None:
    with driver.cursor() as cursor:
        keys = [key for (key,) in cursor.execute(_NEXT_KEYS, (len(rows),), binary=True)]
        cursor.adapters.register_dumper(dict, _json_dumper())
        with cursor.copy(_COPY) as copy:
            copy.set_types(_binary_types())
            for key, row in zip(keys, rows, strict=True):
                copy.write_row((key, *astuple(row)[:-1]))
        with cursor.copy(_COPY_KEYS) as copy:
            copy.set_types(("int8", "int8"))
            for entry in sorted(zip(hashes, keys, strict=True)):  # so that pages are found in their order
                copy.write_row(entry)


def _hold_referred(connection: Connection, driver: Any, rows: Sequence[Row]) -> None:
    # What a foreign key would do for each row: nobody deletes these projects and variants before the commit.
    referred = [list({row.project_id for row in rows}), list({row.variant_id for row in rows})]
    with driver.cursor() as cursor:
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
