"""What the collector's answers mean: delivered, split and tried again, kept for later, or dropped and counted."""

from __future__ import annotations

import json
import random
import time
from typing import Any

from driftline_sdk.faults import warn
from driftline_sdk.lane import Lane
from driftline_sdk.transport import Answer, Transport
from driftline_sdk.wire import MOST_BYTES, PATHS, RECORDS, Line, variant_of

_BACK_OFF_S = 0.5
_LONGEST_BACK_OFF_S = 30.0
_REFUSED_BACK_OFF_S = 60.0
_FAULTY = (400, 413, 422)  # something in the batch is at fault; the rest of it need not suffer
_AGAIN = (0, 408, 425, 429)  # and every 5xx
_MOST_FAULTY_TELLS = 3
_MOST_FAULTY_IN_A_ROW = 32  # after that it is not the records: nothing was ever taken by this server


class Delivery:
    """Sends lines and keeps the back-off; used by one thread at a time."""

    def __init__(self, transport: Transport, owner: str) -> None:
        self.owner = owner
        self.retry_at = 0.0  # monotonic seconds
        self.failures = 0
        self.taken = 0  # requests that the collector said yes to
        self.last_error = ""
        self.told_version = 0
        self._transport = transport
        self._faulty_in_a_row = 0
        self._warned: set[object] = set()

    def wait_s(self) -> float:
        """Seconds until the collector may be asked again."""
        return max(0.0, self.retry_at - time.monotonic())

    def send(self, lane: Lane, lines: list[Line], client: dict[str, Any] | None, timeout_s: float) -> list[Line]:
        """Delivers lines of one kind and answers with those that must be tried again later.

        Lines that the collector rejects, or that alone are too large for it, are counted as dropped.
        """
        batches = [lines]
        while batches:
            batch = batches.pop()
            if len(batch) > 1 and sum(len(line.text) + 1 for line in batch) > MOST_BYTES - 65_536:
                batches += _halves(batch)
                continue
            answer = self._post(lane.kind, batch, client, timeout_s)
            if 200 <= answer.status < 300:
                self._settle(lane, batch, answer)
            elif answer.status in _FAULTY and self._faulty_in_a_row < _MOST_FAULTY_IN_A_ROW:
                self._faulty_in_a_row += answer.status != 413
                if len(batch) > 1:
                    batches += _halves(batch)
                else:
                    lane.counts.add(variant_of(batch[0]), "too_large" if answer.status == 413 else "rejected")
                    self._warn_once(answer.status, "the collector refused a record: %s", answer.body[:500])
            else:
                self._back_off(answer)
                return batch + [line for later in reversed(batches) for line in later]
        return []

    def tell(self, client: dict[str, Any], timeout_s: float) -> bool:
        """Sends counts without records; False when that must be tried again."""
        answer = self._post(RECORDS, [], client, timeout_s)
        if 200 <= answer.status < 300:
            self.failures = self._faulty_in_a_row = 0
            return True
        if answer.status in _FAULTY:
            self._faulty_in_a_row += 1
            answer = Answer(0, error=f"HTTP {answer.status} for counts alone")
        self._back_off(answer)
        return self._faulty_in_a_row >= _MOST_FAULTY_TELLS

    def close(self) -> None:
        """Closes the connection."""
        self._transport.close()

    def _post(self, kind: str, lines: list[Line], client: dict[str, Any] | None, timeout_s: float) -> Answer:
        said = b"" if client is None else b',"client":' + json.dumps(client).encode()
        body = b'{"%s":[%s]%s}' % (kind.encode(), b",".join(line.text for line in lines), said)
        return self._transport.post(PATHS[kind], body, timeout_s)

    def _settle(self, lane: Lane, lines: list[Line], answer: Answer) -> None:
        self.taken += 1
        self.failures = self._faulty_in_a_row = 0
        self.retry_at = 0.0
        rejected = _rejected(answer.body, len(lines))
        for index, reason in rejected.items():
            lane.counts.add(variant_of(lines[index]), "rejected")
            self._warn_once(reason, "the collector rejected a record: %s", reason)
        lane.sent += len(lines) - len(rejected)

    def _back_off(self, answer: Answer) -> None:
        self.failures += 1
        self.last_error = answer.error or f"HTTP {answer.status}"
        if answer.status in _AGAIN or answer.status >= 500:
            if answer.retry_after_s is not None:
                delay_s = max(answer.retry_after_s, _BACK_OFF_S) * random.uniform(1.0, 1.25)
            else:
                doubled_s = _BACK_OFF_S * 2.0 ** min(self.failures - 1, 10)
                delay_s = min(_LONGEST_BACK_OFF_S, doubled_s) * random.uniform(0.5, 1.0)
        else:
            delay_s = _REFUSED_BACK_OFF_S * random.uniform(1.0, 1.25)
            advice = "check DRIFTLINE_API_KEY" if answer.status in (401, 403) else "check DRIFTLINE_ENDPOINT"
            message = "the collector answers HTTP %s, records are kept; %s"
            self._warn_once(answer.status, message, answer.status, advice)
        self.retry_at = time.monotonic() + delay_s

    def _warn_once(self, key: object, message: str, *values: object) -> None:
        if key not in self._warned and len(self._warned) < 100:
            self._warned.add(key)
            warn(message, *values)


def _halves(batch: list[Line]) -> list[list[Line]]:
    middle = len(batch) // 2
    return [batch[middle:], batch[:middle]]  # the first half is popped first


def _rejected(body: bytes, number: int) -> dict[int, str]:
    """Reasons by index; an answer that cannot be read rejects nothing, for 2xx means that it is stored."""
    try:
        rejected = {int(entry["index"]): str(entry.get("reason", "")) for entry in json.loads(body)["rejected"]}
    except (ValueError, TypeError, KeyError, AttributeError, OverflowError, RecursionError):
        return {}
    return {index: reason for index, reason in rejected.items() if 0 <= index < number}
