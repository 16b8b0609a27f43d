"""Sessions of requests and clients of httpx, whatever model server they talk to."""

from __future__ import annotations

import functools
from collections.abc import AsyncIterator, Iterator
from types import ModuleType
from typing import Any

from driftline_sdk.calls import LATER, Question, watch_method
from driftline_sdk.generation import Generation
from driftline_sdk.libraries.shapes import Events, asks, read_answer, read_question
from driftline_sdk.streams import see, settle


def watch(client: Any) -> Any:
    """Watches a requests.Session, httpx.Client or httpx.AsyncClient, or with the module itself all of them.

    A POST whose JSON holds messages, a prompt, inputs or contents is a generation. Answers are read in the shapes of
    OpenAI, Anthropic, Gemini, Ollama, vLLM and TGI, streamed or whole; any other is kept as its text. JSON is parsed in
    the sender's thread, unless it is streamed.
    """
    if isinstance(client, ModuleType):
        for name in ("Session", "Client", "AsyncClient"):
            if hasattr(client, name):
                watch_method(getattr(client, name), "send", _ask_of_any)
    else:
        watch_method(client, "send", _ask)
    return client


def _ask_of_any(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Question | None:
    return _ask(args[1:], kwargs)


def _ask(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Question | None:
    request = args[0] if args else kwargs["request"]
    if request.method != "POST":
        return None
    if hasattr(request, "path_url"):  # requests
        path, body = request.path_url, request.body
        body = body.encode() if isinstance(body, str) else body
    else:
        path = request.url.raw_path.decode("ascii", "replace")
        try:
            body = request.content
        except RuntimeError:  # a body that is streamed, and not read yet
            return None
    if not asks(path, body):
        return None
    question = functools.partial(read_question, path=path, body=body)
    answered = functools.partial(_answered, question, bool(kwargs.get("stream")))
    return Question(body, None, answered, _nothing)


def _nothing(generation: Generation, piece: Any) -> None:
    """Responses are no iterators; their bodies are tapped instead."""


def _answered(question: Any, streams: bool, generation: Generation, response: Any) -> object:
    if streams:
        question(generation)
        tap(response, generation)
        return LATER
    content, status = response.content, response.status_code
    generation.weight += len(content)
    if status >= 400:
        read_answer(generation, status, content)
        generation.late = question
    else:
        generation.late = functools.partial(_read, question, status, content)
    return None


def _read(question: Any, status: int, content: bytes, generation: Generation) -> None:
    question(generation)
    read_answer(generation, status, content)


def _end(_: Generation, events: Events) -> None:
    events.end()


def tap(response: Any, generation: Generation) -> None:
    """Lets the generation see the body of a response while the application reads it, whichever way it does."""
    _Body(response, generation)


class _Body:
    """A body that the application reads piece by piece; also what it reads it with is a piece of the response."""

    def __init__(self, response: Any, generation: Generation) -> None:
        self._response = response
        self._generation = generation
        self._events = Events(generation, response.status_code)
        self._reading = False
        self._decoder: Any = None
        for name, tapped in (
            ("iter_content", self._tapped),
            ("iter_bytes", self._tapped),
            ("iter_raw", self._tapped_raw),
            ("aiter_bytes", self._tapped_async),
            ("aiter_raw", self._tapped_raw_async),
            ("close", self._closed),
            ("aclose", self._closed_async),
        ):
            method = getattr(response, name, None)
            if method is not None:
                setattr(response, name, functools.partial(tapped, method))

    def __del__(self) -> None:
        settle(self._generation)  # nobody holds the response any more

    def _tapped(self, read: Any, *args: Any, **kwargs: Any) -> Iterator[Any]:
        pieces = read(*args, **kwargs)
        try:
            while True:
                self._reading = True  # httpx reads raw pieces, and closes the response, from inside the read
                try:
                    piece = next(pieces)
                except StopIteration:
                    see(self._generation, _end, self._events)
                    return
                finally:
                    self._reading = False
                see(self._generation, self._feed, piece)
                yield piece
        except BaseException as error:
            settle(self._generation, error)
            raise

    async def _tapped_async(self, read: Any, *args: Any, **kwargs: Any) -> AsyncIterator[Any]:
        pieces = read(*args, **kwargs)
        try:
            while True:
                self._reading = True
                try:
                    piece = await pieces.__anext__()
                except StopAsyncIteration:
                    see(self._generation, _end, self._events)
                    return
                finally:
                    self._reading = False
                see(self._generation, self._feed, piece)
                yield piece
        except BaseException as error:
            settle(self._generation, error)
            raise

    def _tapped_raw(self, read: Any, *args: Any, **kwargs: Any) -> Iterator[Any]:
        if self._reading:
            return read(*args, **kwargs)  # type: ignore[no-any-return]
        self._decode()
        return self._tapped(read, *args, **kwargs)

    def _tapped_raw_async(self, read: Any, *args: Any, **kwargs: Any) -> AsyncIterator[Any]:
        if self._reading:
            return read(*args, **kwargs)  # type: ignore[no-any-return]
        self._decode()
        return self._tapped_async(read, *args, **kwargs)

    def _decode(self) -> None:
        """What the application passes on as it came, as proxies do, is read by us as it was meant."""
        decoder = getattr(self._response, "_get_content_decoder", None)
        self._decoder = decoder() if decoder is not None else None

    def _feed(self, _: Generation, piece: Any) -> None:
        if self._decoder is not None:
            piece = self._decoder.decode(piece)
        self._events.feed(piece if isinstance(piece, bytes) else piece.encode())

    def _closed(self, close: Any, *args: Any) -> Any:
        if not self._reading:
            settle(self._generation)
        return close(*args)

    async def _closed_async(self, close: Any, *args: Any) -> Any:
        if not self._reading:
            settle(self._generation)
        return await close(*args)
