"""Opening the store: one engine a process, SQLite tuned for durable concurrent use, PostgreSQL as it is."""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any

from sqlalchemy import Engine, create_engine, event
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError, OperationalError
from sqlmodel import Session

from driftline.errors import BadInput, DriftlineError, StoreUnavailable
from driftline.settings import settings

DRIVERS = ("sqlite", "sqlite+pysqlite", "postgresql+psycopg")
# SQLSTATE insufficient_privilege, and invalid_schema_name: no schema in which the user may create. Asked by number, as
# importing psycopg takes a quarter of a second.
NO_RIGHT = ("42501", "3F000")
BAD_DATA = "22"  # class of SQLSTATE: a text too long, a number too large, a character that cannot be
BUSY_MS = 30_000  # how long a SQLite writer waits for another before it gives up
# Whoever commits moves the log into the database once it holds so many pages (64 MB). That is rare: the collector
# moves it in the background much earlier, and pages written twice meanwhile are moved once.
WAL_PAGES = 16_000


def open_engine(url: str) -> Engine:
    """An engine for `url`; creates the folder of a SQLite file.

    Raises:
        StoreUnavailable: The folder cannot be written.
        BadInput: The URL is none, or of a database that Driftline does not run on.
    """
    try:
        parsed = make_url(url)
        known = parsed.drivername in DRIVERS
    except ArgumentError:
        known = False
    if not known:
        raise BadInput(
            "DRIFTLINE_DATABASE_URL names no database that Driftline runs on. Use postgresql://USER:PASSWORD@HOST/NAME "
            "or sqlite:///PATH, or leave it empty for SQLite in the data folder."
        )
    if parsed.get_backend_name() != "sqlite":
        engine = create_engine(url, pool_pre_ping=True, pool_size=10, max_overflow=20)
        event.listen(engine, "handle_error", _name_what_can_be_mended)
        return engine
    if parsed.database and parsed.database != ":memory:":
        make_folder(Path(parsed.database).parent)
    engine = create_engine(url, connect_args={"timeout": BUSY_MS / 1000, "check_same_thread": False})
    event.listen(engine, "connect", _tune_sqlite)
    event.listen(engine, "begin", _begin_sqlite)
    event.listen(engine, "handle_error", _name_what_can_be_mended)
    return engine


def make_folder(folder: Path) -> None:
    """Creates a folder that this process can write.

    Raises:
        StoreUnavailable: It cannot be made or written; says which folder and what to do.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe = folder / ".writable"
        probe.touch()
        probe.unlink(missing_ok=True)
    except OSError as error:
        raise StoreUnavailable(
            f"The data folder {folder} cannot be written ({error.strerror}). "
            "Make it writable, or set DRIFTLINE_DATA_DIR to a folder that is."
        ) from None


def _tune_sqlite(connection: Any, _record: Any) -> None:
    connection.isolation_level = None  # we begin transactions ourselves, see _begin_sqlite
    for pragma in (
        "journal_mode=WAL",
        "synchronous=FULL",  # an acknowledged write survives a power cut
        f"busy_timeout={BUSY_MS}",
        "foreign_keys=ON",
        "cache_size=-4000",  # kB a connection; the machine keeps the file's pages too, and once for all
        "temp_store=MEMORY",
        f"wal_autocheckpoint={WAL_PAGES}",
    ):
        connection.execute(f"PRAGMA {pragma}")


def _begin_sqlite(connection: Any) -> None:
    # A transaction that reads first and then writes cannot wait for another writer in WAL mode (SQLITE_BUSY at once,
    # whatever the time-out), so a session that says it will write takes the write lock when it begins.
    immediate = connection.get_execution_options().get("writes", True)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if immediate else "BEGIN")


@lru_cache(maxsize=4)
def _engine(url: str) -> Engine:
    return open_engine(url)


def engine() -> Engine:
    """The engine of this process."""
    return _engine(settings().database)


@contextmanager
def writing() -> Iterator[Session]:
    """A session that commits at the end, or rolls back when the block raises.

    On SQLite it holds the write lock from its first statement on: keep model calls and requests out of it.
    """
    with Session(engine(), expire_on_commit=False) as session:
        try:
            yield session
            session.commit()
        except BaseException:
            session.rollback()
            raise


@contextmanager
def reading() -> Iterator[Session]:
    """A session for reads: sees one state of the store from its first statement on, blocks no writer."""
    options: dict[str, Any] = {"writes": False}
    if engine().dialect.name == "postgresql":  # else each statement sees a state of its own
        options["isolation_level"] = "REPEATABLE READ"
    with Session(engine().execution_options(**options), expire_on_commit=False) as session:
        yield session


def _name_what_can_be_mended(context: Any) -> None:
    """Turns what a driver reports of a broken file, a missing right or a value that cannot be into a sentence."""
    error = context.original_exception
    reason = str(error).strip().partition("\n")[0]
    if type(error) is sqlite3.DatabaseError:  # its subclasses are of the statement, this one is of the file
        raise StoreUnavailable(
            f"The database {_shown_url()} cannot be used: {reason}. Put a backup in its place, or move it away to "
            "start anew."
        ) from None
    if getattr(error, "sqlstate", None) in NO_RIGHT:
        raise StoreUnavailable(
            f"The database {_shown_url()} refuses a right that Driftline needs: {reason}. "
            "Grant it to the database's user, or make that user the owner of the database."
        ) from None

    state = getattr(error, "sqlstate", None) or ""
    if isinstance(error, OverflowError | UnicodeEncodeError) or state.startswith(BAD_DATA) or _is_data_error(error):
        raise BadInput(f"Something that was given cannot be stored: {reason}.") from None


def _is_data_error(error: BaseException) -> bool:
    """A text with a NUL, say, which psycopg refuses before PostgreSQL sees it."""
    return any(kind.__name__ == "DataError" for kind in type(error).__mro__)


def _shown_url() -> str:
    return make_url(settings().database).render_as_string(hide_password=True)


def explain_failure(error: OperationalError) -> DriftlineError:
    """The sentence for an operator that a driver's error deserves."""
    url = _shown_url()
    reason = str(error.orig).strip().splitlines()[0] if error.orig else str(error)
    if isinstance(error.orig, sqlite3.OperationalError) and "readonly" in reason:
        return StoreUnavailable(f"The database {url} is read-only. Make it writable, or set DRIFTLINE_DATA_DIR.")
    return StoreUnavailable(
        f"The database {url} does not answer: {reason}. Check DRIFTLINE_DATABASE_URL and the server."
    )
