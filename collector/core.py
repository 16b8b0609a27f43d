"""What all ways into the collector share: the writer, what may be held, and who may send."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import TypeVar, TypeVarTuple

from fastapi import FastAPI

from collector.admission import Admission
from collector.budget import Budget
from collector.writer import Batch, Outcome, Writer
from driftline.errors import StoreUnavailable
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
    503: "Not now: send it again after the seconds in Retry-After.",
}
LARGE = 2**20  # bytes from which on a body is read in a thread, so that others are answered meanwhile


class Collector:
    """One process's collector; runs as long as its lifespan."""

    def __init__(self, budget: Budget | None = None) -> None:
        self.budget = budget or Budget()
        self.admission = Admission()
        self._writer: Writer | None = None

    @asynccontextmanager
    async def lifespan(self, _app: FastAPI) -> AsyncIterator[None]:
        """Runs the writer while the app runs; at the end what was submitted is written."""
        writer = self._writer = Writer(engine())
        writer.start()
        try:
            yield
        finally:
            self._writer = None
            await asyncio.to_thread(writer.stop)

    async def read(self, body: bytes, reader: Callable[[bytes, *A], T], *args: *A) -> T:
        """What a reader makes of a body; of a large one in a thread."""
        return await asyncio.to_thread(reader, body, *args) if len(body) > LARGE else reader(body, *args)

    async def store(self, batch: Batch, size: int) -> Outcome:
        """Waits until the batch, made of a body of `size` bytes, is on disk.

        Raises:
            StoreUnavailable: It could not be stored now, or not in time. Sending it again does no harm.
        """
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
