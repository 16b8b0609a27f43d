"""Bringing the database to this version's tables, and refusing one that is newer."""

from pathlib import Path
from typing import TYPE_CHECKING

from sqlalchemy import Engine, inspect, text
from sqlalchemy.exc import OperationalError

from driftline.errors import StoreUnavailable
from driftline.store.engine import engine, explain_failure

if TYPE_CHECKING:
    from alembic.config import Config

MIGRATIONS = Path(__file__).parent / "migrations"
LOCK = 0x44524654  # any constant: two processes that start together upgrade one after the other


def configuration(target: Engine) -> "Config":
    """Alembic's configuration for an engine."""
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    config.attributes["engine"] = target
    return config


def revision(target: Engine) -> str | None:
    """The revision the database is at, None when it is empty."""
    with target.connect() as connection:
        if not inspect(connection).has_table("alembic_version"):
            return None
        found: str | None = connection.execute(text("SELECT version_num FROM alembic_version")).scalar()
        return found


def newest() -> str:
    """The revision this version of Driftline brings a database to: revisions are numbered in order."""
    return max(path.name.partition("_")[0] for path in (MIGRATIONS / "versions").glob("[0-9]*.py"))


def upgrade(target: Engine | None = None) -> str:
    """Upgrades to the newest revision and returns it; does nothing when it is there already.

    Raises:
        StoreUnavailable: The database does not answer, or was written by a newer Driftline.
    """
    target = target or engine()
    head = newest()
    try:
        at = revision(target)
        if at == head:
            return head
        from alembic import command  # ten megabytes that a process at work needs no more
        from alembic.script import ScriptDirectory

        config = configuration(target)
        scripts = ScriptDirectory.from_config(config)
        if at is not None and at not in {script.revision for script in scripts.walk_revisions()}:
            raise StoreUnavailable(
                f"The database is at revision {at}, which this version of Driftline does not know: it was written by "
                "a newer one. Upgrade Driftline, or point DRIFTLINE_DATABASE_URL at another database."
            )
        with target.connect() as connection:
            if target.dialect.name == "postgresql":
                connection.execute(text("SELECT pg_advisory_lock(:key)"), {"key": LOCK})
                connection.commit()
            config.attributes["connection"] = connection
            command.upgrade(config, "head")
            if target.dialect.name == "postgresql":
                connection.execute(text("SELECT pg_advisory_unlock(:key)"), {"key": LOCK})
            connection.commit()
    except OperationalError as error:
        raise explain_failure(error) from None
    return head
