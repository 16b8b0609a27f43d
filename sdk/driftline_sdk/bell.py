"""What wakes the sender."""

from __future__ import annotations

import contextlib
from queue import Empty, SimpleQueue


class Bell:
    """Wakes the one thread that waits; a ring while nobody does is heard by the next wait, unless it is cleared.

    It may be rung at any line of any thread, as destructors and signal handlers do that record something. An Event may
    not: rung by a destructor inside its own `set` or `wait`, it waits for itself.
    """

    def __init__(self) -> None:
        self._rings: SimpleQueue[None] = SimpleQueue()

    def set(self) -> None:
        """Rings."""
        self._rings.put(None)

    def wait(self, timeout_s: float) -> None:
        """Returns when it has been rung, or the time is over."""
        with contextlib.suppress(Empty):
            self._rings.get(timeout=timeout_s)

    def clear(self) -> None:
        """Forgets rings that nobody waited for."""
        while not self._rings.empty():
            self._rings.get_nowait()  # there is one listener only
