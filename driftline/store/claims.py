"""Taking a state change for oneself: one conditional UPDATE that must change exactly one row."""

from typing import Any

from sqlalchemy import update
from sqlmodel import Session, SQLModel


def claim(session: Session, table: type[SQLModel], *conditions: Any, **values: Any) -> bool:
    """Whether this caller, and no other, changed the one row that meets the conditions.

    Raises:
        AssertionError: More than one row met them: the conditions name no single row.
    """
    result = session.connection().execute(update(table).where(*conditions).values(**values))
    changed = result.rowcount
    assert changed <= 1, f"a claim on {table.__tablename__} changed {changed} rows"
    return changed == 1
