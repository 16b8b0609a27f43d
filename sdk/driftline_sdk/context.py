"""Who is asking: session, user, variant and tags of the code that runs now."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Awaitable, Mapping
from contextvars import ContextVar, Token
from typing import Any, Callable, TypeVar, cast

from driftline_sdk.faults import swallow
from driftline_sdk.forgiving import forgiving

Result = TypeVar("Result")
_COROUTINE = 0x80  # inspect.CO_COROUTINE, without the 10 ms that inspect takes
_TAG_BYTES = 112  # two texts' headers and a place in a dict


class Scope:
    """What `context()` gave; use it in a `with` or `async with` statement. An inner scope adds to the outer one."""

    __slots__ = ("_token", "is_open", "session_id", "tags", "user_id", "variant", "weight")

    def __init__(
        self,
        session_id: str | None,
        user_id: str | None,
        variant: str | None,
        tags: Mapping[str, str] | None,
        route: str | None = None,
    ) -> None:
        self.session_id = session_id
        self.user_id = user_id
        self.variant = variant
        self.tags = (None if tags is None else tags_of(tags)) or {}
        if route is not None:
            self.tags["route"] = route
        self.is_open = False
        self.weight = 0
        self._token: Token[Scope | None] | None = None

    def __enter__(self) -> Scope:
        outer = current()
        try:
            if outer is not None:
                self.session_id = self.session_id or outer.session_id
                self.user_id = self.user_id or outer.user_id
                self.variant = self.variant or outer.variant
                if outer.tags:
                    self.tags = {**outer.tags, **self.tags}
            self.weight = weight_of_tags(self.tags)
        except Exception as error:  # noqa: BLE001 - whatever an application hands in
            swallow(error, "context")
        self.is_open = True
        self._token = _own.set(self)
        return self

    def __exit__(self, *_: object) -> None:
        self.is_open = False
        token, self._token = self._token, None
        if token is not None:
            try:  # noqa: SIM105 - suppress() costs ten times as much
                _own.reset(token)
            except ValueError:  # left in another task than it was entered in, as async generators may
                pass

    async def __aenter__(self) -> Scope:
        return self.__enter__()

    async def __aexit__(self, *error: object) -> None:
        self.__exit__(*error)


_own: ContextVar[Scope | None] = ContextVar("driftline_scope", default=None)
_inherited: ContextVar[Scope | None] = ContextVar("driftline_inherited_scope", default=None)


def tags_of(given: Mapping[str, str]) -> dict[str, str] | None:
    """A copy of the tags; None, and a word about it, for what are none."""
    try:
        return dict(given)
    except Exception:  # noqa: BLE001 - whatever an application hands in
        problem = TypeError(f"tags are a dict of names and texts, not {type(given).__name__}; they are left out")
    swallow(problem, "tags")
    return None


def weight_of_tags(tags: Mapping[str, str]) -> int:
    """About how many bytes of memory the tags take."""
    try:
        return _TAG_BYTES * len(tags) + sum(map(len, tags.values()))
    except TypeError:  # values that are no texts yet
        return 2 * _TAG_BYTES * len(tags)


def current() -> Scope | None:
    """The scope this code runs in: its own, else the one its thread was started in while that is still open.

    A worker thread that happened to be started inside some request must not carry that request's session for ever.
    """
    scope = _own.get()
    if scope is None:
        scope = _inherited.get()
        if scope is not None and not scope.is_open:
            return None
    return scope


@forgiving
def carry(function: Callable[..., Result]) -> Callable[..., Result]:
    """The function, or coroutine function, bound to the scope of this moment, for what starts it later.

    >>> from driftline_sdk import context
    >>> with context(session_id="s1"):
    ...     later = carry(lambda: current().session_id)
    >>> later()
    's1'
    """
    scope = current()
    code = getattr(function, "__code__", None)
    if code is not None and code.co_flags & _COROUTINE:

        @functools.wraps(function, updated=())
        async def carried_async(*args: Any, **kwargs: Any) -> Any:
            token = _own.set(scope)
            try:
                return await cast("Awaitable[Any]", function(*args, **kwargs))
            finally:
                with contextlib.suppress(ValueError):  # thrown away in another task than it ran in
                    _own.reset(token)

        return cast("Callable[..., Result]", carried_async)

    @functools.wraps(function, updated=())
    def carried(*args: Any, **kwargs: Any) -> Result:
        token = _own.set(scope)
        inherited = _inherited.set(None)  # a pool's worker may have been started inside somebody else's scope
        try:
            return function(*args, **kwargs)
        finally:
            _inherited.reset(inherited)
            _own.reset(token)

    return carried


def start_inherited(scope: Scope, function: Callable[[], Result]) -> Result:
    """Runs a thread's body under the scope the thread was started in."""
    _inherited.set(scope)
    return function()
