"""How many records were not sent, by variant and reason."""

from __future__ import annotations

import threading
from typing import Any

_MOST_KEYS = 900  # the collector takes 1000; what comes later shares one name per reason
_LONGEST_NAME = 128


class Counts:
    """Numbers that only grow, from the start of the process; the collector keeps the highest it has seen.

    Reasons: `sampled_out`, `queue_full`, `too_large` (no collector would take it), `spool_full`, `spool_lost` (somebody
    took its files away), `rejected` (the collector refused it), `redacted` (the hook returned None), `redact_failed`
    (the hook raised: nothing unredacted is ever sent), `unencodable`, `exit` (the process ended and there was no
    spool).
    """

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._numbers: dict[tuple[str, str], int] = {}
        self.version = 0

    def add(self, variant: str, reason: str, number: int = 1) -> None:
        """Counts; beyond 900 variants and reasons the rest is counted as variant `(other)`."""
        key = (_name(variant), reason)
        with self._lock:
            if key not in self._numbers and len(self._numbers) >= _MOST_KEYS:
                key = ("(other)", reason)
            self._numbers[key] = self._numbers.get(key, 0) + number
            self.version += 1

    def by_reason(self) -> dict[str, int]:
        """Totals over all variants."""
        totals: dict[str, int] = {}
        with self._lock:
            for (_, reason), number in self._numbers.items():
                totals[reason] = totals.get(reason, 0) + number
        return totals

    def listed(self) -> tuple[int, list[dict[str, Any]]]:
        """The version, and the numbers as the wire has them."""
        with self._lock:
            return self.version, [
                {"variant": variant, "reason": reason, "count": number}
                for (variant, reason), number in self._numbers.items()
            ]


def _name(variant: str) -> str:
    """As the collector keeps the names of variants: one that no database takes would cost all that it travels with."""
    return variant[:_LONGEST_NAME].replace("\0", "\ufffd").encode("utf-8", "replace").decode()
