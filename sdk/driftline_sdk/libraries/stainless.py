"""Client libraries made with Stainless (OpenAI, Anthropic): all of their methods end in `client.request`."""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any, Callable

from driftline_sdk.calls import LATER, MARK, Question, received, watch_method
from driftline_sdk.faults import quietly
from driftline_sdk.generation import Generation, opened
from driftline_sdk.streams import settle

_RAW = "x-stainless-raw-response"


def watch_client(client: Any, endpoints: Mapping[str, Callable[[Mapping[str, Any]], Question]]) -> Any:
    """Watches the requests to these paths, and the clients that `copy` and `with_options` make of this one.

    Parsed, raw (`with_raw_response`) and streamed answers are read, and bodies that the application streams by itself
    (`with_streaming_response`, or raw and streamed).
    """

    def ask(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Question | None:
        options = kwargs["options"] if "options" in kwargs else args[1]
        read = endpoints.get(options.url)
        body = options.json_data
        if read is None or not isinstance(body, Mapping) or options.method.lower() != "post":
            return None
        question = read(body)
        raw = _raw(options.headers)
        if raw is None:
            return question
        streams = raw == "stream" or bool(kwargs.get("stream"))
        return question._replace(answered=_tap_raw if streams else functools.partial(_read_raw, question))

    watch_method(client, "request", ask, _received)
    for name in ("copy", "with_options"):
        make = getattr(client, name, None)
        if make is not None and not getattr(make, MARK, False):
            setattr(client, name, _watching_copies(make, endpoints))
    return client


def attributes(text: str | bytes) -> Any:
    """JSON with its objects as attributes, as the library's own models have them."""
    return json.loads(text, object_hook=lambda fields: SimpleNamespace(**fields))


def _received(generation: Generation, question: Question, answer: Any, awaited: bool) -> Any:
    given = received(generation, question, answer, awaited)
    if given is not answer:  # a stream, tapped
        quietly(functools.partial(_hear_closing, generation, answer.response), "watching a stream's response")
    return given


def _hear_closing(generation: Generation, response: Any) -> None:
    """OpenAI's helpers (`client.responses.stream`) close the response, past the stream that they read."""
    close, aclose = response.close, response.aclose

    def broken_off() -> None:
        if opened.get() is not generation:  # else it is being read: the library closes what has ended or failed
            settle(generation)

    def closed() -> None:
        broken_off()
        close()

    async def closed_async() -> None:
        broken_off()
        await aclose()

    response.close, response.aclose = closed, closed_async


def _watching_copies(make: Callable[..., Any], endpoints: Mapping[str, Any]) -> Callable[..., Any]:
    @functools.wraps(make)
    def copy(*args: Any, **kwargs: Any) -> Any:
        return watch_client(make(*args, **kwargs), endpoints)

    setattr(copy, MARK, True)
    return copy


def _raw(headers: Any) -> str | None:
    if isinstance(headers, Mapping):
        for name, value in headers.items():
            if name.lower() == _RAW:
                return str(value)
    return None


def _read_raw(question: Question, generation: Generation, answer: Any) -> None:
    question.answered(generation, attributes(answer.http_response.content))


def _tap_raw(generation: Generation, answer: Any) -> object:
    from driftline_sdk.libraries.http import tap  # which reads with what is above

    tap(answer.http_response, generation)
    return LATER
