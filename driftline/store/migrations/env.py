"""Alembic's environment: runs on the connection that `driftline.store.upgrade` hands over."""

from typing import Any

from alembic import context
from sqlalchemy import Connection

from driftline.store.days import is_part
from driftline.store.tables import METADATA


def run(connection: Connection) -> None:
    """Runs the migrations in one transaction, SQLite's with foreign keys off as table rebuilds need it."""
    context.configure(
        connection=connection, target_metadata=METADATA, render_as_batch=True, compare_type=_differs,
        include_object=_belongs, include_name=_is_declared,
        transactional_ddl=True,  # SQLite too, else each migration commits and two processes take turns in the middle
    )  # fmt: skip
    _keep_references(connection, False)
    try:
        with context.begin_transaction():
            context.run_migrations()
        connection.commit()
    finally:
        connection.rollback()
        _keep_references(connection, True)


def _keep_references(connection: Connection, kept: bool) -> None:
    if connection.dialect.name == "sqlite":
        # Past SQLAlchemy, which would begin a transaction first, and inside one SQLite ignores this.
        driver: Any = connection.connection.driver_connection
        driver.execute(f"PRAGMA foreign_keys={'ON' if kept else 'OFF'}")


def _is_declared(name: str | None, kind: str, _parents: Any) -> bool:
    return not (kind == "table" and is_part(name or ""))


def _belongs(declared: Any, _name: str | None, kind: str, is_reflected: bool, _other: Any) -> bool:
    if kind == "foreign_key_constraint" and is_reflected:  # one to a partitioned table is told of each partition too
        return not is_part(declared.elements[0].target_fullname.partition(".")[0])
    dialect = context.get_bind().dialect.name
    return bool(declared.info.get("only", dialect) == dialect)


def _differs(_context: Any, _inspected: Any, _column: Any, inspected_type: Any, metadata_type: Any) -> bool | None:
    # SQLite reports BIGINT keys as INTEGER and JSONB as JSON; both are the same column to us.
    names = {type(inspected_type).__name__.upper(), type(metadata_type).__name__.upper()}
    if names <= {"INTEGER", "BIGINTEGER", "BIGINT"} and _context.dialect.name == "sqlite":
        return False
    return None


handed = context.config.attributes.get("connection")
if handed is not None:
    run(handed)
else:
    with context.config.attributes["engine"].connect() as opened:
        run(opened)
