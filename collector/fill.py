"""A span that is sent again fills only what was empty: a retry with more in it adds, a plain retry changes nothing."""

from collections.abc import Sequence
from itertools import groupby
from typing import Any

from sqlalchemy import Connection, bindparam, select, update

from collector.rollups import Deltas
from collector.rows import Row
from driftline.store.generations import with_ids
from driftline.store.tables import Generation

# column → the columns that are filled with it
FILLABLE: dict[str, tuple[str, ...]] = {
    "model": (), "input": ("input_chars",), "output": ("output_chars",), "latency_ms": (), "ttft_ms": (),
    "input_tokens": (), "output_tokens": (), "cost_nano": (), "error": (), "session_id": (), "user_id": (),
}  # fmt: skip

_TABLE = Generation.__table__  # type: ignore[attr-defined]
_KNOWN = ("seq", "project_id", "id", "variant_id", "route", "started_at", *FILLABLE)
_CHUNK = 500  # ids in one query


def fill_empty(connection: Connection, rows: Sequence[Row], deltas: Deltas) -> None:
    """Fills the empty fields of stored generations from rows with the same ids; counts what that adds."""
    for project_id, group in groupby(sorted(rows, key=lambda row: row.project_id), key=lambda row: row.project_id):
        members = list(group)
        for start in range(0, len(members), _CHUNK):
            _fill_project(connection, project_id, members[start : start + _CHUNK], deltas)


def _fill_project(connection: Connection, project_id: int, rows: Sequence[Row], deltas: Deltas) -> None:
    columns = [_TABLE.c[name] for name in _KNOWN]
    asked = select(*columns).where(with_ids(connection, project_id, {row.id for row in rows}))
    known: dict[str, dict[str, Any]] = {found["id"]: dict(found) for found in connection.execute(asked).mappings()}
    for row in rows:
        stored = known.get(row.id)
        if stored is None:
            continue  # erased since
        added = {name: getattr(row, name) for name in FILLABLE if stored[name] is None}
        added = {name: value for name, value in added.items() if value is not None}
        if not added:
            continue
        stored |= added
        together = {other: getattr(row, other) for name in added for other in FILLABLE[name]}
        connection.execute(
            update(_TABLE).where(_TABLE.c.seq == bindparam("filled")).values(added | together),
            {"filled": stored["seq"]},
        )
        deltas.add_filled(stored, added)
