"""The interval of a mean of paired differences: Bayesian bootstrap with one unseen difference at the edge.

A bootstrap that only re-weights what it has seen is blind to what it has not: with all items tied its interval has no
width. So one more difference takes part, at the upper edge in half of the draws and at the lower edge in the other
half. For yes/no values this is the mid-p version of Clopper and Pearson's interval, and with the edge always on the
unfavourable side it is Gaffke's bound for the mean of a bounded variable. The weights are exponential, so the
distribution of the mean follows from their cumulant generating function by a saddlepoint (Lugannani and Rice 1980):
no draws, no seed, the same interval every time.

Which edge: the ends of the range [-1, 1] where values are yes/no, where there are fewer than 200 items or fewer than 10
differ at all; the smallest and largest difference seen otherwise. The first is safe whatever the distribution, the
second does not pay for differences of a size that 200 items never showed.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

TYPICAL_ITEMS = 200  # from here on the differences seen stand for those not seen
TYPICAL_DIFFERENT = 10

_NORMAL = NormalDist()


def tail(terms: Floats, counts: Floats) -> float:
    """P(sum of terms * Exp(1) weights <= 0), by the saddlepoint approximation of Lugannani and Rice.

    Args:
        terms: Distinct coefficients, shape (k,).
        counts: How many independent unit-rate exponential weights each coefficient has, shape (k,).
    """
    lowest, highest = float(terms.min()), float(terms.max())
    if highest <= 0.0:
        return 1.0
    if lowest >= 0.0:
        return 0.0
    left, right = 1.0 / lowest, 1.0 / highest
    tilt = 0.0  # sums, not dot products: those depend on the number of threads, in speed and in the last digits
    for _ in range(100):
        leaned = terms / (1.0 - tilt * terms)
        slope, bend = float((counts * leaned).sum()), float((counts * leaned**2).sum())
        if slope < 0.0:
            left = tilt
        else:
            right = tilt
        step = tilt - slope / bend
        if abs(step - tilt) <= 1e-12 * (abs(tilt) + 1e-3 / math.sqrt(bend)):
            break
        tilt = step if left < step < right else (left + right) / 2.0
    leaned = terms / (1.0 - tilt * terms)
    bend = float((counts * leaned**2).sum())
    u = tilt * math.sqrt(bend)
    if abs(u) < 0.01:  # 1/r - 1/u loses its digits here; its limit is a sixth of the skewness
        correction = float((counts * leaned**3).sum()) / (3.0 * math.pow(bend, 1.5))
        return _NORMAL.cdf(u) + _NORMAL.pdf(u) * correction
    r = math.copysign(math.sqrt(max(2.0 * float((counts * np.log1p(-tilt * terms)).sum()), 0.0)), tilt)
    return min(max(_NORMAL.cdf(r) + _NORMAL.pdf(r) * (1.0 / r - 1.0 / u), 0.0), 1.0)


@dataclass(frozen=True, slots=True)
class MeanConfidence:
    """What the differences say about their mean: `at(x)` is the confidence that the mean lies at or below x.

    `values` are distinct differences, `weights` their item weights, `counts` how many items have that pair of both;
    `edges` is where an unseen difference is supposed to lie, and `edge_weight` its item weight.
    """

    values: Floats
    weights: Floats
    counts: Floats
    edges: tuple[float, float]
    edge_weight: float

    @property
    def mean(self) -> float:
        mass = self.weights * self.counts
        return float((mass * self.values).sum()) / float(mass.sum())

    def at(self, x: float) -> float:
        """Confidence, in [0, 1], that the mean is at most `x`."""
        terms = np.append(self.weights * (self.values - x), 0.0)
        counts = np.append(self.counts, 1.0)
        confidence = 0.0
        for edge in self.edges:
            terms[-1] = self.edge_weight * (edge - x)
            confidence += tail(terms, counts) / 2.0
        return confidence

    def bounds(self, level: float) -> tuple[float, float]:
        """The central interval of confidence `level`."""
        lowest, highest = min(self.edges[0], self.values.min()), max(self.edges[1], self.values.max())
        mean, miss = self.mean, (1.0 - level) / 2.0
        reach = -_NORMAL.inv_cdf(miss) * self._error(mean)
        return (
            self._crossing(miss, float(lowest), mean, mean - reach, reach / 4.0),
            self._crossing(1.0 - miss, mean, float(highest), mean + reach, reach / 4.0),
        )

    def _crossing(self, confidence: float, low: float, high: float, guess: float, step: float) -> float:
        """Where `at` reaches a confidence between `low` and `high`; near `guess`, as a rule."""

        def beyond(x: float) -> float:
            return self.at(x) - confidence

        below, above = max(guess - step, low), min(guess + step, high)
        if below >= above:
            return root(beyond, low, high)
        lacking, exceeding = beyond(below), beyond(above)
        if lacking >= 0.0:
            return root(beyond, low, below)
        return root(beyond, above, high) if exceeding <= 0.0 else root(beyond, below, above, (lacking, exceeding))

    def _error(self, mean: float) -> float:
        """The standard error of the mean, the unseen difference included."""
        seen = float((self.counts * (self.weights * (self.values - mean)) ** 2).sum())
        unseen = sum((self.edge_weight * (edge - mean)) ** 2 for edge in self.edges) / 2.0
        return math.sqrt(seen + unseen) / (float((self.weights * self.counts).sum()) + self.edge_weight)


def mean_confidence(differences: Floats, weights: Floats | None, *, binary: bool) -> MeanConfidence:
    """The confidence distribution of the mean of `differences` in [-1, 1], shape (items,), one unit each.

    Args:
        differences: Candidate minus baseline.
        weights: Item weights above 0, or None for equal ones. "200 items" then means Kish's effective number.
        binary: Both sides score 0 or 1, so differences not seen are known to be 1 in size.
    """
    if weights is None:
        values, tally = np.unique(differences, return_counts=True)
        counts, item_weights = tally.astype(np.float64), np.ones(len(values))
        effective, edge_weight = float(len(differences)), 1.0
    else:
        values, item_weights, counts = differences, weights, np.ones(len(differences))
        effective = float(weights.sum() ** 2 / (weights**2).sum())
        edge_weight = float((weights**2).sum() / weights.sum())
    typical = effective >= TYPICAL_ITEMS and np.count_nonzero(differences) >= TYPICAL_DIFFERENT
    edges = (-1.0, 1.0) if binary or not typical else (float(differences.min()), float(differences.max()))
    return MeanConfidence(values, item_weights, counts, edges, edge_weight)


def root(f: Callable[[float], float], low: float, high: float, ends: tuple[float, float] | None = None) -> float:
    """Where the increasing function `f` crosses 0 between `low` and `high`, to 1e-10 of the range (Illinois method).

    `ends` is what it is at both, where that is known.
    """
    f_low, f_high = ends or (f(low), f(high))
    if f_low >= 0.0:
        return low
    if f_high <= 0.0:
        return high
    side, tolerance = 0, 1e-10
    for _ in range(100):
        middle = (low * f_high - high * f_low) / (f_high - f_low)
        value = f(middle)
        if value > 0.0:
            high, f_high = middle, value
            f_low = f_low / 2.0 if side > 0 else f_low
            side = 1
        else:
            low, f_low = middle, value
            f_high = f_high / 2.0 if side < 0 else f_high
            side = -1
        if high - low < tolerance or abs(value) < 1e-9:
            return middle
    return (low + high) / 2.0
