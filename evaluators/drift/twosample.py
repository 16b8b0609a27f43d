"""Are two samples from the same population? For explanations and reports; fixed-sample tests never alarm."""

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np

from driftline.errors import BadInput
from evaluators.drift.numbers import checked


@dataclass(frozen=True, slots=True)
class Moved:
    """Whether a population moved by more than the margin.

    `effect` is the largest change of a share, in [0, 1]: of "at most x" over all x for numbers (Kolmogorov-Smirnov
    distance), of any set of categories (total variation) for categories. `p_value` is for "it moved by no more than
    the margin".
    """

    moved: bool
    effect: float
    margin: float
    p_value: float
    n_before: int
    n_after: int


def numbers_moved(
    before: Sequence[float], after: Sequence[float], *, margin: float = 0.02, alpha: float = 0.01
) -> Moved:
    """Did the distribution of a number move by more than the margin?

    The part of the Kolmogorov-Smirnov distance beyond the margin is judged by the distribution of the distance under
    no change at all. Conservative with ties and for a true distance below the margin.

    Raises:
        BadInput: A side is empty, or a value is NaN or infinite.

    >>> numbers_moved(range(100), range(100)).moved
    False
    >>> numbers_moved(range(100), range(60, 160)).moved
    True
    """
    from scipy import stats

    x, y = (np.sort(checked(side)[0]) for side in (before, after))
    _need_both(len(x), len(y))
    at = np.concatenate([x, y])
    distance = float(
        np.max(np.abs(np.searchsorted(x, at, side="right") / len(x) - np.searchsorted(y, at, side="right") / len(y)))
    )
    size = len(x) * len(y) / (len(x) + len(y))
    p_value = float(stats.kstwobign.sf(math.sqrt(size) * max(distance - margin, 0.0)))
    return Moved(p_value <= alpha and distance > margin, distance, margin, p_value, len(x), len(y))


def shares_moved(
    before: Sequence[Hashable],
    after: Sequence[Hashable],
    *,
    margin: float = 0.02,
    alpha: float = 0.01,
    permutations: int = 1999,
    seed: int = 0,
) -> Moved:
    """Did the shares of categories move by more than the margin?

    Total variation distance; the part beyond the margin is judged by relabelling the pooled sample at random, which is
    exact for any number of categories, however rare.

    Raises:
        BadInput: A side is empty.

    >>> shares_moved(["ok"] * 95 + ["error"] * 5, ["ok"] * 94 + ["error"] * 6).moved
    False
    >>> shares_moved(["ok"] * 95 + ["error"] * 5, ["ok"] * 70 + ["error"] * 30).moved
    True
    """
    _need_both(len(before), len(after))
    places: dict[Hashable, int] = {}
    for label in (*before, *after):
        places.setdefault(label, len(places))
    one = np.bincount([places[label] for label in before], minlength=len(places))
    two = np.bincount([places[label] for label in after], minlength=len(places))
    distance = float(np.abs(one / len(before) - two / len(after)).sum()) / 2
    drawn = np.random.default_rng(seed).multivariate_hypergeometric(one + two, len(before), size=permutations)
    by_chance = np.abs(drawn / len(before) - (one + two - drawn) / len(after)).sum(axis=1) / 2
    p_value = (1 + int(np.sum(by_chance >= distance - margin - 1e-12))) / (1 + permutations)
    return Moved(p_value <= alpha and distance > margin, distance, margin, p_value, len(before), len(after))


def _need_both(n: int, m: int) -> None:
    if not n or not m:
        raise BadInput(f"There are {n} values before and {m} after; each side needs at least one.")
