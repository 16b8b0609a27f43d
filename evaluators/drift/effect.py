"""How bad is it now: estimates with intervals that hold at every look."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from driftline.errors import BadInput
from evaluators.drift.bounds import Array
from evaluators.drift.numbers import checked
from evaluators.drift.quantiles import FrozenQuantiles
from evaluators.drift.reference import FrozenReference


@dataclass(frozen=True, slots=True)
class Effect:
    """The mean of a stream now, and its change against the reference, each with an interval.

    [low, high] covers the mean with `confidence`; [change_low, change_high] covers mean minus reference mean with the
    same, where the reference's own bounds hold (its confidence is part of the false-alarm budget, and counted there).
    """

    n: int
    mean: float
    low: float
    high: float
    change: float
    change_low: float
    change_high: float
    confidence: float


@dataclass(frozen=True, slots=True)
class Slowdown:
    """How many times longer a frozen quantile has become: 1.0 unchanged, 1.6 is 60 % slower, with an interval."""

    n: int
    quantile: float
    ratio: float
    low: float
    high: float
    confidence: float


def effect(
    reference: FrozenReference,
    current: Sequence[float],
    *,
    confidence: float = 0.95,
    weights: Sequence[float] | None = None,
) -> Effect:
    """The mean of `current` and its change against the reference.

    The interval is a confidence sequence: it may be recomputed after every new value without losing its coverage.
    Values picked because they looked bad (everything since the estimated change) make it optimistic about the change;
    values that came after the alarm do not. Where values of one block share shocks, give block means.

    Args:
        reference: What the stream was like; its bounds enter the change.
        current: In [0, 1], in the order in which they came.
        confidence: Of each interval.
        weights: Per value r_min / r in (0, 1], for sampled records.

    Raises:
        BadInput: No value, or one outside [0, 1].

    >>> from evaluators.drift.reference import freeze
    >>> good = freeze([1.0, 1.0, 1.0, 0.0] * 50, direction="fall", margin=0.01, confidence=0.995)
    >>> now = effect(good, [1.0, 0.0] * 100)
    >>> round(now.mean, 2), round(now.change, 2), now.change_high < 0
    (0.5, -0.25, True)
    """
    xs, ws = checked(current, weights, low=0.0, high=1.0)
    if not xs:
        raise BadInput("There is no current value to estimate from; wait for the next block that holds one.")
    x, w = np.array(xs), np.array(ws)
    low, high = confidence_sequence(x, 1 - confidence, w)
    mean = float(np.sum(w * x) / np.sum(w))
    return Effect(
        n=len(xs),
        mean=mean,
        low=low,
        high=high,
        change=mean - reference.mean,
        change_low=low - reference.high,
        change_high=high - reference.low,
        confidence=confidence,
    )


def slowdown(
    reference: FrozenQuantiles,
    latencies: Sequence[float],
    input_tokens: Sequence[float] | None = None,
    output_tokens: Sequence[float] | None = None,
    *,
    quantile: float = 0.5,
    confidence: float = 0.95,
) -> Slowdown:
    """How many times slower answers of the same lengths have become, at one of the frozen quantiles.

    Interval from order statistics of the current latencies (no distribution assumed, a fixed sample), widened by the
    interval of the frozen line.

    Raises:
        BadInput: The quantile was not frozen, or there are too few latencies to bound it.

    >>> from evaluators.drift.reference import freeze_quantiles
    >>> lines = freeze_quantiles([100.0 + i % 50 for i in range(500)], confidence=0.995)
    >>> now = slowdown(lines, [160.0 + i % 80 for i in range(400)])
    >>> round(now.ratio, 2), now.low > 1.4, now.high < 1.8
    (1.6, True, True)
    """
    from scipy import stats

    if quantile not in reference.quantiles:
        raise BadInput(
            f"The quantile {quantile} was not frozen; choose from {', '.join(map(str, reference.quantiles))}."
        )
    k = reference.quantiles.index(quantile)
    rest = np.sort(reference.adjusted(latencies, input_tokens, output_tokens))
    n, half = len(rest), (1 - confidence) / 2
    first = int(stats.binom.ppf(half, n, quantile)) - 1
    last = int(stats.binom.ppf(1 - half, n, quantile)) + 1
    if first < 0 or last >= n:
        raise BadInput(
            f"{n} latencies cannot bound the quantile {quantile}; use more, or a quantile nearer the middle."
        )
    middle = float(rest[min(n, math.ceil(quantile * (n + 1))) - 1])
    return Slowdown(
        n=n,
        quantile=quantile,
        ratio=math.exp(middle - reference.lines[k]),
        low=math.exp(float(rest[first]) - reference.line_highs[k]),
        high=math.exp(float(rest[last]) - reference.line_lows[k]),
        confidence=confidence,
    )


def confidence_sequence(x: Array, alpha: float, weights: Array | None = None) -> tuple[float, float]:
    """Bounds of the mean of values in [0, 1] that hold at all sample sizes at once with probability ≥ 1 - alpha.

    Two bets against every candidate mean, one for each side, with stakes sqrt(2 log(2/alpha) / (variance so far ·
    i · log(1 + i))) at most half of what cannot go broke.

    Source: Waudby-Smith, Ramdas (2024), Estimating means of bounded random variables by betting, theorem 3.

    >>> low, high = confidence_sequence(np.array([0.4, 0.6] * 200), 0.05)
    >>> 0.45 < low < 0.5 < high < 0.55
    True
    """
    w = np.ones_like(x) if weights is None else weights
    counted = np.arange(1, len(x) + 1)
    centres = (np.cumsum(w * x) + 0.5) / (np.cumsum(w) + 1)
    spread = (np.cumsum((w * (x - centres)) ** 2) + 0.25) / (counted + 1)
    variance = np.concatenate([[0.25], spread[:-1]])
    stakes = np.sqrt(2 * math.log(2 / alpha) / (variance * counted * np.log1p(counted)))
    return _lowest(x, w, stakes, math.log(2 / alpha)), 1 - _lowest(1 - x, w, stakes, math.log(2 / alpha))


def _lowest(x: Array, w: Array, stakes: Array, goal: float) -> float:
    """Smallest mean against which betting on "more" has not multiplied the wealth by e^goal."""
    low, high = 0.0, float(np.sum(w * x) / np.sum(w))
    for _ in range(4):
        candidates = np.linspace(low, high, 17)[1:]
        bets = np.minimum(stakes[:, None], 0.5 / np.maximum(candidates, 1e-12))
        wealth = np.log1p(bets * (w[:, None] * (x[:, None] - candidates))).sum(axis=0)
        kept = wealth < goal
        first = int(np.argmax(kept)) if kept.any() else len(candidates) - 1
        low, high = (float(candidates[first - 1]) if first else low), float(candidates[first])
    return low
