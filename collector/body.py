"""Reading a request's body: inflated, never larger than allowed, and within what the process may hold."""

import asyncio
import zlib
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

from starlette.requests import ClientDisconnect, Request

from collector.budget import Budget
from driftline.errors import DriftlineError, TooLarge

MAX_BODY = 20 * 2**20  # bytes, after decompression
ARRIVAL_S = 30.0  # a body must arrive within
_MAX_MIB = MAX_BODY // 2**20
_MAX_SENT = MAX_BODY + MAX_BODY // 64  # bytes as they come: what cannot be compressed grows a little
_STEP = 256 * 1024  # bytes inflated at a time


class UnreadableBody(DriftlineError):
    """The body is not what its headers say: cut off, or compressed in another way. Sending it again will not help."""


class TooSlow(DriftlineError):
    """The body did not arrive in time: it would hold room that others need."""

    status = 408


class Body:
    """An inflated body of `size` bytes, which can be taken once: nobody holds it while its rows wait for the commit."""

    def __init__(self, parts: list[bytes]) -> None:
        self.size = sum(map(len, parts))
        self._parts = parts

    def take(self) -> bytes:
        """The bytes; nothing the second time."""
        whole = self._parts[0] if len(self._parts) == 1 else b"".join(self._parts)
        self._parts.clear()
        return whole


@asynccontextmanager
async def body_of(request: Request, budget: Budget) -> AsyncIterator[Body]:
    """The inflated body; its bytes count against the budget until the block ends.

    Raises:
        TooLarge: It is larger than MAX_BODY; a bomb is noticed while inflating.
        UnreadableBody: Its compression is unknown or broken, or it is cut off.
        TooSlow: It took longer than ARRIVAL_S to arrive.
        Overloaded: The process holds as much as it may.
    """
    inflate = _decoder(request.headers.get("content-encoding", "").strip().lower())
    parts: list[bytes] = []
    taken = _Taken(budget)
    try:
        try:
            async with asyncio.timeout(ARRIVAL_S):
                await _receive(request, inflate, taken, parts)
        except TimeoutError:
            raise TooSlow(f"The body did not arrive within {ARRIVAL_S:.0f} seconds. Send smaller batches.") from None
        except ClientDisconnect:
            raise UnreadableBody("The body is cut off: the connection was closed before its end.") from None
        yield Body(parts)
    finally:
        budget.give_back(taken.size)


class _Taken:
    # What of the budget one request has taken.
    def __init__(self, budget: Budget) -> None:
        self._budget = budget
        self.size = 0

    def add(self, size: int) -> None:
        if self.size + size > MAX_BODY:
            raise TooLarge(f"The body is larger than {_MAX_MIB} MiB after decompression. Send smaller batches.")
        self._budget.take(size)
        self.size += size


async def _receive(request: Request, inflate: "_Plain | _Inflate", taken: _Taken, parts: list[bytes]) -> None:
    sent = 0
    async for chunk in request.stream():
        sent += len(chunk)
        if sent > _MAX_SENT:  # empty parts of an archive, which never come to anything
            raise TooLarge(f"The body is larger than {_MAX_MIB} MiB. Send smaller batches.")
        for part in inflate.feed(chunk):
            if part:
                taken.add(len(part))
                parts.append(part)
    inflate.close()


class _Plain:
    def feed(self, chunk: bytes) -> Iterator[bytes]:
        yield chunk

    def close(self) -> None:
        pass


class _Inflate:
    # gzip (several members, as `cat a.gz b.gz` makes them) or deflate, which some send without the zlib header.
    def __init__(self, *, gzip: bool) -> None:
        self._bits = zlib.MAX_WBITS | 16 if gzip else zlib.MAX_WBITS
        self._gzip = gzip
        self._fresh = True
        self._head = b""
        self._inflate = zlib.decompressobj(self._bits)

    def feed(self, chunk: bytes) -> Iterator[bytes]:
        if self._fresh:  # whether there is a header is seen by two bytes
            chunk, self._head = self._head + chunk, b""
            if len(chunk) < 2:
                self._head = chunk
                return
        while chunk:
            if self._inflate.eof:
                if not self._gzip:
                    raise UnreadableBody("The deflated body goes on after its end.")
                self._inflate = zlib.decompressobj(self._bits)
            try:
                part = self._inflate.decompress(chunk, _STEP)
            except zlib.error as error:
                if not (self._fresh and not self._gzip):
                    raise UnreadableBody(f"The body cannot be decompressed: {error}.") from None
                self._fresh, self._inflate = False, zlib.decompressobj(-zlib.MAX_WBITS)
                continue
            self._fresh = False
            chunk = self._inflate.unconsumed_tail or self._inflate.unused_data
            yield part

    def close(self) -> None:
        if self._head or not (self._inflate.eof or self._fresh):
            raise UnreadableBody("The compressed body is cut off.")


def _decoder(encoding: str) -> _Plain | _Inflate:
    if encoding in ("", "identity"):
        return _Plain()
    if encoding in ("gzip", "x-gzip"):
        return _Inflate(gzip=True)
    if encoding == "deflate":
        return _Inflate(gzip=False)
    raise UnreadableBody(f"Content-Encoding {encoding[:40]!r} is not known; send gzip, deflate or none.")
