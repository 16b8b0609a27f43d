"""What detection costs: per event, for a fleet of streams, and for state."""

import json
import time
from collections.abc import Iterator

import numpy as np

from benchmarks.detection_row import Row
from evaluators.drift import detector, restore
from evaluators.drift.changepoint import locate
from evaluators.drift.quantiles import freeze_quantiles


def rows(quick: bool) -> Iterator[Row]:
    """Times on one core of this machine."""
    rng = np.random.default_rng(70)
    params = {"m0": 0.85, "direction": "fall", "log_threshold": 15.0}
    block = (rng.random(50) < 0.9).astype(float).tolist()
    watch = detector("esr", params)
    blocks = 2000 if quick else 10_000
    began = time.perf_counter()
    for _ in range(blocks):
        watch.update(block)
    each = (time.perf_counter() - began) / blocks / len(block)
    yield Row("e-SR, one event of a block of 50", f"{1e6 * each:.2f} µs", "≤ 50 µs", each <= 50e-6)
    took, written = rng.lognormal(6, 0.3, 2000), rng.integers(1, 300, 2000)
    lines = freeze_quantiles(took.tolist(), output_tokens=written.tolist(), confidence=0.995)
    slow = detector("exceedance", {"reference": lines.to_json(), "log_threshold": 15.0})
    events = [(float(ms), None, float(n)) for ms, n in zip(took[:50], written[:50], strict=True)]
    began = time.perf_counter()
    for _ in range(500):
        slow.update(events)
    each = (time.perf_counter() - began) / 500 / len(events)
    yield Row(
        "latency over three lines, adjusted for length, one event of a block of 50",
        f"{1e6 * each:.2f} µs",
        "≤ 50 µs",
        each <= 50e-6,
    )
    stored = json.dumps(watch.state())
    began = time.perf_counter()
    for _ in range(2000):
        again = restore("esr", json.loads(stored))
        again.update(block)
        json.dumps(again.state())
    whole = time.perf_counter() - began
    yield Row(
        "2000 streams restored from JSON, judged (50 events each) and stored", f"{whole:.2f} s", "≤ 1 s", whole <= 1
    )
    yield Row("state of one stream: e-SR, latency lines", f"{len(stored)} and {len(json.dumps(slow.state()))} bytes")
    series = (rng.random(5000) < np.where(np.arange(5000) < 3500, 0.9, 0.8)).astype(float).tolist()
    locate(series[:100], range(100))  # imports what it needs
    began = time.perf_counter()
    locate(series, range(5000))
    whole = time.perf_counter() - began
    yield Row("dating a change among 5000 blocks", f"{whole:.2f} s", "≤ 2 s", whole <= 2)
