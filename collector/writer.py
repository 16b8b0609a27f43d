"""Group commit: whatever requests have brought while the last commit ran is written in the next one.

One thread writes. A request waits for the commit that holds its rows, so a 2xx means they are on disk; many requests
share its cost. The more there is to do, the more a commit holds.
"""

import logging
import queue
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from threading import Thread
from typing import Any

import msgspec
from sqlalchemy import Connection, Engine, insert
from sqlalchemy.exc import IntegrityError, OperationalError

from collector.checkpoints import Checkpoints
from collector.days import Days
from collector.fill import fill_empty
from collector.insert import insert_generations, insert_new, raise_client_counts, take_turn
from collector.late import MessageRow, join_messages
from collector.metrics import MetricRow
from collector.names import Names
from collector.record import Client
from collector.rollups import Deltas
from collector.rows import FeedbackRow, Row
from driftline.errors import StoreUnavailable
from driftline.moment import MINUTE, now_us
from driftline.store.engine import explain_failure
from driftline.store.tables import Feedback, Intake, MetricPoint, Rollup

log = logging.getLogger("collector.writer")

_ADD_ROLLUPS = insert(Rollup)
# Of one commit: when so many have come together, it begins. A commit itself costs as much as a hundred rows, so larger
# ones are hardly cheaper, but whoever is first in one waits for its last, and they all send again at the same moment.
MAX_ROWS = 512


@dataclass(slots=True)
class Batch:
    """What one request brought, checked and ready to be stored."""

    project_id: int
    rows: list[Row] = field(default_factory=list)
    feedback: list[FeedbackRow] = field(default_factory=list)
    messages: list[MessageRow] = field(default_factory=list)
    points: list[MetricRow] = field(default_factory=list)
    client: Client | None = None
    intake: dict[str, int] = field(default_factory=dict)  # reason → count, of what is not stored
    fills: bool = False  # whether a repeated row fills fields that were empty

    @property
    def size(self) -> int:
        """How many items the request held, stored or not."""
        held = len(self.rows) + len(self.feedback) + len(self.messages) + len(self.points)
        return held + sum(self.intake.values())

    @property
    def empty(self) -> bool:
        """Whether there is nothing to write."""
        sent = self.rows or self.feedback or self.messages or self.points or self.intake
        return not (sent or (self.client and self.client.counts))


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a batch."""

    accepted: int
    duplicates: int


@dataclass(slots=True)
class _Waiting:
    batch: Batch
    done: "Future[Outcome]"


class Writer:
    """The thread that writes; `start` before use, `stop` writes what is left."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._queue: queue.SimpleQueue[_Waiting | None] = queue.SimpleQueue()  # bounded by the Budget of its callers
        self._names = Names()
        self._checkpoints = Checkpoints(engine)
        self._days = Days(engine)
        self.commits = self.stored = 0  # since the start
        self._thread = Thread(target=self._run, name="collector-writer", daemon=True)

    def start(self) -> None:
        """Begins to write."""
        self._thread.start()
        self._checkpoints.start()

    def stop(self) -> None:
        """Writes what was submitted and ends."""
        self._queue.put(None)
        self._thread.join()
        self._checkpoints.stop()

    def submit(self, batch: Batch) -> "Future[Outcome]":
        """Completes once the batch is committed; fails with StoreUnavailable when nothing of it was stored."""
        done: Future[Outcome] = Future()
        done.set_running_or_notify_cancel()  # from here on it cannot be cancelled: the sender may leave, the rows stay
        self._queue.put(_Waiting(batch, done))
        return done

    def _run(self) -> None:
        running = True
        while running:
            group: list[_Waiting] = []
            running = self._gather(group)
            if group:
                self._commit(group)

    def _gather(self, group: list[_Waiting]) -> bool:
        rows = 0
        waiting = self._queue.get()
        while waiting is not None:
            group.append(waiting)
            rows += len(waiting.batch.rows)
            if rows >= MAX_ROWS or self._queue.empty():
                return True
            waiting = self._queue.get()
        return False

    def _commit(self, group: list[_Waiting]) -> None:
        try:
            outcomes = self._write([waiting.batch for waiting in group])
        except Exception as error:  # noqa: BLE001 - the thread must live, and every waiting request hear of it
            self._names.forget()
            if len(group) > 1 and not self._store_is_away(error):
                for waiting in group:  # one batch spoiled it for the others
                    self._commit([waiting])
                return
            failure = self._explain(error)
            for waiting in group:
                waiting.done.set_exception(failure)
            return
        self.commits += 1
        self.stored += sum(outcome.accepted for outcome in outcomes)
        for waiting, outcome in zip(group, outcomes, strict=True):
            waiting.done.set_result(outcome)
        self._checkpoints.written(sum(len(waiting.batch.rows) for waiting in group))

    def _store_is_away(self, error: Exception) -> bool:
        return isinstance(error, OperationalError | self._driver.OperationalError)

    def _explain(self, error: Exception) -> Exception:
        if isinstance(error, IntegrityError | self._driver.IntegrityError):
            log.warning("A batch does not fit the store: %s", error)
            return StoreUnavailable("The batch does not fit the store; was its project just deleted? Send it again.")
        if not self._store_is_away(error):
            log.error("A batch could not be stored.", exc_info=error)
            return error
        if not isinstance(error, OperationalError):
            error = OperationalError(None, None, error)
        explained = explain_failure(error)
        log.warning("%s", explained.message)
        return explained

    @property
    def _driver(self) -> Any:
        return self._engine.dialect.dbapi  # its errors come bare where rows go to it directly

    @property
    def waiting(self) -> int:
        """How many requests wait for the next commit."""
        return self._queue.qsize()

    def _write(self, batches: Sequence[Batch]) -> list[Outcome]:
        self._days.open()
        with self._engine.begin() as connection:
            take_turn(connection)
            now = now_us()
            rows = [row for batch in batches for row in batch.rows]
            for row in rows:
                row.received_at = now
            self._names.resolve(connection, rows)
            repeated = insert_generations(connection, rows)
            deltas = Deltas()
            new = [row for place, row in enumerate(rows) if place not in repeated]
            for row in new:
                deltas.add(row)
            if repeated:
                filling = [batch.fills for batch in batches for _ in batch.rows]
                fill_empty(connection, [rows[place] for place in sorted(repeated) if filling[place]], deltas)
            join_messages(connection, [m for batch in batches for m in batch.messages], new)
            added = list(deltas.rows())
            if added:
                connection.execute(_ADD_ROLLUPS, added)
            points = [msgspec.structs.asdict(point) for batch in batches for point in batch.points]
            if points:
                connection.execute(insert_new(connection, MetricPoint), points)
            outcomes = _outcomes(connection, batches, repeated)
            _write_counts(connection, batches, outcomes, now)
        return outcomes


def _outcomes(connection: Connection, batches: Sequence[Batch], repeated: set[int]) -> list[Outcome]:
    outcomes = []
    start = 0
    for batch in batches:
        places = range(start, start + len(batch.rows))
        start = places.stop
        known = sum(place in repeated for place in places) if repeated else 0
        new = 0
        if batch.feedback:
            given = [msgspec.structs.asdict(row) for row in batch.feedback]
            added = insert_new(connection, Feedback).returning(Feedback.__table__.c.seq)  # type: ignore[attr-defined]
            new = len(connection.execute(added, given).all())
        outcomes.append(Outcome(len(batch.rows) - known + new, known + len(batch.feedback) - new))
    return outcomes


def _write_counts(connection: Connection, batches: Sequence[Batch], outcomes: Sequence[Outcome], now: int) -> None:
    counts: dict[tuple[int, str], int] = {}
    clients: dict[tuple[int, str, str, str], int] = {}
    for batch, outcome in zip(batches, outcomes, strict=True):
        for reason, n in (("duplicates", outcome.duplicates), *batch.intake.items()):
            if n:
                counts[batch.project_id, reason] = counts.get((batch.project_id, reason), 0) + n
        if batch.client is not None:
            for drop in batch.client.counts:
                key = (batch.project_id, batch.client.id, drop.variant, drop.reason)
                clients[key] = max(drop.n, clients.get(key, 0))
    if counts:
        minute = now - now % MINUTE
        told = [{"project_id": p, "reason": reason, "n": n, "minute": minute} for (p, reason), n in counts.items()]
        connection.execute(insert(Intake), told)
    if clients:
        names = ("project_id", "client", "variant", "reason")
        heard = [dict(zip(names, key, strict=True), n=n, updated_at=now) for key, n in sorted(clients.items())]
        raise_client_counts(connection, heard)
