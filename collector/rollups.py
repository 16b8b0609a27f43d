"""What a commit adds to the counts that pages read: one delta per project × variant × route × minute."""

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from datasketches import kll_floats_sketch

from collector.rows import Row
from driftline.moment import MINUTE

SKETCH_K = 200  # rank error of a quantile about 1.3 %


class Tally:
    """The sums of one group."""

    __slots__ = (
        "aborted", "cost_nano", "errors", "input_tokens", "latencies", "n", "output_tokens", "ttfts", "weight_sum",
    )  # fmt: skip

    def __init__(self) -> None:
        self.n = self.errors = self.aborted = self.input_tokens = self.output_tokens = self.cost_nano = 0
        self.weight_sum = 0.0
        self.latencies: list[float] = []
        self.ttfts: list[float] = []

    def add(self, row: Row) -> None:
        """Counts a stored row."""
        self.n += 1
        if row.status != "ok":
            self.errors += row.status == "error"
            self.aborted += row.status == "aborted"
        self.weight_sum += 1.0 / row.sample_rate
        self.input_tokens += row.input_tokens or 0
        self.output_tokens += row.output_tokens or 0
        self.cost_nano += row.cost_nano or 0
        if row.latency_ms is not None:
            self.latencies.append(row.latency_ms)
        if row.ttft_ms is not None:
            self.ttfts.append(row.ttft_ms)


def sketch(values: list[float]) -> bytes | None:
    """A serialized KLL sketch of floats, None of nothing."""
    if not values:
        return None
    made = kll_floats_sketch(SKETCH_K)
    made.update(np.asarray(values, dtype=np.float32))
    return bytes(made.serialize())


class Deltas:
    """Rollup rows in the making."""

    def __init__(self) -> None:
        self._tallies: dict[tuple[int, int, str, int], Tally] = {}

    def add(self, row: Row) -> None:
        """Counts a row that was stored; its variant has been looked up."""
        self._tally(row.project_id, row.variant_id, row.route, row.started_at).add(row)

    def add_filled(self, stored: Mapping[str, Any], added: Mapping[str, Any]) -> None:
        """Counts what was filled into a stored row: sums and times, but not the row again."""
        tally = self._tally(stored["project_id"], stored["variant_id"], stored["route"], stored["started_at"])
        tally.input_tokens += added.get("input_tokens", 0)
        tally.output_tokens += added.get("output_tokens", 0)
        tally.cost_nano += added.get("cost_nano", 0)
        if "latency_ms" in added:
            tally.latencies.append(added["latency_ms"])
        if "ttft_ms" in added:
            tally.ttfts.append(added["ttft_ms"])

    def _tally(self, project_id: int, variant_id: int, route: str, started_at: int) -> Tally:
        key = (project_id, variant_id, route, started_at - started_at % MINUTE)
        found = self._tallies.get(key)
        if found is None:
            found = self._tallies[key] = Tally()
        return found

    def rows(self) -> Iterable[dict[str, Any]]:
        """What is to be appended to the table rollup."""
        for (project_id, variant_id, route, minute), tally in self._tallies.items():
            yield {
                "project_id": project_id, "variant_id": variant_id, "route": route, "minute": minute,
                "n": tally.n, "errors": tally.errors, "aborted": tally.aborted,
                "input_tokens": tally.input_tokens, "output_tokens": tally.output_tokens,
                "cost_nano": tally.cost_nano, "latency_n": len(tally.latencies),
                "latency_sum_ms": sum(tally.latencies), "weight_sum": tally.weight_sum,
                "latency_sketch": sketch(tally.latencies), "ttft_sketch": sketch(tally.ttfts),
            }  # fmt: skip
