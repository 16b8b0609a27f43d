"""One production call, from the moment it starts to the moment it is handed to the queue."""

from __future__ import annotations

import itertools
import os
import time
from collections.abc import Mapping
from contextvars import ContextVar, Token
from sys import getsizeof
from typing import Any, Callable, Protocol

from driftline_sdk import process
from driftline_sdk.attributes import unknown
from driftline_sdk.context import current, tags_of, weight_of_tags
from driftline_sdk.faults import quietly, swallow
from driftline_sdk.forgiving import forgiving
from driftline_sdk.intake import RECORD_BYTES, held

_LONGEST_ERROR = 4_000
_LONGEST_ID = 64
NOT_MEASURED = float("nan")  # a latency that becomes an absent field


class Ids:
    """Unique ids that sort by process start, so that the collector's index grows at its end.

    32 hexadecimal digits: milliseconds of the process's start, 48 random bits, a counter. A forked child must `renew`.
    """

    __slots__ = ("_next", "_prefix")

    def __init__(self) -> None:
        self.renew()

    def renew(self) -> None:
        """Starts a new series, as a new process must."""
        self._prefix = f"{time.time_ns() // 1_000_000:012x}{os.urandom(6).hex()}"
        self._next = itertools.count().__next__

    def new(self) -> str:
        """The next id of this process."""
        return f"{self._prefix}{self._next():08x}"


ids = Ids()


def short(identifier: str) -> str:
    """The identifier, or its SHA-256 when it is longer than the 64 characters a record id may have.

    Raises:
        TypeError: It is no text, as where the id of a generation that never was is handed on.
    """
    if not isinstance(identifier, str):
        raise TypeError(f"the id of a generation is a text; got {identifier!r}")
    if len(identifier) <= _LONGEST_ID:
        return identifier
    from hashlib import sha256

    return sha256(identifier.encode("utf-8", "replace")).hexdigest()


def _identified(given: object) -> str:
    try:
        text = str(given)
    except Exception as error:  # noqa: BLE001 - an object whose text cannot be made
        swallow(error, "the id of a generation")
        text = ""
    return short(text) if text else ids.new()


class Taker(Protocol):
    """Where a generation goes when it has ended: the client, or the open generation around it."""

    @property
    def tags(self) -> Mapping[str, str]: ...

    @property
    def variant(self) -> str | None: ...

    def submit(self, generation: Generation, /) -> None: ...


class Generation:
    """What is known of one call so far; every attribute without an underscore may be set until it ends.

    `started_at` is epoch seconds; `latency_ms` runs to the last byte, `ttft_ms` to the first content token; `status`
    is `ok`, `error` or `aborted` (the user broke off). Left None, they are found out. An attribute that does not exist
    may be set, too: it is told once the generation ends, and not sent.
    """

    __slots__ = (
        "__dict__",  # for what is misspelt
        "__weakref__",
        "_asked",
        "_clock",
        "_ended",
        "_inner",
        "_scope",
        "_tags",
        "_taker",
        "_token",
        "calls",
        "cost_usd",
        "error",
        "id",
        "input",
        "input_tokens",
        "late",
        "latency_ms",
        "model",
        "output",
        "output_tokens",
        "pieces",
        "sample_rate",
        "session_id",
        "started_at",
        "status",
        "ttft_ms",
        "user_id",
        "variant",
        "weight",
    )

    def __init__(
        self,
        taker: Taker | None,
        id: str | None = None,  # noqa: A002 - the wire's own word
        input: Any = None,  # noqa: A002
        model: str | None = None,
        variant: str | None = None,
        session_id: str | None = None,
        user_id: str | None = None,
        tags: Mapping[str, str] | None = None,
        route: str | None = None,
    ) -> None:
        self.id = ids.new() if id is None else _identified(id)
        self.model = model
        self.output: Any = None
        self.pieces: list[str] | None = None
        self.latency_ms: float | None = None
        self.ttft_ms: float | None = None
        self.input_tokens: int | None = None
        self.output_tokens: int | None = None
        self.cost_usd: float | None = None
        self.status: str | None = None
        self.error: str | None = None
        self.sample_rate = 1.0
        self.calls: dict[Any, list[Any]] | None = None  # by place: the name, pieces of the arguments
        self.late: Callable[[Generation], object] | None = None
        self._taker = taker
        self._token: Token[Generation | None] | None = None
        self._inner: list[Generation] | None = None
        self._ended = taker is None
        self._tags: dict[str, str] | None = None if tags is None else tags_of(tags)
        self._scope = scope = current()
        if scope is not None:
            variant = variant or scope.variant
            session_id = session_id or scope.session_id
            user_id = user_id or scope.user_id
        if route is not None:
            self.tags["route"] = route
        self.variant = variant
        self.session_id = session_id
        self.user_id = user_id
        if taker is None:
            self.input, self.weight, self._asked = input, 0, input
        else:
            self.input, self.weight = held(input)
            self._asked = self.input
            if variant is None:
                self.variant = taker.variant
        self.started_at = time.time()
        self._clock = time.perf_counter()

    @forgiving
    def first_token(self) -> None:
        """Marks the arrival of the first content token; later calls change nothing."""
        if self.ttft_ms is None:
            self.ttft_ms = (time.perf_counter() - self._clock) * 1e3

    @forgiving
    def usage(
        self, input_tokens: int | None = None, output_tokens: int | None = None, cost_usd: float | None = None
    ) -> None:
        """Sets what is given: tokens read, tokens written, price in US dollars."""
        if input_tokens is not None:
            self.input_tokens = input_tokens
        if output_tokens is not None:
            self.output_tokens = output_tokens
        if cost_usd is not None:
            self.cost_usd = cost_usd

    @forgiving
    def piece(self, text: str) -> None:
        """Adds streamed text to the output; the first piece marks the first token; None is no piece."""
        if not isinstance(text, str):
            if text is None:
                return
            text = text.decode("utf-8", "replace") if isinstance(text, (bytes, bytearray)) else str(text)
        if self.pieces is None:
            self.pieces = []
            self.first_token()
        self.pieces.append(text)
        self.weight += getsizeof(text) + 8

    @forgiving
    def tool_call(self, name: str = "", arguments: Any = "", place: Any = None) -> None:
        """Adds a tool call to the output, after its text; with the same `place` again, a further piece of that call.

        `arguments` are JSON, whole or in pieces, or what is to become JSON.
        """
        if self.calls is None:
            self.calls = {}
        call = self.calls.setdefault(len(self.calls) if place is None else place, ["", []])
        call[0] += name or ""
        kept, size = held(arguments)
        call[1].append(kept)
        self.weight += 128 + size

    def fail(self, error: BaseException) -> None:
        """Ends the generation with the status that this exception means.

        Exceptions that are no `Exception` (task cancelled, generator closed, Ctrl-C) say that somebody broke off.
        """
        if self._ended:
            return
        try:
            self.error = f"{type(error).__name__}: {error}"[:_LONGEST_ERROR]
        except Exception:  # noqa: BLE001 - an exception whose text cannot be made
            self.error = type(error).__name__
        self.end("error" if isinstance(error, Exception) else "aborted")

    def end(self, status: str | None = None) -> None:
        """Ends the generation and hands it to the queue; only the first end counts. Never raises, never waits."""
        if self._ended:
            return
        self._ended = True
        try:
            if self.latency_ms is None:
                self.latency_ms = (time.perf_counter() - self._clock) * 1e3
            if self._inner is not None:
                quietly(self._fill_in, "reading what was called inside")
            if self.status is None:
                self.status = status or ("ok" if self.error is None else "error")
            self._taker.submit(self)  # type: ignore[union-attr]
        except Exception as error:  # noqa: BLE001 - the application must not notice
            if not isinstance(self._taker, Generation):
                process.lose(self.variant)
            swallow(error, "ending a generation")
        if self.__dict__:
            swallow(AttributeError(unknown(self.__dict__)), "generation")

    def read_late(self) -> None:
        """Does the reading that was put off with `late`, in the sender's thread, so that the caller is not kept."""
        late = self.late
        if late is not None:
            self.late = None
            late(self)

    @property
    def tags(self) -> dict[str, str]:
        """This call's own tags; those of the context and of `init` join them when it is sent."""
        if self._tags is None:
            self._tags = {}
        return self._tags

    @tags.setter
    def tags(self, tags: Mapping[str, str] | None) -> None:
        self._tags = None if tags is None else tags_of(tags)

    def all_tags(self) -> dict[str, str]:
        """The tags of `init`, of the context and of this call, the later ones winning."""
        shared = self._taker.tags if self._taker is not None else {}
        return {**shared, **(self._scope.tags if self._scope is not None else {}), **(self._tags or {})}

    def weigh(self) -> int:
        """Adds what became known since the start to `weight`, about the bytes of memory this takes while it waits."""
        weight = self.weight + RECORD_BYTES
        if self.input is not self._asked:
            self.input, size = held(self.input)
            weight += size
        output = self.output
        if type(output) is str:
            weight += getsizeof(output)
        elif output is not None:
            self.output, size = held(output)
            weight += size
        if self._tags:
            weight += weight_of_tags(self._tags)
        if self._scope is not None:
            weight += self._scope.weight
        self.weight = weight
        return weight

    @property
    def is_open(self) -> bool:
        """Whether this has not ended yet."""
        return not self._ended

    def submit(self, inner: Generation) -> None:
        """Takes note of a call that a watched library made inside this one, instead of recording it by itself."""
        if self._ended:  # a task that outlives the generation it was started in speaks for itself
            if self._taker is not None:
                self._taker.submit(inner)
            return
        inner.read_late()
        if self._inner is None:
            self._inner = []
        self._inner.append(inner)

    def _fill_in(self) -> None:
        """Fills what the application left open: tokens and cost as sums, the rest from the last inner call."""
        inner = self._inner or []
        for name in ("input_tokens", "output_tokens", "cost_usd"):
            known = [value for value in (getattr(call, name) for call in inner) if value is not None]
            if getattr(self, name) is None and known:
                setattr(self, name, sum(known))
        last = inner[-1]
        self.model = self.model or last.model
        if self.input is None:
            self.input = last.input
        if self.output is None and self.pieces is None and self.calls is None:
            self.output, self.pieces, self.calls = last.output, last.pieces, last.calls
            self.weight += last.weight
        if self.ttft_ms is None and len(inner) == 1 and last.ttft_ms is not None:
            self.ttft_ms = (last._clock - self._clock) * 1e3 + last.ttft_ms


def leave(token: Token[Generation | None]) -> None:
    """Closes what `opened.set` opened."""
    try:  # noqa: SIM105 - suppress() costs ten times as much
        opened.reset(token)
    except ValueError:  # left in another task than it was entered in
        pass


opened: ContextVar[Generation | None] = ContextVar("driftline_open_generation", default=None)
