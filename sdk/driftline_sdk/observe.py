"""`@observe`: a function of the application as a generation."""

from __future__ import annotations

import functools
from collections.abc import AsyncIterator, Generator, Mapping
from types import AsyncGeneratorType, CoroutineType, GeneratorType
from typing import Any, Callable, TypeVar, overload

from driftline_sdk import process
from driftline_sdk.calls import Begin, Begun, Question, received, recorded, waited_for
from driftline_sdk.faults import shown, swallow
from driftline_sdk.forgiving import forgiving
from driftline_sdk.generation import Generation, leave, opened
from driftline_sdk.intake import held
from driftline_sdk.streams import AsyncTap, Tap, see, settle

Function = TypeVar("Function", bound=Callable[..., Any])
_SELF = ("self", "cls")


@overload
def observe(function: Function) -> Function: ...
@overload
def observe(
    *,
    model: str | None = None,
    variant: str | None = None,
    route: str | None = None,
    tags: Mapping[str, str] | None = None,
    input: Callable[..., Any] | None = None,
    output: Callable[[Any], Any] | None = None,
) -> Callable[[Function], Function]: ...
@forgiving
def observe(
    function: Any = None,
    *,
    model: str | None = None,
    variant: str | None = None,
    route: str | None = None,
    tags: Mapping[str, str] | None = None,
    input: Callable[..., Any] | None = None,  # noqa: A002
    output: Callable[[Any], Any] | None = None,
) -> Any:
    """Records every call of a function: plain, `async`, generator or asynchronous generator.

    The input is the only argument, or all of them by name; the output is what is returned, or the texts yielded,
    joined, also by a generator or a watched stream that is returned. `input(*args, **kwargs)` and `output(result)`
    say it otherwise, `output` of each piece that is yielded. What a watched library does inside adds its tokens and
    model instead of being recorded again, and its text where only other things are yielded.

    >>> from driftline_sdk import observe
    >>> @observe(model="echo", route="demo")
    ... def answer(question: str) -> str:
    ...     return question.upper()
    >>> answer("is it still as good?")
    'IS IT STILL AS GOOD?'
    """

    def decorate(function: Any) -> Any:
        if isinstance(function, (staticmethod, classmethod)):
            return type(function)(decorate(function.__func__))
        if not callable(function):
            swallow(TypeError(f"observe() decorates functions, not {shown(function)}"), "observe")
            return function
        named = _argument_names(function)

        def begin(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Begun | None:
            try:
                client = process.client()
                if client is None:
                    return None
                asked = _asked(named, args, kwargs) if input is None else input(*args, **kwargs)
                return Generation(client, None, asked, model, variant, None, None, tags, route), question
            except Exception as error:  # noqa: BLE001 - the application must not notice
                process.lose(variant)
                swallow(error, "observe")
                return None

        def finish(generation: Generation, result: Any) -> None:
            if generation.output is None:
                generation.output = result if output is None else output(result)

        def piece(generation: Generation, yielded: Any) -> None:
            _add_piece(generation, yielded if output is None else output(yielded))

        question = Question(None, None, finish, piece)
        return _wrapped(function, begin)

    return decorate if function is None else decorate(function)


def _wrapped(function: Any, begin: Begin) -> Any:
    import inspect  # 10 ms, for those who decorate

    if inspect.isasyncgenfunction(function):

        @functools.wraps(function)
        async def each_async(*args: Any, **kwargs: Any) -> AsyncIterator[Any]:
            inner = function(*args, **kwargs)
            begun = begin(args, kwargs)
            if begun is None:
                async for piece in inner:
                    yield piece
                return
            generation, question = begun
            move: Callable[..., Any] = inner.__anext__
            sent: tuple[Any, ...] = ()
            try:
                while True:
                    token = opened.set(generation)
                    try:
                        piece = await move(*sent)
                    except StopAsyncIteration:
                        generation.end()
                        return
                    finally:
                        leave(token)
                    see(generation, question.streamed, piece)
                    try:
                        move, sent = inner.asend, ((yield piece),)
                    except GeneratorExit:
                        await inner.aclose()
                        raise
                    except BaseException as error:  # noqa: BLE001 - thrown in by the consumer: the function's to handle
                        move, sent = inner.athrow, (error,)
            except BaseException as error:
                settle(generation, error)
                raise

        return each_async

    if inspect.isgeneratorfunction(function):

        @functools.wraps(function)
        def each(*args: Any, **kwargs: Any) -> Generator[Any, Any, Any]:
            inner = function(*args, **kwargs)
            begun = begin(args, kwargs)
            return (yield from (inner if begun is None else Tap(inner, begun[0], begun[1].streamed, inner)))

        return each

    return recorded(function, begin, _finished)


def _finished(generation: Generation, question: Question, result: Any, awaited: bool) -> Any:
    """Ends the generation with a result, or has it end as a coroutine, generator or tapped stream does."""
    if type(result) is CoroutineType and not awaited:
        return waited_for(result, generation, question, _finished)
    if type(result) in _STREAMS:
        return received(generation, question, result, awaited)
    try:
        question.answered(generation, result)
    except Exception as error:  # noqa: BLE001 - the application must not notice
        swallow(error, "observe")
    generation.end()
    return result


_STREAMS = (Tap, AsyncTap, GeneratorType, AsyncGeneratorType)


def _add_piece(generation: Generation, piece: Any) -> None:
    if isinstance(piece, str):
        generation.piece(piece)
    elif isinstance(piece, (bytes, bytearray)):
        generation.piece(piece.decode("utf-8", "replace"))
    elif piece is not None:
        generation.first_token()
        if generation.late is None:
            generation.late = _Others()
        generation.weight += generation.late.add(piece)  # type: ignore[attr-defined]


class _Others:
    """What a generator yielded that is no text: the output where nothing says it in words."""

    __slots__ = ("_pieces",)

    def __init__(self) -> None:
        self._pieces: list[Any] = []

    def add(self, piece: Any) -> int:
        kept, size = held(piece)
        self._pieces.append(kept)
        return size

    def __call__(self, generation: Generation) -> None:
        if generation.output is None and generation.pieces is None and generation.calls is None:
            generation.output = self._pieces


def _argument_names(function: Any) -> tuple[str, ...]:
    import inspect

    try:
        return tuple(inspect.signature(function).parameters)
    except Exception:  # noqa: BLE001 - a signature of the application's own making
        return ()


def _asked(names: tuple[str, ...], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """The only argument as it is, several as a dict by name; `self` is not one."""
    if args and names and names[0] in _SELF:
        names, args = names[1:], args[1:]
    if len(args) + len(kwargs) == 1:
        return args[0] if args else next(iter(kwargs.values()))
    given = dict(zip(names, args))
    given.update(kwargs)
    return given or None
