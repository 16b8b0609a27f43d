"""The thread that carries records to the collector, or to the spool while there is none."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable
from typing import Any

from driftline_sdk.bell import Bell
from driftline_sdk.delivery import Delivery
from driftline_sdk.faults import note
from driftline_sdk.lane import Lane
from driftline_sdk.settings import Settings
from driftline_sdk.spool import Refused, Spool
from driftline_sdk.wire import RECORDS, Line, Unsendable, counted_as, encoded

_BATCH_ENTRIES = 500
_BATCH_BYTES = 1 << 20
_TELL_EVERY_S = 10.0
_ADOPT_EVERY_S = 60.0
_SPOOL_BREATH_S = 0.02
_SLICE_S = 1e-4
_PRESSED = 40
_BREATH_S = 2e-4
_RESCUE_S = 1.0


class Sender:
    """Empties the lanes in batches every `interval_s`; parks, without waking up, while there is nothing to do."""

    def __init__(self, settings: Settings, lanes: dict[str, Lane], delivery: Delivery, spool: Spool | None) -> None:
        self.parked = False
        self.stopping = False
        self.wake = Bell()
        self.done = threading.Event()
        self._settings = settings
        self._lanes = lanes
        self._delivery = delivery
        self._spool = spool
        self._idle = threading.Event()
        self._flushers = 0
        self._counting = threading.Lock()
        self._deadline = 0.0
        self._abandoned = False
        self._told_at = time.monotonic()
        self._kept_version = 0
        self._adopted_at = -_ADOPT_EVERY_S
        self._left_counts: list[dict[str, Any]] = []

    def run(self) -> None:
        """The thread's body: until `stop`, then once more with a deadline."""
        try:
            while not self.stopping:
                try:
                    self._cycle()
                except BaseException as error:  # noqa: BLE001 - the thread must outlive a mistake, with a pause
                    note(error, "the sender")
                    self.wake.wait(max(self._settings.interval_s, 0.1))
                self._pause()
            self._finish()
        except Exception as error:  # noqa: BLE001 - nobody catches what a thread raises
            note(error, "the sender's end")
        finally:
            self._delivery.close()
            self.done.set()

    def waiting(self) -> int:
        """Items not yet at the collector, in memory and in the spool."""
        spooled = 0 if self._spool is None else sum(self._spool.waiting.values())
        return spooled + sum(lane.queued() for lane in self._lanes.values())

    def flush(self, timeout_s: float) -> bool:
        """Hurries until nothing waits and the counts are told; False when that took longer than `timeout_s`."""
        deadline = time.monotonic() + timeout_s
        with self._counting:
            self._flushers += 1
        try:
            while not self._settled():
                remaining_s = deadline - time.monotonic()
                if remaining_s <= 0 or self.done.is_set():
                    return False
                self._idle.clear()
                self.wake.set()
                self._idle.wait(min(remaining_s, 0.05))
            return True
        finally:
            with self._counting:
                self._flushers -= 1

    def stop(self, timeout_s: float, started: bool) -> bool:
        """Ends within about `timeout_s`: sends what it can, spools the rest; True when all was delivered."""
        self._deadline = time.monotonic() + timeout_s
        self.stopping = True
        self.wake.set()
        if not started:
            self._finish()
            self._delivery.close()
            self.done.set()
        elif not self.done.wait(timeout_s + 0.05):
            self._abandoned = True  # it hangs in a request; what it holds is written down from here
            self._put_away()
            self.done.set()
        return not self.waiting() and not self._untold()

    def _settled(self) -> bool:
        looked = self._spool is None or self._adopted_at > 0.0
        return looked and not self.waiting() and not self._untold()

    def _cycle(self) -> None:
        """One batch from memory, one from the spool, and the counts if nothing else carried them."""
        now = time.monotonic()
        for lane in self._lanes.values():
            self._carry(lane, gentle=not self._flushers)
        if self._spool is not None:
            try:
                self._tend(self._spool, now)
            except OSError as error:
                note(error, "the spool")
        if self._untold() and (self._flushers or now - self._told_at >= _TELL_EVERY_S):
            self._tell()

    def _tend(self, spool: Spool, now: float) -> None:
        if now - self._adopted_at >= _ADOPT_EVERY_S:
            try:
                self._adopt(spool)
            finally:
                self._adopted_at = now  # `flush` may trust the spool's numbers from here on
        if not self._delivery.wait_s():
            self._send_spooled(spool)
        if spool.waiting[RECORDS]:
            self._keep_counts(spool)

    def _carry(self, lane: Lane, gentle: bool) -> None:
        if not lane.in_hand:
            lane.taken = lane.intake.take(_BATCH_ENTRIES, _BATCH_BYTES)
            lane.in_hand = self._encode(lane, lane.taken, gentle)
            lane.taken = []
        if lane.in_hand:
            rest = lane.in_hand if self._delivery.wait_s() else self._send(lane, lane.in_hand)
            if not self._abandoned:  # else they are spooled already
                lane.in_hand = self._keep(lane, rest)

    def _encode(self, lane: Lane, items: Iterable[Any], gentle: bool) -> list[Line]:
        """Lines of the items; what becomes none is counted.

        Gentle means to let go of the interpreter every tenth of a millisecond: a thread of the application that wants
        to run would otherwise wait for the 5 ms after which the interpreter takes turns by itself. The fuller the
        queue, the less gentle: losing records is worse.
        """
        lines = []
        full = len(lane.intake) / max(1, lane.intake.max_entries)
        slice_s = _SLICE_S * (1 + _PRESSED * full * full)
        until = time.perf_counter() + slice_s
        for item in items:
            if self.stopping and time.monotonic() > self._deadline + _RESCUE_S:
                lane.counts.add(counted_as(item), "exit")
                continue
            try:
                lines.append(encoded(item, self._settings.redact))
            except Unsendable as problem:
                lane.counts.add(counted_as(item), problem.reason)
                if problem.__cause__ is not None:
                    note(problem.__cause__, problem.reason)
            if gentle and time.perf_counter() > until:
                time.sleep(_BREATH_S)
                until = time.perf_counter() + slice_s
        return lines

    def _send(self, lane: Lane, lines: list[Line]) -> list[Line]:
        version, client = self._client() if lane.kind == RECORDS and self._untold() else (0, None)
        timeout_s = self._settings.timeout_s
        if self.stopping:
            timeout_s = min(timeout_s, max(0.05, self._deadline - time.monotonic()))
        before = self._delivery.taken
        rest = self._delivery.send(lane, lines, client, timeout_s)
        if client is not None and self._delivery.taken > before:
            self._told(version)
        return rest

    def _keep(self, lane: Lane, lines: list[Line]) -> list[Line]:
        """Puts lines into the spool; answers with those that must stay in memory."""
        if not lines or self._spool is None:
            return lines
        try:
            fitting = self._spool.append(lane.kind, [line.text for line in lines])
        except Refused as refusal:
            note(refusal, "the spool")
            return lines[refusal.written :]
        for line in lines[fitting:]:
            lane.counts.add(line.variant or "", "spool_full")
        return []

    def _send_spooled(self, spool: Spool) -> None:
        segment = spool.oldest(self._delivery.failures)
        for kind, lane in self._lanes.items():
            lost, spool.lost[kind] = spool.lost[kind], 0
            if lost:
                lane.counts.add("", "spool_lost", lost)
        if segment is None:
            return
        if not segment.lines:
            spool.remove(segment)
            return
        lines = [Line(segment.kind, None, text) for text in segment.lines]
        rest = self._send(self._lanes[segment.kind], lines)
        if len(rest) < len(lines):
            spool.append(segment.kind, [line.text for line in rest], capped=False)
            spool.remove(segment)

    def _adopt(self, spool: Spool) -> None:
        adopted, self._left_counts = spool.adopt()
        for kind, number in adopted.items():
            self._lanes[kind].adopted += number

    def _client(self) -> tuple[int, dict[str, Any]]:
        version, counts = self._lanes[RECORDS].counts.listed()
        return version, {"id": self._delivery.owner, "counts": counts}

    def _untold(self) -> bool:
        return bool(self._left_counts) or self._lanes[RECORDS].counts.version > self._delivery.told_version

    def _told(self, version: int) -> None:
        self._delivery.told_version = version
        self._told_at = time.monotonic()
        if self._spool is not None and 0 < self._kept_version <= version:
            self._spool.forget_counts(self._delivery.owner)

    def _keep_counts(self, spool: Spool) -> None:
        """Puts what the collector does not know yet beside the spooled records, so that it outlives the process."""
        version, client = self._client()
        if version > max(self._delivery.told_version, self._kept_version):
            spool.keep_counts(client)
            self._kept_version = version

    def _tell(self) -> None:
        """Sends the counts, and those of dead processes, when no record could carry them."""
        if self._delivery.wait_s():
            return
        self._told_at = time.monotonic()
        version, client = self._client()
        if version > self._delivery.told_version and self._delivery.tell(client, self._settings.timeout_s):
            self._told(version)
        while self._left_counts and not self._delivery.wait_s():
            if self._delivery.tell(self._left_counts[-1], self._settings.timeout_s):
                left = self._left_counts.pop()
                if self._spool is not None:
                    self._spool.forget_counts(str(left.get("id")))

    def _pause(self) -> None:
        """Waits as long as nothing is to be done."""
        self.wake.clear()
        if self.stopping:
            return
        fresh = max(len(lane.intake) for lane in self._lanes.values())
        held = any(lane.in_hand for lane in self._lanes.values())
        spooled = self._spool is not None and any(self._spool.waiting.values())
        blocked_s = self._delivery.wait_s()
        if self._flushers:
            if self._settled():
                self._idle.set()
                self.wake.wait(0.05)
            elif blocked_s and (held or not fresh):
                self.wake.wait(min(blocked_s, 0.05))
        elif fresh:
            if held:
                self.wake.wait(max(blocked_s, 0.05))
            elif fresh < _BATCH_ENTRIES:
                self.wake.wait(self._settings.interval_s)
        else:
            wait_s = max(blocked_s, _SPOOL_BREATH_S) if held or spooled else _ADOPT_EVERY_S
            if self._untold():
                wait_s = min(wait_s, _TELL_EVERY_S)
            self._park(wait_s)

    def _park(self, wait_s: float) -> None:
        """Sleeps until the application records something, then lets it go on recording for `interval_s`."""
        self.parked = True
        if not any(len(lane.intake) for lane in self._lanes.values()):
            self.wake.wait(wait_s)
        self.parked = False
        if not self.stopping and not self._flushers and any(len(lane.intake) for lane in self._lanes.values()):
            self.wake.clear()
            self.wake.wait(self._settings.interval_s)

    def _finish(self) -> None:
        """The last work before the process ends."""
        lanes = self._lanes.values()
        while not self._abandoned and time.monotonic() < self._deadline and any(lane.queued() for lane in lanes):
            blocked_s = self._delivery.wait_s()
            if blocked_s and (self._spool is not None or time.monotonic() + blocked_s >= self._deadline):
                break
            time.sleep(blocked_s)
            for lane in lanes:
                self._carry(lane, gentle=False)
        if not self._abandoned:
            if self._untold() and time.monotonic() < self._deadline:
                self._tell()
            self._put_away()

    def _put_away(self) -> None:
        """Spools what is left; what cannot be spooled is counted, for the next start to tell."""
        for lane in self._lanes.values():
            lane.intake.close()
            items = lane.taken + lane.intake.take(len(lane.intake), self._settings.queue_max_bytes * 2)
            if lane.taken and self._settings.redact is not None:
                self._deadline = 0.0  # it is the redaction hook that hangs: it is not called again
            lines = lane.in_hand + self._encode(lane, items, gentle=False)
            for line in self._keep(lane, lines):
                lane.counts.add(line.variant or "", "exit")
            lane.taken, lane.in_hand = [], []
        if self._spool is not None:
            try:
                self._keep_counts(self._spool)
                self._spool.close()
            except OSError as error:
                note(error, "the spool")
