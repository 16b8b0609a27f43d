"""Items until an alarm after quality falls, with the reference known exactly and with one of 10 000 items."""

import math
from collections.abc import Iterator

import numpy as np

from benchmarks import detection_others
from benchmarks.detection_null import ITEMS, MEAN, SHARED
from benchmarks.detection_row import Row
from evaluators.drift.budget import allow
from evaluators.drift.esr import Bet
from evaluators.drift.fleet import Fleet
from evaluators.drift.reference import freeze

LINE = math.log(3.5e6)


def median_items(
    edges: float | np.ndarray[tuple[int, ...], np.dtype[np.float64]],
    now: float,
    threshold: float,
    *,
    form: str,
    bet: Bet = "adaptive",
    shared: float = 0.0,
    size: int = ITEMS,
    streams: int,
    seed: int,
) -> float:
    """Median number of items from the fall to the alarm, after 300 calm blocks; infinite beyond 1000 blocks."""
    rng, fleet = np.random.default_rng(seed), Fleet(edges, streams, bet=bet)

    def advance(mean: float) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
        p = rng.beta(mean * (1 / shared - 1), (1 - mean) * (1 / shared - 1), streams) if shared else mean
        hits = rng.binomial(size, p, streams).astype(float)
        return fleet.blocks(hits / size) if form == "block" else fleet.items(hits, size)

    for _ in range(300):
        advance(MEAN)
    took = np.full(streams, math.inf)
    for block in range(1, 1001):
        crossed = advance(now) >= math.exp(threshold)
        took[crossed & np.isinf(took)] = block
        if np.isfinite(took).all():
            break
    return float(np.quantile(took, 0.5, method="higher")) * size


def rows(quick: bool) -> Iterator[Row]:
    """The figures of the specification, then what margins and shared shocks cost, then others."""
    streams = 300 if quick else 2000

    def row(what: str, items: float, most: float | None = None, goal: str = "") -> Row:
        asked = "" if most is None else f"≤ {most:g}{goal}"
        return Row(f"median delay, {what}", f"{items:g} items", asked, None if most is None else items <= most)

    share = allow(35_040, 0.01)
    rng = np.random.default_rng(20)
    references = rng.binomial(10_000, MEAN, 20 if quick else 100)
    bounds = np.array(
        [
            freeze([1.0] * k + [0.0] * (10_000 - k), direction="fall", margin=0.0, confidence=share.confidence).m0
            for k in references.tolist()
        ]
    )
    estimated = np.resize(bounds, streams)
    for now, known, ten_thousand in ((0.85, (1300, 2500), (1850, 3300)), (0.80, (None, None), (500, 1600))):
        for form, most in zip(("item", "block"), known, strict=True):
            items = median_items(MEAN, now, LINE, form=form, streams=streams, seed=21)
            yield row(f".90 → {now:.2f}, reference known exactly, {form} form", items, most)
        for form, most in zip(("item", "block"), ten_thousand, strict=True):
            items = median_items(estimated, now, share.log_threshold, form=form, streams=streams, seed=22)
            goal = " (goal 1000)" if most == 1600 else ""
            yield row(
                f".90 → {now:.2f}, reference of 10 000 items (its error in the 1 %), {form} form", items, most, goal
            )
    for size in (25, 10):
        finer = share.log_threshold + math.log(ITEMS / size)
        items = median_items(estimated, 0.80, finer, form="block", size=size, streams=streams, seed=22)
        yield row(f".90 → 0.80, the same in blocks of {size}, the clock finer by so much", items, 1000)
    items = median_items(MEAN, 0.85, LINE, form="block", bet="grid", streams=streams, seed=21)
    yield row(".90 → 0.85, reference known exactly, block form, the fixed grid of 16 λ", items)
    items = median_items(MEAN, 0.85, LINE, form="block", shared=SHARED, streams=streams, seed=23)
    yield row(".90 → 0.85, reference known exactly, block form, items share shocks (0.02)", items)
    for margin in (0.01, 0.02):
        items = median_items(MEAN - margin, 0.85, LINE, form="block", streams=streams, seed=24)
        yield row(f".90 → 0.85, known exactly, block form, margin {margin:.0%}", items)
    yield from detection_others.falls(quick)
