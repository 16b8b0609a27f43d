"""What waits in memory between the application's threads and the sender."""

from __future__ import annotations

import threading
from collections import deque
from sys import getsizeof
from typing import Any

RECORD_BYTES = 1_024  # a record with its queue entry and ids, without texts and tags
_DEPTH = 6
_WIDE = 1_000


class Intake:
    """A queue with two bounds, entries and bytes; whoever finds it full is told so at once and never waits.

    The lock guards a few additions, so holding it takes well under a microsecond. It is reentrant because a garbage
    collection inside it may end an abandoned stream, which offers a record from the same thread.
    """

    __slots__ = ("_entries", "_lock", "bytes", "max_bytes", "max_entries", "offered")

    def __init__(self, max_entries: int, max_bytes: int) -> None:
        self.max_entries = max_entries
        self.max_bytes = max_bytes
        self.bytes = 0
        self.offered = 0
        self._entries: deque[tuple[Any, int]] = deque()
        self._lock = threading.RLock()

    def __len__(self) -> int:
        return len(self._entries)

    def offer(self, item: object, weight: int) -> int:
        """Takes the item in and answers how many now wait; 0 means full and not taken."""
        entries = self._entries
        with self._lock:
            self.offered += 1
            if len(entries) >= self.max_entries or self.bytes + weight > self.max_bytes:
                return 0
            self.bytes += weight
            entries.append((item, weight))
            return len(entries)

    def take(self, max_entries: int, max_bytes: int) -> list[Any]:
        """The oldest items, at most so many; stops after the one that passes `max_bytes`."""
        items: list[Any] = []
        weights = 0
        while len(items) < max_entries and weights < max_bytes:
            try:
                item, weight = self._entries.popleft()
            except IndexError:
                break
            items.append(item)
            weights += weight
        if weights:
            with self._lock:
                self.bytes -= weights
        return items


def held(value: Any, depth: int = 0) -> tuple[Any, int]:
    """The value as it is now, and about how many bytes of memory keeping it takes.

    Lists and dicts are copied, because a chat history is usually appended to right after the call; texts are not.
    Objects other than plain data are kept as they are and charged one kibibyte; what is nested deeper than 6 levels
    or wider than 1000 entries is charged by a guess, so that the caller's cost stays bounded.

    >>> held([{"role": "user", "content": "hi"}])[0]
    [{'role': 'user', 'content': 'hi'}]
    """
    kind = type(value)
    if kind is str or kind is bytes:
        return value, getsizeof(value)
    if kind is list or kind is tuple:
        if depth >= _DEPTH or len(value) > _WIDE:
            return list(value), 256 * len(value)
        kept = []
        total = 64
        for entry in value:
            copy, size = held(entry, depth + 1)
            kept.append(copy)
            total += size + 8
        return kept, total
    if kind is dict:
        if depth >= _DEPTH or len(value) > _WIDE:
            return dict(value), 256 * len(value)
        pairs = {}
        total = 232
        for name, entry in value.items():
            if type(entry) is str:
                pairs[name] = entry
                total += getsizeof(entry)
            else:
                pairs[name], size = held(entry, depth + 1)
                total += size
        return pairs, total
    if value is None or kind is int or kind is float or kind is bool:
        return value, 32
    return value, 1_024
