"""What a sample of paired differences says: interval, p-value, e-value, whatever its items share or weigh."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from driftline.errors import BadInput
from evaluators.comparison.clustered import TYPICAL_CLUSTERS, ClusteredConfidence, clustered_confidence
from evaluators.comparison.evidence import betting_e_value, kt_e_value, mcnemar, unfavourable
from evaluators.comparison.interval import TYPICAL_DIFFERENT, TYPICAL_ITEMS, mean_confidence
from evaluators.comparison.pairs import Pairs

Floats = NDArray[np.float64]

BY_ITEM = "Bayesian bootstrap with an unseen difference"
BY_CLUSTER = "cluster-robust t (CR2)"


@dataclass(frozen=True, slots=True)
class Sample:
    """Differences in [-1, 1], shape (items,), with what is known of their items.

    `weights` is None where all weigh the same, `cluster` None where items are independent, else the index of each
    item's cluster, 0 and up without gaps; `binary` says that both sides score 0 or 1.
    """

    differences: Floats
    weights: Floats | None
    cluster: NDArray[np.intp] | None
    binary: bool

    @property
    def mass(self) -> Floats:
        """Weight of each item, shape (items,)."""
        return np.ones(len(self.differences)) if self.weights is None else self.weights

    @property
    def clusters(self) -> int | None:
        """How many clusters there are, None where items are independent."""
        return None if self.cluster is None else len(np.unique(self.cluster))

    @property
    def disagreements(self) -> tuple[int, int]:
        """How many items are worse, and how many better."""
        return int((self.differences < 0.0).sum()), int((self.differences > 0.0).sum())

    def mean(self, values: Floats) -> float:
        """Weighted mean of one value per item, 0 where there is none."""
        return float((self.mass * values).sum()) / float(self.mass.sum()) if len(values) else 0.0

    def e_value(self, margin: float) -> float:
        """Evidence that the mean difference is below -margin; a cluster is one bet."""
        if self.binary and self.weights is None and self.cluster is None and margin == 0.0:
            return kt_e_value(*self.disagreements)
        if not len(self.differences):
            return 1.0
        unit = np.arange(len(self.differences)) if self.cluster is None else self.cluster
        evidence = np.bincount(unit, self.mass * unfavourable(self.differences, margin))
        return betting_e_value(evidence / np.bincount(unit, self.mass).max())


@dataclass(frozen=True, slots=True)
class Inference:
    """Interval of the mean difference, two-sided p-value of "no difference", and by what method.

    `variance` is that of one item's difference, so that the error of the mean over n such items is √(variance/n).
    """

    low: float
    high: float
    p_value: float
    variance: float
    method: str


def sampled(pairs: Pairs, weights: Mapping[str, float] | None, clusters: Mapping[str, str] | None) -> Sample:
    """The sample of some pairs; an item without a weight weighs 1, one without a cluster is its own.

    Raises:
        BadInput: A weight is not above 0.
    """
    return Sample(pairs.differences, _weights(pairs, weights), _clusters(pairs, clusters), pairs.binary)


def infer(sample: Sample, level: float) -> Inference:
    """Interval and p-value of a sample.

    Clusters are judged between clusters. Where that rests on little (fewer than 40 clusters, 200 items, or 10 clusters
    in which anything differs), the interval is widened to hold the one by item as well: rare differences in few
    clusters make the former too narrow by chance.
    """
    if not len(sample.differences):
        return Inference(-1.0, 1.0, 1.0, 1.0, "nothing was scored on both sides")
    by_item = mean_confidence(sample.differences, sample.weights, binary=sample.binary)
    if sample.cluster is None:
        low, high = by_item.bounds(level)
        exact = sample.binary and sample.weights is None
        p_value = mcnemar(*sample.disagreements) if exact else two_sided(by_item.at(0.0))
        return Inference(
            low, high, p_value, _variance(sample), f"{BY_ITEM}; {'exact McNemar' if exact else 'its p-value'}"
        )
    if sample.clusters == 1:
        return Inference(-1.0, 1.0, 1.0, _variance(sample), "one cluster, which says nothing about others")
    between = clustered_confidence(sample.differences, sample.mass, sample.cluster)
    low, high = between.bounds(level)
    p_value, method = two_sided(between.at(0.0)), BY_CLUSTER
    if rests_on_little(between, len(sample.differences)):
        item_low, item_high = by_item.bounds(level)
        low, high = min(low, item_low), max(high, item_high)
        p_value, method = max(p_value, two_sided(by_item.at(0.0))), f"{BY_CLUSTER}, or wider: {BY_ITEM}"
    variance = max(between.error**2 * len(sample.differences), _variance(sample))
    return Inference(low, high, p_value, variance, method)


def two_sided(confidence: float) -> float:
    """The p-value of a null on whose lower side this much confidence lies."""
    return min(2.0 * min(confidence, 1.0 - confidence), 1.0)


def rests_on_little(between: ClusteredConfidence, items: int) -> bool:
    """Whether so few clusters, items or clusters that differ make the interval by item count as well."""
    return between.clusters < TYPICAL_CLUSTERS or items < TYPICAL_ITEMS or between.different < TYPICAL_DIFFERENT


def _variance(sample: Sample) -> float:
    """Variance of one item's difference, had one more item been seen at either end; unequal weights make it larger."""
    seen, mass = sample.differences, sample.mass
    ends = (-1.0, 1.0) if sample.binary or not seen.any() else (seen.min(), seen.max())
    return float(np.append(seen, ends).var() * len(seen) * (mass**2).sum() / mass.sum() ** 2)


def _weights(pairs: Pairs, weights: Mapping[str, float] | None) -> Floats | None:
    given = np.array([1.0 if weights is None else weights.get(item, 1.0) for item in pairs.items])
    wrong = np.flatnonzero(~(np.isfinite(given) & (given > 0.0)))
    if len(wrong):
        item = pairs.items[wrong[0]]
        raise BadInput(
            f"Item {item} weighs {given[wrong[0]]}; weights must be above 0. Leave the item out to ignore it."
        )
    return None if not len(given) or (given == given[0]).all() else given


def _clusters(pairs: Pairs, clusters: Mapping[str, str] | None) -> NDArray[np.intp] | None:
    """Index of each item's cluster; None where no two items share one."""
    if clusters is None:
        return None
    index: dict[tuple[str, str], int] = {}
    cluster = np.array(
        [
            index.setdefault(("cluster", clusters[item]) if item in clusters else ("item", item), len(index))
            for item in pairs.items
        ],
        dtype=np.intp,
    )
    return cluster if len(index) < len(pairs.items) else None
