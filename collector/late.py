"""Messages that come as log events of their own: joined to their span, whichever of the two is first."""

import hashlib
from collections.abc import Iterable, Sequence
from typing import Any

import msgspec
from msgspec import Struct
from msgspec.structs import asdict
from sqlalchemy import Connection, select, update

from collector.insert import insert_new
from collector.rows import Row
from driftline.store.generations import with_ids
from driftline.store.tables import Generation, SpanMessage

_ENCODE = msgspec.json.Encoder()
_GENERATION = Generation.__table__  # type: ignore[attr-defined]
_MESSAGE = SpanMessage.__table__  # type: ignore[attr-defined]
_CHUNK = 500

Key = tuple[int, str]  # project and id of a generation


class MessageRow(Struct):
    """A SpanMessage to be stored; the fields are the table's columns."""

    project_id: int
    generation_id: str
    at: int
    role: str | None
    content: str
    chars: int
    digest: str = ""
    joined: bool = False

    def __post_init__(self) -> None:
        told = _ENCODE.encode([self.at, self.role, self.content])
        self.digest = hashlib.blake2b(told, digest_size=24).hexdigest()


def join_messages(connection: Connection, messages: Sequence[MessageRow], added: Iterable[Row]) -> None:
    """Stores messages and puts them into their generations; `added` are generations that are new in this transaction.

    A generation whose span carried its own content keeps that.
    """
    if messages:
        connection.execute(insert_new(connection, SpanMessage), [asdict(message) for message in messages])
    elif connection.exec_driver_sql("SELECT 1 FROM span_message LIMIT 1").first() is None:
        return  # nobody sends messages apart from spans
    keys = {(m.project_id, m.generation_id) for m in messages}
    keys |= {(row.project_id, row.id) for row in added if row.input is None or row.output is None}
    for project_id in sorted({project for project, _ in keys}):
        ids = sorted(identity for project, identity in keys if project == project_id)
        for start in range(0, len(ids), _CHUNK):
            _join(connection, project_id, ids[start : start + _CHUNK])


def _join(connection: Connection, project_id: int, ids: Sequence[str]) -> None:
    ours = (_MESSAGE.c.project_id == project_id) & _MESSAGE.c.generation_id.in_(ids)
    told: dict[str, list[Any]] = {}
    for message in connection.execute(select(_MESSAGE).where(ours).order_by(_MESSAGE.c.at, _MESSAGE.c.id)):
        told.setdefault(message.generation_id, []).append(message)
    if not told:
        return
    columns = (_GENERATION.c.seq, _GENERATION.c.id, _GENERATION.c.input, _GENERATION.c.output)
    there = with_ids(connection, project_id, told)
    joined: list[int] = []
    for found in connection.execute(select(*columns).where(there)).all():
        changes: dict[str, Any] = {}
        for side, has in (("input", found.input is not None), ("output", found.output is not None)):
            members = [m for m in told[found.id] if (m.role is None) == (side == "output")]
            if members and (not has or any(m.joined for m in members)):
                changes[side] = _whole(side, members)
                changes[f"{side}_chars"] = sum(m.chars for m in members)
                joined += [m.id for m in members]
        if changes:
            connection.execute(update(_GENERATION).where(_GENERATION.c.seq == found.seq).values(changes))
    if joined:
        connection.execute(update(_MESSAGE).where(_MESSAGE.c.id.in_(joined)).values(joined=True))


def _whole(side: str, members: Sequence[Any]) -> str:
    if side == "output":
        return "\n".join(m.content for m in members)
    return _ENCODE.encode([{"role": m.role, "content": m.content} for m in members]).decode()
