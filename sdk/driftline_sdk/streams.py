"""Streams that the application iterates as before, while a generation sees every piece."""

from __future__ import annotations

from typing import Any, Callable

from driftline_sdk.faults import note, swallow
from driftline_sdk.generation import Generation, leave, opened

Read = Callable[[Generation, Any], object]


class Tap:
    """Stands for a library's stream or a generator: the same attributes, the same class to `isinstance`.

    The generation ends `ok` when the stream is exhausted or has said that it is complete, with the error it raises,
    and `aborted` when it is closed, left or thrown away before.
    """

    def __init__(self, stream: Any, generation: Generation, read: Read, iterator: Any = None) -> None:
        self._tapped = stream
        self._iterator = iter(stream) if iterator is None else iterator
        self._generation = generation
        self._read = read

    def __iter__(self) -> Tap:
        return self

    def __next__(self) -> Any:
        return self._step(self._iterator.__next__)

    def send(self, value: Any) -> Any:
        """As a generator's."""
        return self._step(self._iterator.send, value)

    def throw(self, *error: Any) -> Any:
        """As a generator's."""
        return self._step(self._iterator.throw, *error)

    def close(self) -> None:
        """As the stream's own; the answer counts as broken off unless it was complete."""
        try:
            self._tapped.close()
        finally:
            settle(self._generation)

    def __enter__(self) -> Tap:
        self._tapped.__enter__()
        return self

    def __exit__(self, *error: Any) -> Any:
        try:
            return self._tapped.__exit__(*error)
        finally:
            settle(self._generation, error[1])

    def __getattr__(self, name: str) -> Any:
        return getattr(self._tapped, name)

    @property  # type: ignore[misc]
    def __class__(self) -> Any:
        return type(self._tapped)

    def __del__(self) -> None:
        settle(self._generation)

    def _step(self, move: Callable[..., Any], *values: Any) -> Any:
        token = opened.set(self._generation)
        try:
            piece = move(*values)
        except StopIteration:
            self._generation.end()
            raise
        except BaseException as error:
            self._generation.fail(error)
            raise
        finally:
            leave(token)
        see(self._generation, self._read, piece)
        return piece


class AsyncTap:
    """The same for asynchronous streams."""

    def __init__(self, stream: Any, generation: Generation, read: Read) -> None:
        self._tapped = stream
        self._iterator = stream.__aiter__()
        self._generation = generation
        self._read = read

    def __aiter__(self) -> AsyncTap:
        return self

    async def __anext__(self) -> Any:
        token = opened.set(self._generation)
        try:
            piece = await self._iterator.__anext__()
        except StopAsyncIteration:
            self._generation.end()
            raise
        except BaseException as error:
            self._generation.fail(error)
            raise
        finally:
            leave(token)
        see(self._generation, self._read, piece)
        return piece

    async def close(self) -> None:
        """As the stream's own."""
        try:
            closing = self._tapped.close()
            if hasattr(type(closing), "__await__"):
                await closing
        finally:
            settle(self._generation)

    async def aclose(self) -> None:
        """As the stream's own."""
        try:
            await self._tapped.aclose()
        finally:
            settle(self._generation)

    async def __aenter__(self) -> AsyncTap:
        await self._tapped.__aenter__()
        return self

    async def __aexit__(self, *error: Any) -> Any:
        try:
            return await self._tapped.__aexit__(*error)
        finally:
            settle(self._generation, error[1])

    def __getattr__(self, name: str) -> Any:
        return getattr(self._tapped, name)

    @property  # type: ignore[misc]
    def __class__(self) -> Any:
        return type(self._tapped)

    def __del__(self) -> None:
        settle(self._generation)


def see(generation: Generation, read: Read, piece: Any) -> None:
    """Lets the generation read one piece; a mistake in the reading is ours, not the stream's."""
    try:
        read(generation, piece)
    except Exception as error:  # noqa: BLE001 - a shape of the library that we did not foresee
        swallow(error, "reading a stream")


def settle(generation: Generation, error: BaseException | None = None) -> None:
    """Ends the generation of a stream that nobody reads any more."""
    try:
        if generation.status is not None:
            generation.end()
        elif error is not None and not isinstance(error, GeneratorExit):
            generation.fail(error)
        else:
            generation.end("aborted")
    except Exception as problem:  # noqa: BLE001 - may run in a destructor, where nothing can be raised
        note(problem, "ending a stream")
