"""What one key may send: so many calls a minute, of which each living collector lets an equal part in."""

import math
import time
from dataclasses import dataclass

from driftline.errors import DriftlineError

BURST_S = 10.0  # this many seconds' worth may come at once
LONGEST_S = 3  # what a sender is told to wait at most: exporters give up when told to wait for long
_ROOM = 10_000


class TooMany(DriftlineError):
    """The key has used up what it may send. Sending the same again later is right."""

    status = 429

    def __init__(self, name: str, calls_per_minute: int, wait_s: float) -> None:
        self.retry_after_s = max(1, min(LONGEST_S, math.ceil(wait_s)))
        super().__init__(
            f"{name} may send {calls_per_minute} calls a minute, and has. Send again in a few seconds, or ask for more."
        )


@dataclass(slots=True)
class _Bucket:
    left: float
    seen: float


class Limits:
    """A bucket a key that fills at the key's rate. Used by the event loop's thread alone.

    How many calls a request holds is known only when it has been read, so it is charged then, into debt if need be; a
    key in debt is refused before its body is read.
    """

    def __init__(self) -> None:
        self._buckets: dict[tuple[int, str], _Bucket] = {}

    def check(self, project_id: int, name: str, calls_per_minute: int | None, collectors: int = 1) -> None:
        """Lets the key's next request in, where so many collectors share its limit.

        Raises:
            TooMany: The key is in debt.
        """
        if calls_per_minute is None:
            return
        here = calls_per_minute / collectors
        bucket = self._filled(project_id, name, here)
        if bucket.left <= 0:
            raise TooMany(name, calls_per_minute, (1 - bucket.left) * 60 / here)

    def charge(self, project_id: int, name: str, calls_per_minute: int | None, calls: int, collectors: int = 1) -> None:
        """Counts what a request held."""
        if calls_per_minute is not None:
            self._filled(project_id, name, calls_per_minute / collectors).left -= calls

    def _filled(self, project_id: int, name: str, calls_per_minute: float) -> _Bucket:
        now = time.monotonic()
        most = max(1.0, calls_per_minute * BURST_S / 60)
        bucket = self._buckets.get((project_id, name))
        if bucket is None:
            if len(self._buckets) >= _ROOM:
                self._buckets.clear()
            bucket = self._buckets[project_id, name] = _Bucket(most, now)
        bucket.left = min(most, bucket.left + (now - bucket.seen) * calls_per_minute / 60)
        bucket.seen = now
        return bucket
