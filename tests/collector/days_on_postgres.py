"""What the tests of days share: the server's clock set by hand, and calls stored as a collector stores them."""

from typing import Any

from sqlalchemy import text
from sqlmodel import select

from collector.record import Record
from collector.rows import Privacy, row_of
from collector.writer import Batch, Writer
from driftline.moment import DAY, SECOND, now_us
from driftline.store.days import parts
from driftline.store.engine import engine, reading
from driftline.store.ids import id_hash
from driftline.store.tables import GenerationKey

TODAY = 20_000
FULL = Privacy("full")


class Clock:
    """The server's clock, set by hand."""

    def __init__(self) -> None:
        self.day = TODAY

    def __call__(self, _connection: Any) -> int:
        return self.day * DAY + 23 * 3600 * SECOND


def row(project: int, identity: str, *, started: int | None = None, **more: Any) -> Any:
    """A call; `started` in microseconds."""
    now = now_us()
    told = {"output": "x", "variant": "v"} | more
    return row_of(Record(id=identity, started_at=0, **told), now if started is None else started, project, FULL, now)


def store(*batches: Batch) -> list[tuple[int, int]]:
    """Accepted and duplicates of each batch, written by a collector that has just started."""
    writer = Writer(engine())
    writer.start()
    try:
        outcomes = [writer.submit(batch).result() for batch in batches]
    finally:
        writer.stop()
    return [(outcome.accepted, outcome.duplicates) for outcome in outcomes]


def stored() -> dict[str, tuple[int, str]]:
    """Key and partition of every call by its id."""
    with reading() as session:
        found = session.execute(
            text("SELECT project_id, id, seq, tableoid::regclass::text FROM generation ORDER BY seq")
        ).all()
        entries = [(entry.hash, entry.seq) for entry in session.exec(select(GenerationKey))]
    called = [(id_hash(project, identity), seq) for project, identity, seq, _ in found]
    assert sorted(entries) == sorted(called), "each call has its entry, and no entry is without a call"
    return {identity: (seq, part) for _, identity, seq, part in found}


def names() -> list[str]:
    """The partitions, oldest first."""
    with reading() as session:
        return [part.name for part in parts(session.connection())]
