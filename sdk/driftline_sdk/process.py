"""The one client of this process, and what the process's life does to it."""

from __future__ import annotations

import atexit
import os
import threading
from typing import TYPE_CHECKING, Any

from driftline_sdk.faults import quietly
from driftline_sdk.settings import settings

if TYPE_CHECKING:
    from driftline_sdk.client import Client

active: Client | None = None
_clients: list[Client] = []
_hooked = False
_looked = False  # whether the environment need not be asked any more
_changing = threading.RLock()


def start(given: dict[str, Any]) -> Client | None:
    """Makes a client from these settings the active one; an earlier one takes calls until then, and ends beside it."""
    global active, _looked
    chosen = settings(given)
    _hook()
    with _changing:
        try:
            made = None
            if chosen.enabled:
                from driftline_sdk.client import Client  # 30 ms, http.client most of it, that an import does not cost

                made = Client(chosen)
                _clients[:] = [*(known for known in _clients if not known.ended), made]
            previous, active = active, made
        finally:
            _looked = True
    if previous is not None:
        _end(previous)
    return active


def client() -> Client | None:
    """The active client; without `init`, one from the environment if that names an endpoint."""
    if active is None and not _looked and os.environ.get("DRIFTLINE_ENDPOINT"):
        _hook()
        with _changing:  # who comes while another thread starts it waits for that, and loses no record
            if active is None and not _looked:
                start({})
    return active


def _hook() -> None:
    global _hooked
    if not _hooked:
        _hooked = True
        atexit.register(_at_exit)
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=_in_child)


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
    ending = threading.Thread(target=previous.shutdown, args=(previous.settings.exit_timeout_s,), daemon=True)
    quietly(ending.start, "ending an earlier client")


def _at_exit() -> None:
    for known in _clients:
        quietly(lambda known=known: known.shutdown(known.settings.exit_timeout_s), "the exit")  # type: ignore[misc]


def _in_child() -> None:
    global _changing
    _changing = threading.RLock()  # another thread of the parent may have held it
    _clients[:] = [known for known in _clients if known is active]
    for known in _clients:
        quietly(known.forked, "the fork")
