"""The same streams judged by what others use: Evidently's defaults, a daily KS test, ADWIN and Page-Hinkley."""

import math
import random
import statistics
from collections.abc import Callable, Iterator, Sequence
from importlib.util import find_spec
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.detection_row import Row
from evaluators.drift import yardstick

Floats = NDArray[np.float64]
Alarms = Callable[[Floats, Floats], list[int]]  # reference, stream → places after which it alarmed


def river(name: str) -> Alarms:
    """ADWIN or Page-Hinkley with river's defaults, value by value, begun on the reference."""

    def alarms(reference: Floats, stream: Floats) -> list[int]:
        watch = yardstick(name, {})
        watch.update(reference.tolist())
        return [place for place, x in enumerate(stream.tolist(), 1) if watch.update([x]).alarmed]

    return alarms


def windows(size: int, rejects: Callable[[Floats, Floats], bool]) -> Alarms:
    """A test of every window of so many values against the reference."""

    def alarms(reference: Floats, stream: Floats) -> list[int]:
        ends = range(size, len(stream) + 1, size)
        return [end for end in ends if rejects(reference, stream[end - size : end])]

    return alarms


def ks_rejects(reference: Floats, window: Floats) -> bool:
    """Kolmogorov-Smirnov at 5 %."""
    from scipy import stats

    return bool(stats.ks_2samp(reference, window).pvalue < 0.05)


def evidently_rejects(reference: Floats, window: Floats) -> bool:
    """Evidently's default for a number: KS at 5 % up to 1000 reference rows, else normed Wasserstein distance ≥ 0.1.

    For a column of two values: z-test at 5 %, else Jensen-Shannon distance ≥ 0.1.
    """
    from scipy import stats
    from scipy.spatial.distance import jensenshannon

    if len(np.unique(reference)) > 5:
        if len(reference) <= 1000:
            return ks_rejects(reference, window)
        return bool(stats.wasserstein_distance(reference, window) / max(float(reference.std()), 1e-3) >= 0.1)
    old, new = float(reference.mean()), float(window.mean())
    if len(reference) > 1000:
        return bool(jensenshannon([old, 1 - old], [new, 1 - new], base=2) >= 0.1)
    pooled = (old * len(reference) + new * len(window)) / (len(reference) + len(window))
    error = math.sqrt(max(pooled * (1 - pooled), 1e-12) * (1 / len(reference) + 1 / len(window)))
    return bool(2 * stats.norm.sf(abs(new - old) / error) < 0.05)


def judges(window: int) -> dict[str, Alarms]:
    """What stands beside ours, by name; ADWIN and Page-Hinkley where river is installed."""
    found: dict[str, Alarms] = {
        "Evidently's default test": windows(window, evidently_rejects),
        "KS test of each window": windows(window, ks_rejects),
    }
    if find_spec("river") is not None:
        found |= {"ADWIN": river("adwin"), "Page-Hinkley": river("page-hinkley")}
    return found


def beside(
    what: str, draws: Sequence[tuple[Floats, Floats, Floats]], window: int, *, per_year: float, unit: str
) -> Iterator[Row]:
    """False alarms a year, share found and median delay of each judge over (reference, calm, moved) streams.

    Delay counts from the first moved value to the first alarm at or after it, all judges looking at calm values first.
    """
    for name, judge in judges(window).items():
        false, looked, delays = 0, 0, []
        for reference, calm, moved in draws:
            places = judge(reference, np.concatenate([calm, moved]))
            false += sum(place <= len(calm) for place in places)
            looked += len(calm)
            delays.append(next((float(place - len(calm)) for place in places if place > len(calm)), math.inf))
        middle = statistics.median(delays)
        rate = f"{false / looked * per_year:.3g} false alarms a year, " if looked else ""
        found = f"found {np.mean(np.isfinite(delays)):.0%}, median {middle:g} {unit}" if len(draws[0][2]) else ""
        yield Row(f"  beside it, {what}: {name}", (rate + found).removesuffix(", "))
    if find_spec("river") is None:
        yield Row(f"  beside it, {what}: ADWIN, Page-Hinkley", "skipped: river is not installed")


def falls(quick: bool) -> Iterator[Row]:
    """Quality of 0.90 that falls: 50 items a block of 15 minutes, windows of a day."""
    items, day = 50 * 35_040, 4800
    for now in (0.85, 0.80):
        rng = np.random.default_rng(26)
        draws = [
            tuple((rng.random(n) < p).astype(float) for n, p in ((1000, 0.9), (2 * day, 0.9), (2 * day, now)))
            for _ in range(3 if quick else 30)
        ]
        yield from beside(f".90 → {now:.2f}", draws, day, per_year=items, unit="items")  # type: ignore[arg-type]


def latencies(quick: bool, series: Sequence[Floats], reference: int, samples: float) -> Iterator[Row]:
    """Real latency in logarithms, and +30 % from place 1000 on; windows of a week."""
    chosen = series[:: 12 if quick else 2]
    draws = [
        (np.log(x[:reference]), np.log(x[reference:1000]), np.log(1.3 * x[1000:1600])) for x in chosen if len(x) > 1600
    ]
    yield from beside("real latency, +30 %", draws, 56, per_year=samples, unit="samples")


def mixtures(quick: bool, kinds: dict[str, list[Any]]) -> Iterator[Row]:
    """Prompt lengths of chat requests with code mixed in; windows of 500."""
    for mixed in (0.2, 0.5):
        draws = []
        for seed in range(2 if quick else 12):
            rng = random.Random(seed)
            chat = [row[0] for row in rng.sample(kinds["conv"], len(kinds["conv"]))]
            moved = [rng.choice(kinds["code"])[0] if rng.random() < mixed else chat[11_000 + n] for n in range(3000)]
            draws.append(tuple(np.array(part, dtype=float) for part in (chat[:5000], chat[5000:10_000], moved)))
        what = f"chat with {mixed:.0%} code"
        yield from beside(what, draws, 500, per_year=35_040, unit="requests")  # type: ignore[arg-type]
