"""How rows look in JSON: the table's own columns, moments as RFC 3339, and names beside the keys of other rows."""

from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import Any

from pydantic import BaseModel, create_model
from sqlalchemy import inspect
from sqlmodel import Session, SQLModel, col, select

from driftline.moment import iso
from driftline.store.tables import GoldenSet, GoldenVersion, Variant

HIDDEN = frozenset({"project_id", "sample_key", "secret", "pending", "dedup_key", "sent_at"})
_MOMENTS = frozenset(
    {"at", "since", "failing_since", "until", "minute", "began_low", "began_high", "block_start", "block_end"}
)
_NAMED = {"variant.id": "variant", "golden_version.id": "golden_version"}  # what gets its name beside its key


def is_moment(column: str) -> bool:
    """Whether a column holds microseconds since the epoch."""
    return column.endswith(("_at", "_until")) or column in _MOMENTS


@lru_cache(maxsize=64)
def shape(table: type[SQLModel]) -> type[BaseModel]:
    """The JSON model of a table's rows, for OpenAPI and for checking what goes out."""
    fields: dict[str, Any] = {}
    for name, field in table.model_fields.items():
        if name in HIDDEN:
            continue
        if is_moment(name):
            fields[name] = (str if field.annotation is int else str | None, ...)
        else:
            fields[name] = (field.annotation, ...)
    for column in names_wanted(table):
        fields[column.removesuffix("_id")] = (str | None, ...)
    return create_model(f"{table.__name__}Row", __doc__=table.__doc__, **fields)


@lru_cache(maxsize=64)
def names_wanted(table: type[SQLModel]) -> dict[str, str]:
    """Columns whose row's name is shown as well: column → "variant" or "golden_version"."""
    wanted = {}
    for column in inspect(table).columns:
        for reference in column.foreign_keys:
            if reference.target_fullname in _NAMED:
                wanted[column.key] = _NAMED[reference.target_fullname]
    return wanted


def shaped(session: Session, table: type[SQLModel], rows: Sequence[Any]) -> list[dict[str, Any]]:
    """Rows as JSON values of `shape(table)`."""
    wanted = names_wanted(table)
    names = {
        kind: _names(session, kind, {getattr(row, column) for row in rows for column, k in wanted.items() if k == kind})
        for kind in set(wanted.values())
    }
    shown = [name for name in table.model_fields if name not in HIDDEN]
    made = []
    for row in rows:
        values = {name: getattr(row, name) for name in shown}
        for name, value in values.items():
            if value is not None and is_moment(name):
                values[name] = iso(value)
        for column, kind in wanted.items():
            values[column.removesuffix("_id")] = names[kind].get(getattr(row, column))
        made.append(values)
    return made


def _names(session: Session, kind: str, keys: Iterable[int | None]) -> dict[int | None, str]:
    ids = [key for key in keys if key is not None]
    if not ids:
        return {}
    if kind == "variant":
        return dict(session.exec(select(Variant.id, Variant.name).where(col(Variant.id).in_(ids))).all())
    versions = session.exec(
        select(GoldenVersion.id, GoldenSet.name, GoldenVersion.number)
        .join(GoldenSet, col(GoldenSet.id) == GoldenVersion.golden_set_id)
        .where(col(GoldenVersion.id).in_(ids))
    )
    return {key: f"{name}@{number}" for key, name, number in versions}
