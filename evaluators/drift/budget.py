"""The false-alarm budget: how strong evidence must be so that a year of looking keeps its promise."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

from driftline.errors import BadInput


def log_threshold(blocks_per_year: float, alpha: float = 0.01, weight: float = 1.0) -> float:
    """log A with A = N / (α w): a stream of N blocks a year then alarms falsely with probability ≤ α w.

    Args:
        blocks_per_year: N, blocks that will be judged in a year (35 040 for 15 minutes).
        alpha: The project's budget for all its streams together, or the part of it left after the reference bounds.
        weight: The stream's share of it; the weights of a project's streams sum to at most 1.

    >>> round(math.exp(log_threshold(35_040, 0.01)))
    3504000
    """
    if not blocks_per_year >= 1:
        raise BadInput(f"blocks_per_year is {blocks_per_year}; at least one block must be judged in a year.")
    _check(alpha, weight)
    return math.log(blocks_per_year) - math.log(alpha) - math.log(weight)


@dataclass(frozen=True, slots=True)
class Allowance:
    """One stream's share of the budget, split between its two ways to be wrong.

    `confidence` is for `reference.freeze`: the bound fails with probability 1 - confidence. `log_threshold` is for
    the detector, which alarms falsely within a year with the rest where the bound holds. Together ≤ α · weight.
    """

    confidence: float
    log_threshold: float


def allow(
    blocks_per_year: float, alpha: float = 0.01, weight: float = 1.0, *, reference_share: float = 0.5
) -> Allowance:
    """What one stream may spend: `reference_share` of α · weight on its reference bound, the rest on its detector.

    Half and half is close to the best split for references of 100 to 10 000 items: halving the detector's part
    costs log 2 of a threshold near 16, halving the bound's part widens the bound by about 5 %.

    >>> share = allow(35_040, 0.01)
    >>> share.confidence, round(math.exp(share.log_threshold))
    (0.995, 7008000)
    """
    if not 0 < reference_share < 1:
        raise BadInput(f"reference_share is {reference_share}; it must lie strictly between 0 and 1.")
    _check(alpha, weight)
    return Allowance(
        confidence=1 - alpha * weight * reference_share,
        log_threshold=log_threshold(blocks_per_year, alpha * (1 - reference_share), weight),
    )


def split(importance: Mapping[str, float]) -> dict[str, float]:
    """Weights w_k that sum to 1 over the streams of a project, in proportion to their importance.

    Streams may come and go: split again and give every detector its new threshold with `rethreshold`. A detector
    keeps its evidence at the same distance from the line, so a block that was judged with share w stays charged with
    w / N, and the year's total, Σ over blocks of α w_k(t) / N_k, stays ≤ α as long as the weights of every moment sum
    to ≤ 1. (Lowering a threshold under evidence gathered for a higher one would charge the past twice.)

    >>> split({"quality": 2, "latency": 1, "errors": 1})
    {'quality': 0.5, 'latency': 0.25, 'errors': 0.25}
    """
    for name, amount in importance.items():
        if not (math.isfinite(amount) and amount > 0):
            raise BadInput(
                f"The importance of {name} is {amount}; it must be a positive number. Leave the stream out instead."
            )
    whole = math.fsum(importance.values())
    return {name: amount / whole for name, amount in importance.items()}


def _check(alpha: float, weight: float) -> None:
    if not 0 < alpha < 1:
        raise BadInput(f"alpha is {alpha}; a budget is a probability strictly between 0 and 1, e.g. 0.01.")
    if not 0 < weight <= 1:
        raise BadInput(f"weight is {weight}; a share of the budget lies in (0, 1].")
