"""The interval of a mean that holds whenever one chose to stop: what a replay that ended early may say."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from evaluators.comparison.evidence import betting_e_value, favourable, unfavourable
from evaluators.comparison.pairs import Pairs
from evaluators.comparison.sample import Inference, Sample

Floats = NDArray[np.float64]
BY_BETTING = "betting interval, valid at any stopping time"
STEPS = 40  # halvings of the range [-1, 1]: finer than any score


def anytime_interval(differences: Floats, level: float) -> tuple[float, float]:
    """All means of bounded differences that the bets against them have not refuted, at whatever time one looks.

    For every m there is a bet that the mean is below m and one that it is above; m is out once either has won
    2/(1 - level) times its stake, which happens to the true mean with probability 1 - level at most in all looks
    together (Waudby-Smith and Ramdas 2024, JRSS B 86:1, section 4).

    Args:
        differences: Candidate minus baseline in [-1, 1], one per independent unit, shape (units,).
        level: Confidence, such as 0.95.

    >>> low, high = anytime_interval(np.array([-1.0] * 30 + [0.0] * 30), 0.95)
    >>> low < -0.5 < high < -0.2
    True
    """
    if not len(differences):
        return -1.0, 1.0
    line = 2.0 / (1.0 - level)

    def above(m: float) -> bool:
        """Whether the bets have refuted a mean of m or more."""
        return betting_e_value(unfavourable(differences, -m)) >= line

    def below(m: float) -> bool:
        """Whether they have refuted a mean of m or less."""
        return betting_e_value(favourable(differences, -m)) >= line

    mean = float(differences.mean())
    return _edge(below, mean, -1.0), _edge(above, mean, 1.0)


def _edge(is_out: Callable[[float], bool], inside: float, outside: float) -> float:
    """Where, between a value that stays and an end of the range, values begin to be out."""
    end = outside * (1.0 - 1e-9)  # at the very end a bet cannot be placed
    if not is_out(end):
        return outside
    for _ in range(STEPS):
        middle = (inside + end) / 2.0
        inside, end = (inside, middle) if is_out(middle) else (middle, end)
    return end


def units(pairs: Pairs, sample: Sample) -> Floats:
    """One difference per independent unit: an item, or the mean of a cluster."""
    if sample.cluster is None:
        return pairs.differences
    counts = np.bincount(sample.cluster)
    means: Floats = np.bincount(sample.cluster, pairs.differences) / np.maximum(counts, 1)
    return means[counts > 0]


def at_any_time(found: Inference, differences: Floats, level: float) -> Inference:
    """An inference with the interval that holds at any time, and a p-value that does."""
    low, high = anytime_interval(differences, level)
    won = 1.0
    if len(differences):
        won = max(betting_e_value(unfavourable(differences, 0.0)), betting_e_value(favourable(differences, 0.0)))
    return replace(found, low=low, high=high, p_value=min(2.0 / won, 1.0), method=BY_BETTING)
