"""Does the golden set still ask what people ask? The share of traffic outside it, what that is, and who stands for it.

A prompt is outside when it is farther from every golden item than golden items are from each other: beyond the 95 %
quantile of their distances to the nearest other one. So 5 % of a set's own kind lie outside, and what exceeds that is
a gap. Distances are cosine distances of sentence embeddings.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from evaluators.drift.prompts import coverage_gap

Floats = NDArray[np.float64]

QUANTILE = 0.95
LEVEL = 0.95
MOST_GROUPED = 2000  # prompts outside that are put into groups
SMALLEST_GROUP = 3
TOLD = 5  # prompts a group is told by


@dataclass(frozen=True, slots=True)
class Group:
    """Prompts outside the golden set that are alike: their share of traffic, and the most typical ones by index."""

    share: float
    size: int
    typical: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Coverage:
    """How a golden set covers a sample of traffic.

    Attributes:
        prompts: How many prompts of traffic were looked at.
        radius: Cosine distance from which a prompt is outside.
        outside: Share of traffic outside, each prompt weighted by the inverse of its chance to be in the sample.
        low: Lower end of its 95 % interval.
        high: Upper end.
        expected: The share that would be outside were traffic like the golden set itself.
        expected_high: Its upper 97.5 % bound, as the radius is estimated from the golden items at hand.
        groups: The uncovered kinds of prompts, the most frequent first.
        nearest: Index of the golden item that stands for each prompt; -1 outside, shape (prompts,).
        stands_for: Share of the covered traffic that each golden item stands for, shape (items,).
    """

    prompts: int
    radius: float
    outside: float
    low: float
    high: float
    expected: float
    expected_high: float
    groups: tuple[Group, ...]
    nearest: tuple[int, ...]
    stands_for: tuple[float, ...]

    @property
    def is_gap(self) -> bool:
        """Whether surely more traffic lies outside than the golden set's own kind would."""
        return self.low > self.expected_high


def coverage(golden: Any, traffic: Any, weights: Sequence[float] | None = None) -> Coverage:
    """How golden items cover prompts of traffic.

    Args:
        golden: Embeddings of the golden prompts, shape (items, dimensions), at least 20 items.
        traffic: Embeddings of prompts, shape (prompts, dimensions), at least one.
        weights: Inverse inclusion probability of each prompt, 1 where none are given.

    Raises:
        BadInput: Too few golden items, other dimensions, or a vector that is zero or not finite.

    >>> turn = np.linspace(0.0, 1.0, 50)
    >>> golden = np.column_stack([np.cos(turn), np.sin(turn)])
    >>> found = coverage(golden, np.vstack([golden, -golden[:30]]))
    >>> round(found.outside, 3), found.is_gap, found.groups[0].size
    (0.375, True, 30)
    """
    radius, beyond = coverage_gap(np.asarray(golden), np.asarray(traffic), quantile=QUANTILE)
    outside = np.array(beyond, dtype=bool)
    mass = np.ones(len(outside)) if weights is None else np.asarray(weights, dtype=np.float64)
    share = float(mass[outside].sum() / mass.sum())
    low, high = share_interval(share, float(mass.sum() ** 2 / (mass**2).sum()), LEVEL)
    known, asked = _unit(golden), _unit(traffic)
    nearest = np.argmax(asked @ known.T, axis=1)
    nearest[outside] = -1
    covered = np.bincount(nearest[~outside], mass[~outside], minlength=len(known))
    return Coverage(
        prompts=len(outside), radius=radius, outside=share, low=low, high=high, expected=1.0 - QUANTILE,
        expected_high=_expected_high(len(known)),
        groups=tuple(_groups(asked, mass, outside, radius)), nearest=tuple(nearest.tolist()),
        stands_for=tuple((covered / covered.sum()).tolist() if covered.sum() else [1.0 / len(known)] * len(known)),
    )  # fmt: skip


def item_weights(stands_for: Sequence[float], prompts: int) -> list[float]:
    """Weights by which golden results become those of today's traffic, mean 1, all above 0.

    An item that no prompt came near may still be asked tomorrow, and few prompts say little: the shares are drawn
    towards equal ones as if one more prompt per item had been spread evenly (Laplace's rule).
    """
    items = len(stands_for)
    return [(share * prompts + 1.0) / (prompts + items) * items for share in stands_for]


def share_interval(share: float, n: float, level: float) -> tuple[float, float]:
    """Wilson's interval of a share seen in `n` (effective) prompts."""
    from statistics import NormalDist

    z = NormalDist().inv_cdf((1.0 + level) / 2.0)
    middle = (share + z * z / (2.0 * n)) / (1.0 + z * z / n)
    reach = z / (1.0 + z * z / n) * math.sqrt(share * (1.0 - share) / n + z * z / (4.0 * n * n))
    return max(middle - reach, 0.0), min(middle + reach, 1.0)


def _expected_high(items: int) -> float:
    """What lies beyond the estimated quantile of so many distances, at most: order statistics follow a Beta law."""
    from scipy.special import betaincinv

    rank = math.ceil(QUANTILE * (items - 1)) + 1
    return float(betaincinv(items - rank + 1, rank, (1.0 + LEVEL) / 2.0)) if rank <= items else 1.0


def _groups(asked: Floats, mass: Floats, outside: NDArray[np.bool_], radius: float) -> list[Group]:
    """Groups of prompts outside whose members are on average as near to each other as golden items are, or nearly."""
    from sklearn.cluster import AgglomerativeClustering

    places = np.flatnonzero(outside)[:MOST_GROUPED]
    if len(places) < SMALLEST_GROUP:
        return []
    vectors = asked[places]
    apart = np.clip(1.0 - vectors @ vectors.T, 0.0, 2.0)
    cut = min(max(1.25 * radius, 0.3), 0.8)
    labels = AgglomerativeClustering(
        n_clusters=None, metric="precomputed", linkage="average", distance_threshold=cut
    ).fit_predict(apart)
    found = []
    for label in range(int(labels.max()) + 1):
        members = np.flatnonzero(labels == label)
        if len(members) < SMALLEST_GROUP:
            continue
        central = members[np.argsort(apart[np.ix_(members, members)].mean(axis=1), kind="stable")]
        share = float(mass[places[members]].sum() / mass.sum())
        found.append(Group(share, len(members), tuple(places[central[:TOLD]].tolist())))
    return sorted(found, key=lambda group: -group.share)


def _unit(vectors: Any) -> Floats:
    array = np.asarray(vectors, dtype=np.float64)
    unit: Floats = array / np.linalg.norm(array, axis=1, keepdims=True)
    return unit
