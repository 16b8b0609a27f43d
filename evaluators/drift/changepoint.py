"""When did it begin? The change behind an alarm, dated with an interval and confirmed by an independent test."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from driftline.errors import BadInput
from evaluators.drift.bounds import Array
from evaluators.drift.numbers import checked

LEAST = 8  # values
MOST = 5000  # values, for an answer within a second
SMALLEST = 3  # values on each side of a change
COARSE = 250  # values at most in the permutation test, whose cost is quadratic


@dataclass(frozen=True, slots=True)
class ChangePoint:
    """Where a series changed: `index` is the first value after the change, `began_at` its time.

    [low, high] are times that hold the change with the asked confidence, if there is one. `confirmed` says that a
    permutation test finds a change at all (`p_value` ≤ 0.01); without it the date is the least bad guess.
    """

    began_at: int
    low: int
    high: int
    index: int
    before: float
    after: float
    p_value: float
    confirmed: bool


def locate(
    values: Sequence[float], times: Sequence[int], *, confidence: float = 0.95, seed: int = 0, permutations: int = 199
) -> ChangePoint:
    """Dates the largest change of the mean in a series around an alarm.

    PELT (ruptures, squared error, penalty 3 σ² log n with σ from first differences) cuts the series into stretches; of
    their borders the one with the largest gain in squared error is taken, or the best single split where PELT finds
    none. The interval holds the middle `confidence` of the normalized profile likelihood of the split (two means, one
    variance) between the neighbouring borders; its coverage is tested by simulation.

    The change is confirmed by E-divisive's test: the energy distance of the best split against that of shuffled series
    (on at most 250 means of neighbours). Autocorrelation makes the confirmation optimistic: give block means, not
    items.

    Args:
        values: One per block or item, in order of time.
        times: Per value, not decreasing; any unit (microseconds in the store).
        confidence: Of the interval.
        seed: Of the shuffles; the same seed gives the same answer.
        permutations: Shuffles; 199 let the p-value reach 0.005.

    Raises:
        BadInput: Fewer than 8 or more than 5000 values, a value that is not finite, or times that run backwards.

    Source: Killick, Fearnhead, Eckley (2012), JASA 107; Matteson, James (2014), JASA 109.

    >>> found = locate([0.9, 0.8, 1.0, 0.9] * 10 + [0.5, 0.4, 0.6, 0.5] * 5, range(0, 600, 10))
    >>> found.index, found.began_at, found.confirmed, found.low <= 400 <= found.high
    (40, 400, True, True)
    """
    xs, _ = checked(values)
    n = len(xs)
    if n < LEAST:
        raise BadInput(f"There are {n} values; at least {LEAST} are needed to date a change.")
    if n > MOST:
        raise BadInput(f"There are {n} values; at most {MOST} are dated at once. Give means of longer blocks.")
    if len(times) != n:
        raise BadInput(f"There are {len(times)} times for {n} values; each value needs one.")
    moments = [int(t) for t in times]
    late = next((i for i in range(1, n) if moments[i] < moments[i - 1]), None)
    if late is not None:
        raise BadInput(f"The time at index {late} lies before the one at index {late - 1}; sort the series by time.")
    x = np.array(xs)
    x = x - x.mean()
    scale = float(np.abs(x).max()) or 1.0
    index, start, end = _largest_border(x / scale)
    low, high = _interval((x / scale)[start:end], confidence)
    p_value = _permutation_p(_thin(x / scale), permutations, np.random.default_rng(seed))
    return ChangePoint(
        began_at=moments[index],
        low=moments[min(start + low, index)],
        high=moments[max(start + high, index)],
        index=index,
        before=math.fsum(xs[start:index]) / (index - start),
        after=math.fsum(xs[index:end]) / (end - index),
        p_value=p_value,
        confirmed=p_value <= 0.01,
    )


def _largest_border(x: Array) -> tuple[int, int, int]:
    """The border with the largest gain, and the borders on its two sides."""
    import ruptures

    n = len(x)
    noise = float(np.mean(np.diff(x) ** 2)) / 2
    borders = [0, n]
    if noise > 0:
        # KernelCPD with the linear kernel is PELT with squared error, in C
        found = (
            ruptures.KernelCPD(kernel="linear", min_size=SMALLEST).fit(x[:, None]).predict(pen=3 * noise * math.log(n))
        )
        borders = [0, *map(int, found)]
    if len(borders) == 2:
        gains = _gains(x)
        return int(np.argmax(gains[SMALLEST : n - SMALLEST + 1])) + SMALLEST, 0, n
    triples = list(zip(borders, borders[1:], borders[2:], strict=False))
    start, index, end = max(triples, key=lambda t: float(_gains(x[t[0] : t[2]])[t[1] - t[0]]))
    return index, start, end


def _gains(x: Array) -> Array:
    """By how much a split before each place lowers the squared error; (n + 1,), 0 at the ends."""
    n = len(x)
    k = np.arange(1, n)
    left = np.cumsum(x)[:-1]
    gain = (left - k * x.mean()) ** 2 * n / (k * (n - k))
    return np.concatenate([[0.0], gain, [0.0]])


def _interval(x: Array, confidence: float) -> tuple[int, int]:
    """The splits that cut off half of 1 - confidence of the normalized profile likelihood on each side."""
    n = len(x)
    k = np.arange(SMALLEST, n - SMALLEST + 1)
    if len(k) == 0:
        return 0, n - 1
    left_over = np.maximum(float(np.sum((x - x.mean()) ** 2)) - _gains(x)[k], 1e-12 * n)
    log_profile = -n / 2 * np.log(left_over)
    weight = np.exp(log_profile - log_profile.max())
    mass = np.cumsum(weight) / weight.sum()
    tail = (1 - confidence) / 2
    first, last = np.searchsorted(mass, [tail, 1 - tail])
    return int(k[first]), int(k[min(last, len(k) - 1)])


def _thin(x: Array) -> Array:
    """At most `COARSE` means of neighbouring values."""
    if len(x) <= COARSE:
        return x
    return np.array([float(part.mean()) for part in np.array_split(x, COARSE)])


def _permutation_p(x: Array, permutations: int, rng: Any) -> float:
    """Share of shuffles whose best split is at least as far apart in energy distance as that of the series."""
    apart = np.abs(x[:, None] - x[None, :])
    observed = _best_energy(apart)
    as_far = 0
    for _ in range(permutations):
        order = rng.permutation(len(x))
        as_far += _best_energy(apart[np.ix_(order, order)]) >= observed - 1e-12
    return (1 + as_far) / (1 + permutations)


def _best_energy(apart: Array) -> float:
    """Largest scaled energy distance over all splits, from the matrix of distances."""
    n = len(apart)
    k = np.arange(SMALLEST, n - SMALLEST + 1)
    inner = np.cumsum(np.tril(apart).sum(axis=1))[k - 1] * 2  # sum within the first k, both orders
    rows = np.cumsum(apart.sum(axis=1))[k - 1]
    total = float(apart.sum())
    across = rows - inner
    outer = total - rows - across
    m = n - k
    energy = 2 * across / (k * m) - inner / (k * k) - outer / (m * m)
    return float(np.max(k * m / n * energy))
