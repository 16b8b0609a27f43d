"""A comparison by a judge: what it moved by is taken out, and its noise has a place of its own in the interval."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from statistics import NormalDist
from typing import Any

import numpy as np

from evaluators.comparison.result import Comparison
from evaluators.comparison.verdicts import Verdict, verdict

FEWEST = 20  # anchors; fewer say too little of a judge


@dataclass(frozen=True, slots=True)
class JudgeDrift:
    """How much higher a judge graded the same human-labelled answers when it judged the candidate.

    `estimate` ± `reach` is the interval of `level` (Student's t over anchors); `bias` is its mean grade minus people's.
    """

    anchors: int
    estimate: float
    reach: float
    level: float
    bias: float

    def to_json(self) -> dict[str, Any]:
        """All of it as JSON values."""
        return {
            "anchors": self.anchors, "drift": self.estimate, "reach": self.reach, "level": self.level,
            "bias": self.bias,
        }  # fmt: skip


def judge_drift(candidate: Mapping[str, float], baseline: Mapping[str, float], level: float = 0.95) -> JudgeDrift:
    """The judge's drift between two replays, from its errors (its grade minus people's) on the anchors of both.

    Without anchors in common, or with fewer than 20, nothing is known: the reach is 1, all of the scale.

    >>> judge_drift({str(n): 0.1 for n in range(30)}, {str(n): 0.0 for n in range(30)}).estimate
    0.1
    """
    from scipy.special import stdtrit

    common = sorted(candidate.keys() & baseline.keys())
    bias = float(np.mean([candidate[key] for key in common])) if common else 0.0
    if len(common) < FEWEST:
        return JudgeDrift(len(common), 0.0, 1.0, level, bias)
    moved = np.array([candidate[key] - baseline[key] for key in common])
    error = float(moved.std(ddof=1)) / math.sqrt(len(moved))
    reach = float(stdtrit(len(moved) - 1, (1.0 + level) / 2.0)) * error
    return JudgeDrift(len(common), round(float(moved.mean()), 12), reach, level, bias)


@dataclass(frozen=True, slots=True)
class SelfNoise:
    """How a judge that was asked repeatedly differs from itself on the answers of a comparison.

    `agreement` is the share of pairs of repeats that gave the same grade. `reach` is half the width that an interval of
    `level` of the difference would have if nothing but the repeats varied.
    """

    agreement: float
    baseline_agreement: float
    reach: float
    level: float

    def to_json(self) -> dict[str, Any]:
        """All of it as JSON values."""
        return {"agreement": self.agreement, "baseline_agreement": self.baseline_agreement, "own_reach": self.reach}


def self_noise(candidate: Mapping[str, float], baseline: Mapping[str, float], level: float = 0.95) -> SelfNoise:
    """A judge's own noise, from the sums that both replays kept over their repeatedly judged answers.

    Args:
        candidate: `scores`, how many; `agreement` and `noise`, their sums of agreement and of the variance of a score.
        baseline: The same of the baseline.
        level: Confidence of the two-sided interval.

    >>> some = {"scores": 100, "agreement": 80.0, "noise": 1.0}
    >>> found = self_noise(some, some)
    >>> found.agreement, round(found.reach, 3)
    (0.8, 0.028)
    """
    variance = sum(side["noise"] / side["scores"] ** 2 for side in (candidate, baseline))
    reach = NormalDist().inv_cdf((1.0 + level) / 2.0) * math.sqrt(variance)
    shares = [side["agreement"] / side["scores"] for side in (candidate, baseline)]
    return SelfNoise(shares[0], shares[1], reach, level)


def with_self_noise(comparison: Comparison, noise: SelfNoise) -> Comparison:
    """The comparison with an interval that is on neither side narrower than the judge's own noise alone makes it.

    That noise is in the scores, so on average the interval holds it already; adding it would count it twice. But few
    items, or items that happen to tie, can show less of it than there is.
    """
    low = max(min(comparison.low, comparison.estimate - noise.reach), -1.0)
    high = min(max(comparison.high, comparison.estimate + noise.reach), 1.0)
    word = verdict(low, high, comparison.margin)
    undecided = word is Verdict.UNDECIDED
    needed = comparison.n_to_decide if undecided else None
    as_seen = comparison.n_if_as_seen if undecided else None
    return replace(comparison, low=low, high=high, verdict=word, n_to_decide=needed, n_if_as_seen=as_seen)


def without_drift(comparison: Comparison, drift: JudgeDrift) -> Comparison:
    """The comparison as a judge that had not moved would have made it, with an interval that knows the judge's noise.

    The drift is subtracted; the half-widths of both intervals add as independent errors do.
    """
    estimate = min(max(comparison.estimate - drift.estimate, -1.0), 1.0)
    low = max(estimate - math.hypot(comparison.estimate - comparison.low, drift.reach), -1.0)
    high = min(estimate + math.hypot(comparison.high - comparison.estimate, drift.reach), 1.0)
    word = verdict(low, high, comparison.margin)
    undecided = word is Verdict.UNDECIDED
    return replace(
        comparison, estimate=estimate, low=low, high=high, verdict=word,
        n_to_decide=comparison.n_to_decide if undecided else None, n_if_as_seen=None,
        method=f"{comparison.method}; judge drift on {drift.anchors} anchors taken out",
    )  # fmt: skip
