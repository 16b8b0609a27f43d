"""The interval of a mean where items come in clusters: questions on one document, turns of one conversation.

Items of one cluster fail together, so the error is taken between clusters (Miller 2024, arXiv 2411.00640, section 2.2),
with the small-sample correction of Bell and McCaffrey (CR2) and the degrees of freedom of Imbens and Kolesár (2016,
Review of Economics and Statistics 98:4), which come out low when a few clusters hold most items.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

TYPICAL_CLUSTERS = 40  # below, an interval between clusters alone misses too often where differences are rare


@dataclass(frozen=True, slots=True)
class ClusteredConfidence:
    """Student's t around `mean` with standard error `error`; `at(x)` is the confidence that the mean is at most x."""

    mean: float
    error: float
    degrees: float
    clusters: int
    different: int

    def at(self, x: float) -> float:
        """Confidence, in [0, 1], that the mean is at most `x`."""
        from scipy.special import stdtr

        if self.error == 0.0:
            return 0.5 if x == self.mean else float(x > self.mean)
        return float(stdtr(self.degrees, (x - self.mean) / self.error))

    def bounds(self, level: float) -> tuple[float, float]:
        """The central interval of confidence `level`, cut to [-1, 1]."""
        from scipy.special import stdtrit

        reach = float(stdtrit(self.degrees, (1.0 + level) / 2.0)) * self.error
        return max(self.mean - reach, -1.0), min(self.mean + reach, 1.0)


def clustered_confidence(differences: Floats, weights: Floats, cluster: NDArray[np.intp]) -> ClusteredConfidence:
    """What clusters of differences say about the mean, each cluster drawn as a whole.

    Args:
        differences: Candidate minus baseline in [-1, 1], shape (items,).
        weights: Item weights above 0, shape (items,).
        cluster: Index of each item's cluster, 0 to clusters - 1 without gaps, at least two clusters, shape (items,).
    """
    mass = np.bincount(cluster, weights)
    share = mass / mass.sum()
    mean = float((weights * differences).sum() / mass.sum())
    residual = np.bincount(cluster, weights * (differences - mean))
    error = math.sqrt(float((residual**2 / (1.0 - share)).sum())) / float(mass.sum())
    within = _intracluster_correlation(differences, cluster)
    spread = (1.0 - within) * np.bincount(cluster, weights**2) + within * mass**2
    different = int(np.count_nonzero(np.bincount(cluster, np.abs(differences))))
    return ClusteredConfidence(mean, error, _degrees(share, spread), len(mass), different)


def _intracluster_correlation(differences: Floats, cluster: NDArray[np.intp]) -> float:
    """Share of the variance that lies between clusters, by analysis of variance, at least 0."""
    sizes = np.bincount(cluster)
    items, groups = len(differences), len(sizes)
    if items == groups:
        return 0.0
    means = np.bincount(cluster, differences) / sizes
    inside = float(((differences - means[cluster]) ** 2).sum()) / (items - groups)
    between = float((sizes * (means - differences.mean()) ** 2).sum()) / (groups - 1)
    typical_size = (items - float((sizes**2).sum()) / items) / (groups - 1)
    between = max((between - inside) / typical_size, 0.0)
    return between / (between + inside) if between + inside > 0.0 else 0.0


def _degrees(share: Floats, spread: Floats) -> float:
    """Satterthwaite's degrees of freedom of the CR2 variance, if cluster sums vary independently by `spread`.

    They are trace(M)² / trace(M²), where M is the covariance of the adjusted residual sums: a diagonal plus a matrix of
    rank two, so both traces need one pass.
    """
    total = float(spread.sum())
    scale = 1.0 / np.sqrt(1.0 - share)
    p, q = scale * share, scale * spread
    pp, pq, qq = float((p * p).sum()), float((p * q).sum()), float((q * q).sum())
    trace = float((scale**2 * (spread - 2.0 * share * spread + total * share**2)).sum())
    diagonal = float((scale**4 * spread * (spread + 2.0 * (total * share**2 - 2.0 * share * spread))).sum())
    low_rank = 2.0 * pp * qq + 2.0 * pq**2 + (total * pp) ** 2 - 4.0 * total * pp * pq
    return trace**2 / (diagonal + low_rank)
