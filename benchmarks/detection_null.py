"""False alarms in simulated years of 15-minute blocks, where nothing has changed."""

import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.detection_others import judges
from benchmarks.detection_row import Row
from evaluators.drift.budget import allow, log_threshold
from evaluators.drift.fleet import Fleet
from evaluators.drift.reference import freeze

Floats = NDArray[np.float64]
Draw = Callable[[Any, int], Floats]  # hits of one block in each of so many years

YEAR = 35_040  # blocks of 15 minutes
ITEMS = 50  # in a block
MEAN = 0.9
SHARED = 0.02  # correlation of items inside a block, where they share shocks


def bernoulli(rng: Any, years: int) -> Floats:
    """Independent items."""
    hits: Floats = rng.binomial(ITEMS, MEAN, years).astype(float)
    return hits


def beta_binomial(rng: Any, years: int) -> Floats:
    """Items of one block share a shock; the mean of the next block, given the past, stays the same."""
    strength = 1 / SHARED - 1
    hits: Floats = rng.binomial(ITEMS, rng.beta(MEAN * strength, (1 - MEAN) * strength, years)).astype(float)
    return hits


def wandering(days: float, spread: float) -> Draw:
    """The conditional mean itself wanders around 0.9 with this memory and standard deviation."""
    keep = math.exp(-1 / (96 * days))
    level: list[Floats] = []

    def draw(rng: Any, years: int) -> Floats:
        if not level:
            level.append(rng.normal(0, spread, years))
        level[0] = keep * level[0] + math.sqrt(1 - keep * keep) * rng.normal(0, spread, years)
        hits: Floats = rng.binomial(ITEMS, np.clip(MEAN + level[0], 0, 1)).astype(float)
        return hits

    return draw


def alarmed_share(
    draw: Draw, edges: Floats, threshold: float, *, seed: int, form: str = "block", blocks: int = YEAR
) -> float:
    """Share of simulated years with an alarm."""
    rng, years = np.random.default_rng(seed), len(edges)
    fleet, alarmed = Fleet(edges, years), np.zeros(years, dtype=bool)
    for _ in range(blocks):
        hits = draw(rng, years)
        evidence = fleet.blocks(hits / ITEMS) if form == "block" else fleet.items(hits, ITEMS)
        alarmed |= evidence >= math.exp(threshold)
    return float(alarmed.mean())


def estimated_edges(
    draw: Draw, years: int, confidence: float, *, margin: float, clustered: bool, seed: int, blocks: int = 96
) -> Floats:
    """m0 of references of one day each, drawn anew for every year."""
    rng = np.random.default_rng(seed)
    hits = np.array([draw(rng, years) for _ in range(blocks)], dtype=int)
    numbers = np.repeat(np.arange(blocks), ITEMS)
    edges = []
    for column in hits.T:
        values = [x for h in column.tolist() for x in [1.0] * h + [0.0] * (ITEMS - h)]
        frozen = freeze(
            values,
            direction="fall",
            margin=margin,
            confidence=confidence,
            blocks=numbers.tolist() if clustered else None,
        )
        edges.append(frozen.m0)
    return np.array(edges)


def rows(quick: bool) -> Iterator[Row]:
    """False alarms of one stream, of a thousand together, and of others on the same streams."""
    runs, blocks, period = (2000, YEAR // 10, "a tenth of a year") if quick else (2000, YEAR, "a year")
    exact, share = log_threshold(blocks, 0.01), allow(blocks, 0.01)
    limit = 0.01 + 3 * math.sqrt(0.01 * 0.99 / runs)  # what chance adds to 1 % over so many runs

    def row(
        what: str, draw: Draw, edges: Floats, threshold: float, seed: int, *, hold: bool = True, form: str = "block"
    ) -> Row:
        rate = alarmed_share(draw, edges, threshold, seed=seed, form=form, blocks=blocks)
        return Row(
            f"false alarm in {period}, {what}",
            f"{rate:.2%} of {runs} runs",
            "≤ 1 % (+3σ of the simulation)" if hold else "",
            rate <= limit if hold else None,
        )

    at_edge = np.full(runs, MEAN)
    yield row("Bernoulli blocks, mean exactly m0", bernoulli, at_edge, exact, 1)
    yield row("beta-binomial blocks, mean exactly m0", beta_binomial, at_edge, exact, 2)
    yield row(
        "the same in item form (as live traffic must not be judged)",
        beta_binomial,
        at_edge,
        exact,
        2,
        hold=False,
        form="item",
    )
    for what, draw, clustered, hold in (
        ("Bernoulli, reference of one day, no margin", bernoulli, False, True),
        ("beta-binomial, reference of one day in blocks, no margin", beta_binomial, True, True),
        ("the same, its items taken as independent", beta_binomial, False, False),
    ):
        edges = estimated_edges(draw, runs, share.confidence, margin=0.0, clustered=clustered, seed=3)
        yield row(what, draw, edges, share.log_threshold, 4, hold=hold)
    for days, spread in ((0.1, 0.01), (1.0, 0.01), (1.0, 0.03)):
        what = f"mean wanders ± {spread:.0%} (memory {days:g} days), margin 1 point"
        yield row(what, wandering(days, spread), np.full(runs, MEAN - 0.01), exact, 5, hold=False)
    yield from together(quick)
    yield from others(quick)


def together(quick: bool) -> Iterator[Row]:
    """A thousand streams of one project that share every shock, each with a thousandth of the budget."""
    projects, streams, blocks = (40, 100, YEAR // 10) if quick else (40, 1000, YEAR)
    threshold = log_threshold(blocks, 0.01, 1 / streams)
    rng, alarmed = np.random.default_rng(9), np.zeros(projects, dtype=bool)
    fleet = Fleet(MEAN, projects * streams)
    strength = 1 / SHARED - 1
    for _ in range(blocks):
        mood = np.repeat(rng.beta(MEAN * strength, (1 - MEAN) * strength, projects), streams)
        spread = np.sqrt(mood * (1 - mood) / ITEMS)
        means = np.clip(mood + spread * rng.standard_normal(len(mood)), 0, 1)
        alarmed |= (fleet.blocks(means).reshape(projects, streams) >= math.exp(threshold)).any(axis=1)
    what = f"false alarm in {'a tenth of a year' if quick else 'a year'}, {streams} streams together, sharing shocks"
    yield Row(what, f"{int(alarmed.sum())} of {projects} projects", "≤ 1 % together", bool(alarmed.sum() <= 2))


def others(quick: bool) -> Iterator[Row]:
    """Alarms a year of what others would do on the Bernoulli stream."""
    from scipy import stats

    years = 5 if quick else 50
    rng = np.random.default_rng(10)
    old = rng.binomial(1000, MEAN, years) / 1000
    new = rng.binomial(ITEMS, MEAN, (YEAR, years)) / ITEMS
    pooled = (1000 * old + ITEMS * new) / (1000 + ITEMS)
    z = np.abs(new - old) / np.sqrt(pooled * (1 - pooled) * (1 / 1000 + 1 / ITEMS))
    z_alarms = float(np.mean(2 * stats.norm.sf(z) < 0.05)) * YEAR
    yield Row("  beside it: Evidently's default z-test (1000 rows against each block)", f"{z_alarms:.0f} alarms a year")
    month = ITEMS * YEAR // (24 if quick else 12)
    alarms = page_hinkley(rng.random((month, 50)) < MEAN)
    yield Row(
        "  beside it: Page-Hinkley per item, river's defaults (delta 0.005, threshold 50)",
        f"{alarms * ITEMS * YEAR / month / 50:.0f} alarms a year",
    )
    reference, day = (rng.random(1000) < MEAN).astype(float), ITEMS * 96
    calm = (rng.random(day * (30 if quick else 365)) < MEAN).astype(float)
    for name, judge in judges(day).items():
        if name in ("ADWIN", "KS test of each window"):
            each = {"ADWIN": "per item, river's defaults"}.get(name, "a day, 5 %, 1000 reference items")
            count = len(judge(reference, calm)) * 365 / (30 if quick else 365)
            yield Row(f"  beside it: {name}, {each}", f"{count:.0f} alarms a year")
            mood = np.repeat(rng.beta(MEAN * 49, (1 - MEAN) * 49, len(calm) // ITEMS), ITEMS)
            count = len(judge(reference, (rng.random(len(mood)) < mood).astype(float))) * 365 / (30 if quick else 365)
            yield Row(
                f"  beside it: {name}, the same where items of a block share shocks", f"{count:.0f} alarms a year"
            )


def page_hinkley(
    items: NDArray[np.bool_], *, delta: float = 0.005, threshold: float = 50.0, keep: float = 0.9999
) -> int:
    """Alarms of Page-Hinkley (both sides, restarted after each) over all columns; river's algorithm and defaults."""
    streams = items.shape[1]
    zero = np.zeros(streams)
    n, mean, up, down, low, high = (zero.copy() for _ in range(6))
    alarms = 0
    for x in items:
        n += 1
        mean += (x - mean) / n
        apart = x - mean
        up, down = keep * up + apart - delta, keep * down + apart + delta
        low, high = np.minimum(low, up), np.maximum(high, down)
        hit = (n >= 30) & ((up - low > threshold) | (high - down > threshold))
        alarms += int(hit.sum())
        for part in (n, mean, up, down, low, high):
            part[hit] = 0.0
    return alarms
