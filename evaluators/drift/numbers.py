"""Logarithms of evidence, and the one check of what comes in."""

import math
from collections.abc import Sequence

from driftline.errors import BadInput


def softplus(x: float) -> float:
    """log(1 + e^x) without overflow.

    >>> softplus(-math.inf), softplus(800.0)
    (0.0, 800.0)
    """
    return x + math.log1p(math.exp(-x)) if x > 0 else math.log1p(math.exp(x))


def log_mean_exp(logs: Sequence[float]) -> float:
    """Logarithm of the mean of e^log; -inf where all are.

    >>> round(math.exp(log_mean_exp([math.log(1.0), math.log(3.0)])), 9)
    2.0
    """
    top = max(logs)
    if top == -math.inf:
        return top
    return top + math.log(math.fsum(math.exp(x - top) for x in logs) / len(logs))


def from_log(x: float) -> float | None:
    """For JSON, which has no infinity: -inf becomes None."""
    return None if x == -math.inf else x


def to_log(x: float | None) -> float:
    """Back from `from_log`."""
    return -math.inf if x is None else float(x)


def checked(
    values: Sequence[float],
    weights: Sequence[float] | None = None,
    *,
    low: float = -math.inf,
    high: float = math.inf,
    what: str = "value",
) -> tuple[list[float], list[float]]:
    """Values and weights as floats; weights of 1 where none are given.

    Raises:
        BadInput: A value is NaN, infinite or outside [low, high], or a weight is outside (0, 1]; names the place.
    """
    xs = [float(x) for x in values]
    for i, x in enumerate(xs):
        if not (math.isfinite(x) and low <= x <= high):
            within = f"a finite number in [{low:g}, {high:g}]" if math.isfinite(low) else "a finite number"
            raise BadInput(
                f"The {what} at index {i} is {x}; it must be {within}. Leave missing values out of the block."
            )
    if weights is None:
        return xs, [1.0] * len(xs)
    ws = [float(w) for w in weights]
    if len(ws) != len(xs):
        raise BadInput(f"There are {len(ws)} weights for {len(xs)} values; each value needs one.")
    for i, w in enumerate(ws):
        if not 0 < w <= 1:
            raise BadInput(f"The weight at index {i} is {w}; it must be r_min / r, in (0, 1].")
    return xs, ws
