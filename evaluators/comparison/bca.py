"""The bias-corrected accelerated bootstrap, reported beside the interval that decides.

BCa (Efron 1987, JASA 82:397) draws the items again, whole clusters where they have some, and corrects the percentiles
of the drawn means for bias and skewness. It knows nothing of what was not drawn: where all items tie it has no width.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any

import numpy as np
from numpy.typing import NDArray

from evaluators.comparison.interval import TYPICAL_ITEMS
from evaluators.comparison.pairs import Scores, pair
from evaluators.comparison.sample import Sample, sampled

Floats = NDArray[np.float64]

RESAMPLES = 2000
AT_ONCE = 1_000_000  # units drawn before they are summed
_NORMAL = NormalDist()


@dataclass(frozen=True, slots=True)
class Bootstrap:
    """The interval of `level` from so many resamples of so many independent units, items or clusters."""

    low: float
    high: float
    level: float
    resamples: int
    units: int

    @property
    def warning(self) -> str | None:
        """Why it should not be relied on; None from 200 units on."""
        if self.units >= TYPICAL_ITEMS:
            return None
        return f"on {self.units} units BCa is too narrow, because it knows only the differences that were drawn"

    def to_json(self) -> dict[str, Any]:
        """All of it as JSON values."""
        return {
            "low": self.low, "high": self.high, "level": self.level, "resamples": self.resamples, "units": self.units,
            "warning": self.warning,
        }  # fmt: skip


def bca(
    candidate: Scores,
    baseline: Scores,
    *,
    level: float = 0.95,
    clusters: Mapping[str, str] | None = None,
    weights: Mapping[str, float] | None = None,
    errors: Collection[str] = (),
    baseline_errors: Collection[str] = (),
) -> Bootstrap | None:
    """The interval of candidate minus baseline, for the same arguments as `compare`; None where nothing was scored.

    The same input gives the same interval, in whatever order the items come.

    >>> baseline = {f"item {n}": float(n >= 40) for n in range(400)}
    >>> found = bca({f"item {n}": float(n >= 75) for n in range(400)}, baseline)
    >>> round(found.low, 3), round(found.high, 3)
    (-0.12, -0.062)
    """
    sample = sampled(pair(candidate, baseline, errors, baseline_errors), weights, clusters)
    return bca_of(sample, level) if len(sample.differences) else None


def bca_of(sample: Sample, level: float, resamples: int = RESAMPLES) -> Bootstrap:
    """The same for a sample of at least one difference."""
    unit = np.arange(len(sample.differences)) if sample.cluster is None else sample.cluster
    sums = np.bincount(unit, sample.mass * sample.differences).astype(np.float64)
    sizes = np.bincount(unit, sample.mass).astype(np.float64)
    order = np.lexsort((sizes, sums))
    sums, sizes = sums[order], sizes[order]
    low, high = ends(drawn_means(sums, sizes, resamples), sums, sizes, level)
    return Bootstrap(low, high, level, resamples, len(sums))


def drawn_means(sums: Floats, sizes: Floats, resamples: int) -> Floats:
    """The mean of each resample of the units, shape (resamples,); always the same ones.

    Args:
        sums: Weighted sum of the differences of each unit, shape (units,).
        sizes: Weight of each unit, as many.
        resamples: How many.
    """
    random, units = np.random.default_rng(0), len(sums)
    equal = bool((sizes == sizes[0]).all())
    means = np.empty(resamples)
    rows = max(AT_ONCE // units, 1)
    for start in range(0, resamples, rows):
        drawn = random.integers(0, units, (min(rows, resamples - start), units), dtype=np.int32)
        weight = units * sizes[0] if equal else sizes[drawn].sum(axis=1)
        means[start : start + rows] = sums[drawn].sum(axis=1) / weight
    return means


def ends(means: Floats, sums: Floats, sizes: Floats, level: float) -> tuple[float, float]:
    """The percentiles of drawn means that BCa takes, from what was drawn and from the units that were seen."""
    whole, total = float(sums.sum()), float(sizes.sum())
    estimate = whole / total
    below = float((means < estimate).mean() + (means <= estimate).mean()) / 2.0
    if not 0.0 < below < 1.0:
        return estimate, estimate
    lean = acceleration(sums, sizes)
    bias, percentiles = _NORMAL.inv_cdf(below), []
    for tail in ((1.0 - level) / 2.0, (1.0 + level) / 2.0):
        at = bias + _NORMAL.inv_cdf(tail)
        percentiles.append(_NORMAL.cdf(bias + at / (1.0 - lean * at)))
    low, high = np.quantile(means, percentiles)
    return float(low), float(high)


def acceleration(sums: Floats, sizes: Floats) -> float:
    """A sixth of the skewness of the estimate by the jackknife, 0 where leaving out a unit changes nothing."""
    if len(sums) < 2:
        return 0.0
    without = (sums.sum() - sums) / (sizes.sum() - sizes)
    pull = without.mean() - without
    spread = float((pull**2).sum())
    return float((pull**3).sum()) / (6.0 * spread**1.5) if spread > 0.0 else 0.0
