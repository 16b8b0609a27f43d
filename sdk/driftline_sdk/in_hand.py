"""A generation in the application's hands, and what is said of mistakes made with it."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from driftline_sdk.attributes import stand_in, unknown
from driftline_sdk.faults import note, swallow
from driftline_sdk.forgiving import forgiving
from driftline_sdk.generation import Generation, leave, opened


class Told(Generation):
    """A generation for a `with` statement: a name that does not exist is told when it is read, and None.

    A method that does not exist does nothing. `__getattr__` makes every attribute slower to read, so that while it ends
    this is a plain `Generation`.
    """

    __slots__ = ()

    def __enter__(self) -> Generation:
        self._token = opened.set(self)
        self.started_at = time.time()
        self._clock = time.perf_counter()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: object) -> None:
        self.__class__ = Generation  # type: ignore[assignment]
        try:
            token, self._token = self._token, None
            if token is not None:
                leave(token)
            if error is None:
                self.end()
            else:
                self.fail(error)
        finally:
            self.__class__ = Ended if self._taker is not None else Told

    async def __aenter__(self) -> Generation:
        return self.__enter__()

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        self.__exit__(kind, error, trace)

    @forgiving
    def fail(self, error: BaseException) -> None:
        super().fail(error)

    @forgiving
    def end(self, status: str | None = None) -> None:
        if self._ended:
            return
        self.__class__ = Generation  # type: ignore[assignment]
        try:
            self.end(status)
        finally:
            self.__class__ = Ended

    if not TYPE_CHECKING:  # a type checker shall go on finding misspelt names

        def __getattr__(self, name: str) -> Any:
            if name.startswith("_"):  # protocols ask in this way what an object can do
                raise AttributeError(f"a generation has no attribute {name!r}")
            swallow(AttributeError(unknown([name])), "reading an attribute")
            return stand_in(name)


class InHand(Told):
    """The same before its end, without which it is not sent. What has ended has no destructor, which would cost."""

    __slots__ = ()

    def __del__(self) -> None:
        if not getattr(self, "_ended", True):
            problem = RuntimeError("a generation was never ended, and is not sent; use it in a with statement")
            note(problem, "throwing a generation away")


class Ended(Told):
    """The same after its end: what is set now may come too late, which is told."""

    __slots__ = ()

    def __setattr__(self, name: str, value: Any) -> None:
        object.__setattr__(self, name, value)
        if not name.startswith("_"):
            what = "a piece" if name in _OF_PIECES else repr(name)
            problem = f"the generation had ended when {what} came, which may not be sent; set it inside the block"
            swallow(AttributeError(problem), "setting an attribute")


_OF_PIECES = ("pieces", "calls", "weight")
