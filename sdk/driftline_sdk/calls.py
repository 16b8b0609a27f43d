"""Wraps a library's function so that each call becomes a generation; the rest is the library's own file."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any, Callable, NamedTuple

from driftline_sdk import process
from driftline_sdk.faults import swallow
from driftline_sdk.generation import Generation, Taker, leave, opened
from driftline_sdk.streams import AsyncTap, Read, Tap

MARK = "_driftline_watched"  # on what was replaced already
LATER = object()  # what `answered` returns when the generation will be ended by whoever reads the body


class Question(NamedTuple):
    """What one call asks, and how its answer is read.

    `answered` fills a generation from a whole answer, or returns `LATER`; `streamed` from one piece, and sets `status`
    with the piece that completes the answer.
    """

    input: Any
    model: str | None
    answered: Callable[[Generation, Any], object]
    streamed: Read
    tags: Mapping[str, str] | None = None


Ask = Callable[[tuple[Any, ...], dict[str, Any]], "Question | None"]
Begun = tuple[Generation, Question]
Begin = Callable[[tuple[Any, ...], dict[str, Any]], "Begun | None"]
Finish = Callable[[Generation, Question, Any, bool], Any]  # the answer, and whether it was awaited; gives it on


def taker() -> Taker | None:
    """Where a call made now belongs: to the open generation around it, else to the client; None without one."""
    outer = opened.get()
    return outer if outer is not None and outer.is_open else process.client()


def watch_method(owner: Any, name: str, ask: Ask, finish: Finish | None = None) -> None:
    """Replaces a method of one object by its watched self; doing so twice changes nothing."""
    call = getattr(owner, name)
    if not getattr(call, MARK, False):
        setattr(owner, name, watched(call, ask, finish))


def watched(call: Callable[..., Any], ask: Ask, finish: Finish | None = None) -> Callable[..., Any]:
    """The function, recording. Works for plain functions and those that return something to await.

    `ask` makes the question of the arguments, or None for a call that is no generation. Inside an open generation (one
    of yours, or of a library that calls another) no second record is made: what is learned goes to the open one.
    `finish` is `received` unless it is given.
    """

    def begin(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Begun | None:
        try:
            outer = taker()
            question = None if outer is None else ask(args, kwargs)
            if question is None:
                return None
            asked = Generation(outer, None, question.input, question.model, None, None, None, question.tags)
            return asked, question
        except Exception as error:  # noqa: BLE001 - the application must not notice
            process.lose(None)
            swallow(error, "watching a call")
            return None

    wrapper = recorded(call, begin, finish or received)
    setattr(wrapper, MARK, True)
    return wrapper


def recorded(call: Callable[..., Any], begin: Begin, finish: Finish) -> Callable[..., Any]:
    """The function, whose calls begin a generation, or none, and finish it with what they answer."""
    import inspect  # 10 ms, for those who watch or decorate

    if inspect.iscoroutinefunction(call):

        @functools.wraps(call)
        async def wrapper_async(*args: Any, **kwargs: Any) -> Any:
            begun = begin(args, kwargs)
            if begun is None:
                return await call(*args, **kwargs)
            return await waited_for(_called(begun[0], call, args, kwargs), *begun, finish)

        return wrapper_async

    @functools.wraps(call)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        begun = begin(args, kwargs)
        if begun is None:
            return call(*args, **kwargs)
        generation, question = begun
        return finish(generation, question, _called(generation, call, args, kwargs), False)

    return wrapper


def _called(generation: Generation, call: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    token = opened.set(generation)
    try:
        return call(*args, **kwargs)
    except BaseException as error:
        generation.fail(error)
        raise
    finally:
        leave(token)


async def waited_for(awaitable: Any, generation: Generation, question: Question, finish: Finish) -> Any:
    """What the awaitable answers, which finishes the generation."""
    token = opened.set(generation)
    try:
        answer = await awaitable
    except BaseException as error:
        generation.fail(error)
        raise
    finally:
        leave(token)
    return finish(generation, question, answer, True)


def received(generation: Generation, question: Question, answer: Any, awaited: bool) -> Any:
    """Ends the generation with a whole answer; a stream is handed on tapped and ends it later, as is what is to await.

    What can be iterated both ways, as LiteLLM's streams can, is iterated in the way in which it was asked for.
    """
    try:
        to_await, can_wait, can_go_on = _ways(type(answer))
        if to_await and not awaited:
            return waited_for(answer, generation, question, received)
        if can_wait and (awaited or not can_go_on):
            return AsyncTap(answer, generation, question.streamed)
        if can_go_on:
            return Tap(answer, generation, question.streamed)
        if question.answered(generation, answer) is LATER:
            return answer
    except Exception as error:  # noqa: BLE001 - a shape of the library that we did not foresee
        swallow(error, "reading an answer")
    generation.end()
    return answer


_known_ways: dict[type, tuple[bool, bool, bool]] = {}
_MOST_KINDS = 1_000


def _ways(kind: type) -> tuple[bool, bool, bool]:
    """Whether objects of a class are awaited, iterated asynchronously, iterated: three misses cost a microsecond."""
    ways = _known_ways.get(kind)
    if ways is None:
        ways = (hasattr(kind, "__await__"), hasattr(kind, "__anext__"), hasattr(kind, "__next__"))
        if len(_known_ways) < _MOST_KINDS:
            _known_ways[kind] = ways
    return ways
