"""Other questions, or other answers to them? A change of a mean, split into mix and within-segment parts."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from driftline.errors import BadInput
from evaluators.drift.bounds import Array
from evaluators.drift.numbers import checked


@dataclass(frozen=True, slots=True)
class Part:
    """An estimate with its interval."""

    estimate: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Segment:
    """One segment's contribution: share p and mean q, before and after (None where it had no record)."""

    name: str
    share_before: float
    share_after: float
    mean_before: float | None
    mean_after: float | None
    mix: float
    within: float


@dataclass(frozen=True, slots=True)
class Decomposition:
    """Change of a mean = mix + within, each with an interval at `confidence`; segments by size of their part."""

    change: Part
    mix: Part
    within: Part
    confidence: float
    segments: tuple[Segment, ...]


def decompose(
    before: Sequence[tuple[str, float]],
    after: Sequence[tuple[str, float]],
    *,
    confidence: float = 0.95,
    resamples: int = 1000,
    seed: int = 0,
) -> Decomposition:
    """δ = Σ (p' - p) q + Σ p' (q' - q): how much of a change comes from other shares of segments, how much from within.

    p and q are a segment's share and mean before, p' and q' after. Where a segment is new, or gone, the mean of the
    other side stands in for the missing one, so that it counts as mix. Intervals by resampling records (percentile
    bootstrap, multinomial counts per side): they need some dozens of records a side, and independent ones.

    Args:
        before: (segment, value) per record.
        after: Likewise.
        confidence: Of the intervals.
        resamples: Of the bootstrap.
        seed: Likewise.

    Raises:
        BadInput: A side has fewer than 20 records, or a value is not finite.

    >>> old = [("easy", 1.0)] * 80 + [("hard", 0.0)] * 20
    >>> new = [("easy", 1.0)] * 50 + [("hard", 0.0)] * 50
    >>> found = decompose(old, new)
    >>> round(found.change.estimate, 2), round(found.mix.estimate, 2), round(found.within.estimate, 2)
    (-0.3, -0.3, 0.0)
    """
    for side, records in (("before", before), ("after", after)):
        if len(records) < 20:
            raise BadInput(f"There are {len(records)} records {side}; at least 20 are needed on each side.")
    names = sorted({name for name, _ in (*before, *after)})
    rng = np.random.default_rng(seed)
    sides = [_Side(records, names) for records in (before, after)]
    means = _filled(*(side.means(side.once) for side in sides))
    shares = [side.shares(side.once) for side in sides]
    mix, within = _parts(shares, means)
    drawn = [side.resampled(rng, resamples) for side in sides]
    mixes, withins = _parts([s for s, _ in drawn], _filled(drawn[0][1], drawn[1][1]))
    tail = (1 - confidence) / 2

    def part(estimate: Array, bootstrap: Array) -> Part:
        low, high = np.quantile(bootstrap.sum(axis=-1), [tail, 1 - tail])
        return Part(float(estimate.sum()), float(low), float(high))

    own = [side.means(side.once) for side in sides]
    segments = [
        Segment(
            name=name,
            share_before=float(shares[0][k]),
            share_after=float(shares[1][k]),
            mean_before=_number(own[0][k]),
            mean_after=_number(own[1][k]),
            mix=float(mix[k]),
            within=float(within[k]),
        )
        for k, name in enumerate(names)
    ]
    return Decomposition(
        change=part(mix + within, mixes + withins),
        mix=part(mix, mixes),
        within=part(within, withins),
        confidence=confidence,
        segments=tuple(sorted(segments, key=lambda s: -abs(s.mix + s.within))),
    )


class _Side:
    """The records of one side, as distinct (segment, value) pairs with their counts."""

    def __init__(self, records: Sequence[tuple[str, float]], names: Sequence[str]) -> None:
        values, _ = checked([value for _, value in records])
        place = {name: k for k, name in enumerate(names)}
        labels = np.array([place[name] for name, _ in records])
        pairs, self.once = np.unique(np.column_stack([labels, values]), axis=0, return_counts=True)
        self.values: Array = pairs[:, 1]
        self.member = (pairs[:, 0][:, None] == np.arange(len(names))).astype(float)  # (pairs, segments)

    def shares(self, counts: Any) -> Array:
        shares: Array = counts @ self.member / counts.sum(axis=-1, keepdims=True)
        return shares

    def means(self, counts: Any) -> Array:
        """Mean per segment; NaN where it has no record."""
        size = counts @ self.member
        total = (counts * self.values) @ self.member
        means: Array = np.divide(total, size, out=np.full(size.shape, np.nan), where=size > 0)
        return means

    def resampled(self, rng: Any, resamples: int) -> tuple[Array, Array]:
        n = int(self.once.sum())
        counts = rng.multinomial(n, self.once / n, size=resamples)
        return self.shares(counts), self.means(counts)


def _filled(before: Array, after: Array) -> list[Array]:
    """A mean that one side lacks is taken from the other; where both lack it, it plays no part."""
    one, two = np.where(np.isnan(before), after, before), np.where(np.isnan(after), before, after)
    return [np.nan_to_num(one), np.nan_to_num(two)]


def _parts(shares: Sequence[Array], means: Sequence[Array]) -> tuple[Array, Array]:
    return (shares[1] - shares[0]) * means[0], shares[1] * (means[1] - means[0])


def _number(x: float) -> float | None:
    return None if np.isnan(x) else float(x)
