"""Lets `context()` reach threads: the standard library copies context into asyncio tasks, but not into threads."""

from __future__ import annotations

import functools
import threading
from typing import Any, Callable

from driftline_sdk.context import carry, current, start_inherited
from driftline_sdk.faults import quietly

_followed = False


def follow_threads() -> None:
    """Makes `Thread.start` and `ThreadPoolExecutor.submit` hand the current scope on; done once, at the first scope.

    Work given to an executor keeps its scope to its end. A thread keeps the scope it was started in until the `with`
    block ends; `driftline_sdk.carry` binds a function for longer.
    """
    global _followed
    if _followed:
        return
    _followed = True
    from concurrent.futures import ThreadPoolExecutor

    start = threading.Thread.start
    submit: Any = ThreadPoolExecutor.submit

    @functools.wraps(start)
    def start_with_scope(self: threading.Thread) -> None:
        scope = current()
        if scope is not None:
            carried = functools.partial(start_inherited, scope, self.run)
            quietly(functools.partial(setattr, self, "run", carried), "following a thread")
        start(self)

    @functools.wraps(submit)
    def submit_with_scope(self: ThreadPoolExecutor, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
        return submit(self, carry(fn) if callable(fn) else fn, *args, **kwargs)

    threading.Thread.start = start_with_scope  # type: ignore[method-assign]
    ThreadPoolExecutor.submit = submit_with_scope  # type: ignore[method-assign, assignment]
