"""What a generation has, and what is said and done about names that it does not have."""

from __future__ import annotations

import functools
from collections.abc import Iterable
from typing import Any

SET_BY_APPS = (
    "output", "input", "model", "variant", "session_id", "user_id", "tags", "error", "status", "started_at",
    "latency_ms", "ttft_ms", "input_tokens", "output_tokens", "cost_usd",
)  # fmt: skip
METHODS = ("first_token", "usage", "piece", "tool_call", "fail", "end")
_OF_OTHER_SDKS = ("close", "finish", "log", "score", "stop", "update")


def unknown(names: Iterable[str]) -> str:
    """What to say of names that a generation does not have.

    >>> unknown(["outptu"])[:63]
    "a generation has no 'outptu'; did you mean 'output'? (it has ou"
    """
    said = []
    for name in names:
        near = _meant(name)
        said.append(f"a generation has no {name!r}" + (f"; did you mean {near!r}?" if near else ""))
    return f"{', '.join(said)} (it has {', '.join(SET_BY_APPS)} and the methods {', '.join(METHODS)})"


def stand_in(name: str) -> Any:
    """What reading a name that does not exist answers: None, or what does nothing where a method was meant."""
    called = _meant(name) in METHODS or name in _OF_OTHER_SDKS or name.startswith(("set_", "add_"))
    return _nothing if called else None


@functools.lru_cache(maxsize=256)
def _meant(name: str) -> str | None:
    from difflib import get_close_matches  # 3 ms, for those who make such a mistake

    return next(iter(get_close_matches(name, SET_BY_APPS + METHODS, 1)), None)


def _nothing(*_: object, **__: object) -> None:
    """Stands for a method that does not exist."""
