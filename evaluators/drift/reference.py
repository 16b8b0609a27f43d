"""Frozen references: what a stream was like when it was good, with the error of saying so."""

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal, Self

import numpy as np

from driftline.errors import BadInput
from evaluators.drift.bounds import block_means, lower_mean, lower_of_blocks, upper_mean
from evaluators.drift.numbers import checked
from evaluators.drift.quantiles import LEAST_BLOCKS, FrozenQuantiles, freeze_quantiles

__all__ = ["LEAST", "FrozenQuantiles", "FrozenReference", "freeze", "freeze_quantiles"]

LEAST = 20  # values; fewer bound a mean so badly that no change could be told from chance


@dataclass(frozen=True, slots=True)
class FrozenReference:
    """The mean of a stream in [0, 1] while it was good, and the edge `m0` that a detector watches.

    `low` and `high` each hold with `confidence`; `bound` is the one on the alarming side, and `m0` is the bound moved
    by `margin` to where a change begins to matter. `content_hash` names the values, in order, and the settings.
    """

    direction: Literal["fall", "rise"]
    n: int
    mean: float
    low: float
    high: float
    bound: float
    margin: float
    confidence: float
    m0: float
    clusters: int | None
    content_hash: str

    def params(self) -> dict[str, Any]:
        """What `detector("esr", {**reference.params(), "log_threshold": …})` needs."""
        return {"m0": self.m0, "direction": self.direction}

    def to_json(self) -> dict[str, Any]:
        """As JSON values; `from_json` gives it back."""
        return asdict(self)

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> Self:
        """The reference that `to_json` wrote."""
        return cls(**stored)


def freeze(
    values: Sequence[float],
    *,
    direction: Literal["fall", "rise"],
    margin: float,
    confidence: float,
    weights: Sequence[float] | None = None,
    blocks: Sequence[int] | None = None,
) -> FrozenReference:
    """Bounds the mean of a good stretch of a stream and sets the edge `m0` from which on a change matters.

    For a fall, m0 = lower confidence bound of the mean - margin; for a rise, upper bound + margin. The probability
    1 - confidence that the bound is wrong belongs to the false-alarm budget (`budget.allow` gives the confidence).

    Args:
        values: In [0, 1], in the order in which they came; 1 may be good (direction "fall") or bad ("rise").
        direction: The side that alarms.
        margin: How far the mean may move before it matters, in the unit of the values (0.01 is one point).
        confidence: Of the bound, one-sided, e.g. 0.995.
        weights: Per value r_min / r in (0, 1] for records sampled with unequal inclusion probability r.
        blocks: Per value the block it belongs to. Give it where values of one block share shocks (live traffic): the
            bound then also covers the spread of the block means, which shared shocks widen, from 30 blocks on.

    Raises:
        BadInput: Too few values, a value outside [0, 1], or so few or such values that no room is left for a change.

    >>> good = freeze([1.0] * 90 + [0.0] * 10, direction="fall", margin=0.01, confidence=0.995)
    >>> round(good.mean, 2), round(good.bound, 3), round(good.m0, 3)
    (0.9, 0.798, 0.788)
    """
    if direction not in ("fall", "rise"):
        raise BadInput(f"direction is {direction!r}; it must be 'fall' or 'rise'.")
    if not (math.isfinite(margin) and margin >= 0):
        raise BadInput(f"margin is {margin}; it must be a number ≥ 0, in the unit of the values.")
    if not 0.5 <= confidence < 1:
        raise BadInput(f"confidence is {confidence}; it must lie in [0.5, 1), e.g. 0.995.")
    xs, ws = checked(values, weights, low=0.0, high=1.0)
    if len(xs) < LEAST:
        raise BadInput(
            f"The reference has {len(xs)} values; at least {LEAST} are needed, and a few hundred serve better."
        )
    if blocks is not None and len(blocks) != len(xs):
        raise BadInput(f"There are {len(blocks)} block numbers for {len(xs)} values; each value needs one.")
    x, w = np.array(xs), np.array(ws)
    alpha = 1 - confidence
    uneven = None if weights is None else w
    low, high = lower_mean(x, alpha, uneven), upper_mean(x, alpha, uneven)
    clusters = None
    if blocks is not None:
        means = block_means(x, w, blocks)
        clusters = len(means)
        if clusters >= LEAST_BLOCKS:
            low = max(0.0, min(low, lower_of_blocks(means, alpha)))
            high = min(1.0, max(high, 1 - lower_of_blocks(1 - means, alpha)))
    bound = low if direction == "fall" else high
    m0 = bound - margin if direction == "fall" else bound + margin
    mean = float(np.sum(w * x) / np.sum(w))
    if not 0 < m0 < 1:
        raise BadInput(
            f"A {direction} cannot be told: {len(xs)} values with mean {mean:.4g} bound the mean by {bound:.4g}; "
            f"the margin of {margin:g} leaves nothing beyond. Use more values, a smaller margin or the other direction."
        )
    settings = f"mean|{direction}|{margin!r}|{confidence!r}|{clusters}"
    digest = hashlib.sha256(settings.encode() + x.astype("<f8").tobytes() + w.astype("<f8").tobytes()).hexdigest()
    return FrozenReference(
        direction, len(xs), mean, low, high, bound, float(margin), float(confidence), m0, clusters, digest
    )
