"""Column types and the naming rule that every table shares."""

from typing import Any

from sqlalchemy import JSON, BigInteger, Integer, LargeBinary, MetaData, Text
from sqlalchemy.dialects.postgresql import JSONB
from sqlmodel import Field, SQLModel

BIG_KEY = BigInteger().with_variant(Integer, "sqlite")  # SQLite counts up only plain INTEGER keys
DOCUMENT = JSON().with_variant(JSONB, "postgresql")

SQLModel.metadata.naming_convention = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s_%(referred_table_name)s",
        "pk": "pk_%(table_name)s",
    }
).naming_convention


def key() -> Any:
    """A 64-bit key that the database counts up."""
    return Field(default=None, primary_key=True, sa_type=BIG_KEY)


def refers(target: str, *, index: bool = True) -> Any:
    """A required reference to another table's key."""
    return Field(foreign_key=target, sa_type=BIG_KEY, index=index)


def may_refer(target: str, *, index: bool = False) -> Any:
    """A reference that may be empty."""
    return Field(default=None, foreign_key=target, sa_type=BIG_KEY, index=index)


def moment(*, index: bool = False) -> Any:
    """A required moment: UTC, integer microseconds."""
    return Field(sa_type=BigInteger, index=index)


def may_moment(*, index: bool = False) -> Any:
    """A moment that may not have come yet: UTC, integer microseconds."""
    return Field(default=None, sa_type=BigInteger, index=index)


def count() -> Any:
    """A 64-bit whole number, zero at first."""
    return Field(default=0, sa_type=BigInteger)


def document(default: type[dict[str, Any]] | type[list[Any]] = dict) -> Any:
    """A JSON value, an empty object (or list) at first."""
    return Field(default_factory=default, sa_type=DOCUMENT)


def may_document() -> Any:
    """A JSON value that may be absent (SQL NULL)."""
    return Field(default=None, sa_type=JSON(none_as_null=True).with_variant(JSONB(none_as_null=True), "postgresql"))


def text() -> Any:
    """A long text, empty at first."""
    return Field(default="", sa_type=Text)


def may_text() -> Any:
    """A long text that may be absent."""
    return Field(default=None, sa_type=Text)


def may_bytes() -> Any:
    """Bytes that may be absent."""
    return Field(default=None, sa_type=LargeBinary)
