"""The SDK's own mistakes: counted, said once, and kept away from the application."""

from __future__ import annotations

import contextlib
import os
from typing import Callable

_seen: dict[str, int] = {}


def strict() -> bool:
    """Whether `DRIFTLINE_SDK_STRICT=1` asks for own errors to be raised, as tests do."""
    return os.environ.get("DRIFTLINE_SDK_STRICT") == "1"


def swallow(error: BaseException, where: str) -> None:
    """Counts an own error under the place it came from; the first one of a place is logged as a warning.

    Raises:
        BaseException: The error itself, in strict mode.
    """
    if strict():
        raise error
    note(error, where)


def note(error: BaseException, where: str) -> None:
    """Like `swallow`, for threads of our own: nobody could catch what is raised there."""
    if _first(where):
        warn("%s failed, the application is not affected: %s: %s", where, type(error).__name__, error)


def tell(sentence: str, where: str) -> None:
    """Counts what an application handed in and cannot be sent as it is; the first of a place is logged."""
    if _first(where):
        warn("%s", sentence)


def shown(value: object) -> str:
    """A value for a sentence: its beginning, or its class where it cannot be written down."""
    try:
        return repr(value)[:60]
    except Exception:  # noqa: BLE001 - somebody else's object
        return f"a {type(value).__name__}"


def _first(where: str) -> bool:
    first = where not in _seen
    _seen[where] = _seen.get(where, 0) + 1
    return first


def warn(message: str, *values: object) -> None:
    """One warning on the logger `driftline_sdk`; a log handler that fails stays the log handler's problem."""
    import logging  # 9 ms that most processes never need

    with contextlib.suppress(Exception):  # a broken handler of the host must not reach the host through us
        logging.getLogger("driftline_sdk").warning(message, *values)


def counted() -> dict[str, int]:
    """Own errors so far by the place they came from."""
    return dict(_seen)


def quietly(action: Callable[[], object], where: str) -> None:
    """Runs the action; whatever it raises is swallowed under `where`."""
    try:
        action()
    except Exception as error:  # noqa: BLE001 - the application must not notice
        swallow(error, where)
