"""The one client of this process, and what the process's life does to it."""

from __future__ import annotations

import atexit
import os
from typing import TYPE_CHECKING, Any

from driftline_sdk.faults import quietly
from driftline_sdk.settings import settings

if TYPE_CHECKING:
    from driftline_sdk.client import Client

active: Client | None = None
_clients: list[Client] = []
_hooked = False
_looked = False


def start(given: dict[str, Any]) -> Client | None:
    """Makes a client from these settings the active one; an earlier one ends in the background."""
    global active, _hooked, _looked
    chosen = settings(given)
    _looked = True
    previous, active = active, None
    if previous is not None:
        _end(previous)
    if not chosen.enabled:
        return None
    if not _hooked:
        _hooked = True
        atexit.register(_at_exit)
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=_in_child)
    from driftline_sdk.client import Client  # 30 ms, http.client most of it, that `import driftline_sdk` does not cost

    active = Client(chosen)
    _clients[:] = [*(known for known in _clients if not known.closed), active]
    return active


def client() -> Client | None:
    """The active client; without `init`, one from the environment if that names an endpoint."""
    if active is None and not _looked and os.environ.get("DRIFTLINE_ENDPOINT"):
        return start({})
    return active


def lose(variant: str | None) -> None:
    """Counts a record that could not be made."""
    if active is not None:
        active.lose(variant)


def lose_feedback() -> None:
    """Counts feedback that could not be made."""
    if active is not None:
        active.lose_feedback()


def stop(timeout_s: float) -> bool:
    """Shuts the active client down."""
    return active is None or active.shutdown(timeout_s)


def _end(previous: Client) -> None:
    import threading

    ending = threading.Thread(target=previous.shutdown, args=(previous.settings.exit_timeout_s,), daemon=True)
    quietly(ending.start, "ending an earlier client")


def _at_exit() -> None:
    for known in _clients:
        quietly(lambda known=known: known.shutdown(known.settings.exit_timeout_s), "the exit")  # type: ignore[misc]


def _in_child() -> None:
    _clients[:] = [known for known in _clients if known is active]
    for known in _clients:
        quietly(known.forked, "the fork")
