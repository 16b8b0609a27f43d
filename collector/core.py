"""What all ways into the collector share: the writer, what may be held, and who may send."""

import asyncio
import os
import sys
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from typing import TypeVar, TypeVarTuple

from fastapi import FastAPI
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from collector.admission import Admission
from collector.budget import Budget
from collector.decoder import WORTHWHILE, Decoder
from collector.items import Refused
from collector.limits import Limits, TooMany
from collector.sender import Sender
from collector.signals import READERS, batch_of
from collector.writer import Batch, Outcome, Writer
from driftline.errors import DriftlineError, StoreUnavailable
from driftline.settings import settings
from driftline.store.engine import engine

A = TypeVarTuple("A")
T = TypeVar("T")

RETRY_AFTER_S = 1
PATIENCE_S = 8.0  # a request is answered within this: OpenTelemetry's exporters give up after ten seconds

# what any request may be answered
REFUSALS = {
    400: "The body cannot be read; sending it again will not help.",
    401: "The key is missing, unknown or revoked.",
    403: "The key may not write.",
    408: "The body did not arrive in time.",
    413: "The body is larger than 20 MiB inflated, or holds too many items.",
    429: "The key has sent as much as it may: send it again after the seconds in Retry-After.",
    503: "Not now: send it again after the seconds in Retry-After.",
}
LARGE = 2**22  # bytes from which on a body is read in a thread, so that others are answered meanwhile

# The thread that writes is often away for a moment in the database. With Python's own 5 ms it would wait that long for
# its turn at every return while another thread decodes, and a commit would take several times as long.
_SWITCH_S = 0.0005


def _decoders() -> int:
    # One core does not read and write at the same time.
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return settings().decoders if cores > 1 else 0


def retry_after_s(error: DriftlineError) -> int | None:
    """After how many seconds to send again what was answered with this error; None where that does not help."""
    if isinstance(error, TooMany):
        return error.retry_after_s
    return RETRY_AFTER_S if isinstance(error, StoreUnavailable) else None


class Collector:
    """One process's collector; runs as long as its lifespan."""

    def __init__(self, budget: Budget | None = None, decoders: int | None = None) -> None:
        self.budget = budget or Budget()
        self.admission = Admission()
        self.limits = Limits()
        self.answered: Counter[int] = Counter()  # HTTP status → requests since the start, gRPC's under the same numbers
        self._writer: Writer | None = None
        self.decoders: list[Decoder] = []  # while it runs
        self._n_decoders = decoders

    @asynccontextmanager
    async def lifespan(self, _app: FastAPI) -> AsyncIterator[None]:
        """Runs the writer while the app runs; at the end what was submitted is written."""
        writer = self._writer = Writer(engine())
        usual = sys.getswitchinterval()
        sys.setswitchinterval(min(usual, _SWITCH_S))
        writer.start()
        self.decoders = [Decoder() for _ in range(_decoders() if self._n_decoders is None else self._n_decoders)]
        try:
            yield
        finally:
            self._writer = None
            for stop in (*(decoder.stop for decoder in self.decoders), writer.stop):
                await asyncio.to_thread(stop)
            sys.setswitchinterval(usual)

    @property
    def has_room(self) -> bool:
        """Whether a request would be taken in now: it runs, and holds less than nine tenths of what it may."""
        return self._writer is not None and self.budget.taken < 0.9 * self.budget.room

    def figures(self) -> Iterator[Metric]:
        """What this process has done and holds, for Prometheus."""
        writer = self._writer
        yield GaugeMetricFamily(
            "driftline_collector_held_bytes", "Request bodies on their way to the store.", self.budget.taken
        )
        yield GaugeMetricFamily("driftline_collector_room_bytes", "What of them it may hold.", self.budget.room)
        yield GaugeMetricFamily(
            "driftline_collector_waiting_requests", "Requests that wait for a commit.", writer.waiting if writer else 0
        )
        beside = sum(decoder.done for decoder in self.decoders)
        yield CounterMetricFamily("driftline_collector_read_beside", "Bodies that another process read.", value=beside)
        yield CounterMetricFamily("driftline_collector_commits", "Commits.", value=writer.commits if writer else 0)
        yield CounterMetricFamily(
            "driftline_collector_stored", "Items stored as new.", value=writer.stored if writer else 0
        )
        answered = CounterMetricFamily("driftline_collector_requests", "Requests by answer.", labels=["status"])
        for status, n in sorted(self.answered.items()):
            answered.add_metric([str(status)], n)
        yield answered

    async def read(self, body: bytes, reader: Callable[[bytes, *A], T], *args: *A) -> T:
        """What a reader makes of a body; of a large one in a thread."""
        return await asyncio.to_thread(reader, body, *args) if len(body) > LARGE else reader(body, *args)

    async def read_signal(self, signal: str, body: bytes, sender: Sender, as_json: bool) -> tuple[Batch, Refused]:
        """What an OTLP request of a signal holds; large ones of spans are read beside this process, if that has room.

        Raises:
            Undecodable, TooLarge: The body is no such request.
        """
        if signal == "traces" and len(body) >= WORTHWHILE and self.decoders and self._writer is not None:
            free = min(self.decoders, key=lambda decoder: decoder.waiting)
            spans = await free.read(body, sender, as_json)
            if spans is not None:
                return batch_of(sender, spans.rows, spans.refused, spans.others)
        return await self.read(body, READERS[signal], sender, as_json)

    async def admit(self, authorization: str | None) -> Sender:
        """The sender behind an Authorization header, whose next request may come in.

        Raises:
            Unauthenticated, Forbidden: The key is missing, unknown, revoked, or may not write.
            TooMany: The key has sent as much as it may.
            StoreUnavailable: The store does not answer.
        """
        sender = await self.admission.admit(authorization)
        self.limits.check(sender.project_id, sender.name, sender.calls_per_minute, sender.collectors)
        return sender

    async def store(self, batch: Batch, size: int, sender: Sender) -> Outcome:
        """Waits until the sender's batch, made of a body of `size` bytes, is on disk.

        Raises:
            StoreUnavailable: It could not be stored now, or not in time. Sending it again does no harm.
        """
        self.limits.charge(sender.project_id, sender.name, sender.calls_per_minute, batch.size, sender.collectors)
        if batch.empty:
            return Outcome(0, 0)
        if self._writer is None:
            raise StoreUnavailable("The collector is not running. Start the app with its lifespan.")
        done = self._writer.submit(batch)
        try:
            return await asyncio.wait_for(asyncio.wrap_future(done), PATIENCE_S)
        except TimeoutError:
            # The request ends, but its rows are held until the store has answered.
            self.budget.owe(size)
            done.add_done_callback(lambda _: self.budget.give_back(size))
            raise StoreUnavailable(f"The store did not answer within {PATIENCE_S:.0f} seconds. Send again.") from None
