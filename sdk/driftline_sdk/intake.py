"""What waits in memory between the application's threads and the sender."""

from __future__ import annotations

import threading
from collections import deque
from sys import getsizeof
from typing import Any, Protocol

RECORD_BYTES = 1_024  # a record with its queue entry and ids, without texts and tags
_DEPTH = 6
_WIDE = 1_000


class Item(Protocol):
    """What can wait here: it knows, once `weigh` was called, about how many bytes of memory it takes."""

    weight: int

    def weigh(self) -> int: ...


class Intake:
    """A queue with two bounds, entries and bytes; whoever finds it full is told so at once and never waits.

    The lock guards a few additions, so holding it takes well under a microsecond. It is reentrant because a garbage
    collection inside it may end an abandoned stream, which offers a record from the same thread.
    """

    __slots__ = ("_items", "_lock", "bytes", "max_bytes", "max_entries", "offered")

    def __init__(self, max_entries: int, max_bytes: int) -> None:
        self.max_entries = max_entries
        self.max_bytes = max_bytes
        self.bytes = 0
        self.offered = 0
        self._items: deque[Any] = deque()
        self._lock = threading.RLock()

    def __len__(self) -> int:
        return len(self._items)

    def offer(self, item: Item) -> int:
        """Takes the weighed item in and answers how many now wait; 0 means full and not taken."""
        items = self._items
        weight = item.weight
        with self._lock:
            self.offered += 1
            if len(items) >= self.max_entries or self.bytes + weight > self.max_bytes:
                return 0
            self.bytes += weight
            items.append(item)
            return len(items)

    def refuse(self) -> None:
        """Counts an item as offered that could not be made."""
        with self._lock:
            self.offered += 1

    def withdraw(self) -> None:
        """Takes an item back that was offered and not taken."""
        with self._lock:
            self.offered -= 1

    def close(self) -> None:
        """Takes nothing more: once this returns, what was taken is all there will be."""
        with self._lock:
            self.max_entries = 0

    def take(self, max_entries: int, max_bytes: int) -> list[Any]:
        """The oldest items, at most so many; stops after the one that passes `max_bytes`."""
        items: list[Any] = []
        weights = 0
        while len(items) < max_entries and weights < max_bytes:
            try:
                item = self._items.popleft()
            except IndexError:
                break
            items.append(item)
            weights += item.weight
        if weights:
            with self._lock:
                self.bytes -= weights
        return items


class Messages(list[Any]):
    """A list of dicts, kept flat: of each its length, its names, its values.

    Copying a chat history of a hundred messages would otherwise hand a hundred objects to the garbage collector, whose
    runs are most of what a caller could ever feel of this SDK.
    """

    __slots__ = ()

    def unfolded(self) -> list[dict[str, Any]]:
        """The messages as they were."""
        messages = []
        place = 0
        while place < len(self):
            number = self[place]
            names = self[place + 1 : place + 1 + number]
            messages.append(dict(zip(names, self[place + 1 + number : place + 1 + 2 * number])))
            place += 1 + 2 * number
        return messages


def held(value: Any, depth: int = 0) -> tuple[Any, int]:
    """The value as it is now, and about how many bytes of memory keeping it takes.

    Lists and dicts are copied, because a chat history is usually appended to right after the call; texts are not.
    Objects other than plain data are kept as they are and charged one kibibyte; what is nested deeper than 6 levels
    or wider than 1000 entries is charged by a guess, so that the caller's cost stays bounded.

    >>> held([{"role": "user", "content": "hi"}])[0].unfolded()
    [{'role': 'user', 'content': 'hi'}]
    """
    kind = type(value)
    if kind is str or kind is bytes:
        return value, getsizeof(value)
    if kind is list or kind is tuple:
        if depth >= _DEPTH or len(value) > _WIDE:
            return list(value), 256 * len(value)
        flat = Messages()
        total = 64
        for entry in value:
            if type(entry) is not dict:
                break
            total += 64 + 16 * len(entry)
            flat.append(len(entry))
            flat.extend(entry)
            for part in entry.values():
                if type(part) is str:
                    flat.append(part)
                    total += getsizeof(part)
                else:
                    copy, size = held(part, depth + 2)
                    flat.append(copy)
                    total += size
        else:
            return flat, total
        kept = []
        for entry in value:
            copy, size = held(entry, depth + 1)
            kept.append(copy)
            total += size
        return kept, total
    if kind is dict:
        if depth >= _DEPTH or len(value) > _WIDE:
            return dict(value), 256 * len(value)
        pairs = value.copy()
        total = 240
        for name, entry in value.items():
            pairs[name], size = held(entry, depth + 1)
            total += size
        return pairs, total
    if value is None or kind is int or kind is float or kind is bool:
        return value, 32
    return value, 1_024
