"""The way of one kind of item (records, or feedback) from the application to the collector, with its numbers."""

from __future__ import annotations

from typing import Any

from driftline_sdk.counts import Counts
from driftline_sdk.intake import Intake
from driftline_sdk.wire import Line


class Lane:
    """Where each item of a kind is: in the queue, taken, in hand as a line, sent, or counted as dropped.

    Everything offered is exactly one of these, or in the spool. Only the sender writes anything but `intake` and
    `counts`.
    """

    def __init__(self, kind: str, max_entries: int, max_bytes: int) -> None:
        self.kind = kind
        self.intake = Intake(max_entries, max_bytes)
        self.counts = Counts()
        self.taken: list[Any] = []
        self.in_hand: list[Line] = []
        self.sent = 0
        self.adopted = 0

    def queued(self) -> int:
        """Items in memory."""
        return len(self.intake) + len(self.taken) + len(self.in_hand)
