"""Many e-SR streams at once: for backtests, for simulations of delay and false alarms, for large fleets."""

import math
from typing import Any

import numpy as np

from driftline.errors import BadInput
from evaluators.drift.bounds import Array
from evaluators.drift.esr import CAP, MEMORY, SIZES, TINY, Bet, Direction

HIGHEST = 1e290  # evidence is held below overflow


class Fleet:
    """The evidence of many independent `ESR` detectors, advanced together in numpy; a test holds them equal.

    Block form from block means, or item form from counts of 0/1 items. Evidence is kept linear, so it saturates at
    1e290. No restart after an alarm: reset the column yourself.

    Args:
        m0: One edge for all streams, or one per stream, (streams,).
        streams: How many.
        direction: "fall" or "rise".
        bet: As in `ESR`.

    >>> fleet = Fleet(np.array([0.8, 0.9]), 2)
    >>> fleet.blocks(np.array([0.85, 0.85])).round(3).tolist()
    [0.92, 1.128]
    """

    def __init__(
        self, m0: float | Array, streams: int, *, direction: Direction = "fall", bet: Bet = "adaptive"
    ) -> None:
        edges = np.broadcast_to(np.asarray(m0, dtype=float), (streams,))
        if not bool(np.all((edges > 0) & (edges < 1))):
            raise BadInput("Every m0 must lie strictly between 0 and 1.")
        self.m0, self.direction, self.bet = edges, direction, bet
        self._cap = CAP / ((1 - edges) if direction == "fall" else edges)
        parts = 16 if bet == "grid" else len(SIZES)
        self._fixed = self._cap * 100.0 ** (-np.arange(parts)[:, None] / (parts - 1))
        self._changes = np.array(SIZES)[:, None] * np.sqrt(edges * (1 - edges))
        self._blocks = 0
        self._centre, self._variance = np.zeros(streams), edges * (1 - edges)
        self.evidence = np.zeros((parts, streams))

    def blocks(self, means: Array) -> Array:
        """Judge one block mean per stream; returns M per stream."""
        gain = self._gain(means)
        growth = 1 + self._bets() * gain
        return self._advance(growth, gain, 0.0)

    def items(self, hits: Array, n: int) -> Array:
        """Judge n items of 0 or 1 per stream, `hits` of them 1, in item form; returns M per stream."""
        good, bad = self._gain(1.0), self._gain(0.0)
        bets = self._bets()
        growth = np.exp(hits * np.log1p(bets * good) + (n - hits) * np.log1p(bets * bad))
        share = hits / n
        return self._advance(growth, share * good + (1 - share) * bad, share * (1 - share) * (good - bad) ** 2)

    def _gain(self, x: Any) -> Array:
        gain: Array = (self.m0 - x) if self.direction == "fall" else (x - self.m0)
        return gain

    def _bets(self) -> Array:
        if self.bet == "grid":
            return self._fixed
        bets: Array = np.minimum(self._changes / np.maximum(self._variance, TINY), self._cap)
        return bets

    def _advance(self, growth: Array, gain: Array, inside: Any) -> Array:
        np.minimum((self.evidence + 1) * growth, HIGHEST, out=self.evidence)
        self._blocks += 1
        share = 1 / min(self._blocks + 1, MEMORY)
        before = self._centre
        self._centre = before + share * (gain - before)
        self._variance = self._variance + share * (inside + (gain - before) * (gain - self._centre) - self._variance)
        mean: Array = self.evidence.mean(axis=0)
        return mean


def false_alarms_within(blocks: int, log_threshold: float) -> float:
    """The promise: probability that a stream without a change alarms within so many blocks, at most.

    >>> round(false_alarms_within(35_040, math.log(3_504_000)), 6)
    0.01
    """
    return min(1.0, blocks * math.exp(-log_threshold))


def delay(
    m0: float,
    now: float,
    spread: float,
    log_threshold: float,
    *,
    before: float,
    direction: Direction = "fall",
    streams: int = 200,
    most: int = 5000,
    seed: int = 0,
) -> dict[str, float]:
    """Blocks until an alarm after the mean moves from `before` to `now`: what a margin or a block length buys.

    Simulated with block means of beta distribution around the mean with standard deviation `spread` (of a block of n
    independent items: that of an item over √n), 100 calm blocks first.

    Returns: `median`, `p90` (infinite where that many never alarmed) and `found`, the share within `most` blocks.

    >>> found = delay(0.88, 0.80, 0.05, 15.07, before=0.9)
    >>> found["found"], 20 < found["median"] < 60
    (1.0, True)
    """
    rng = np.random.default_rng(seed)
    fleet = Fleet(m0, streams, direction=direction)
    for _ in range(100):
        fleet.blocks(_beta(rng, before, spread, streams))
    took = np.full(streams, math.inf)
    for block in range(1, most + 1):
        crossed = fleet.blocks(_beta(rng, now, spread, streams)) >= math.exp(min(log_threshold, math.log(HIGHEST)))
        took[crossed & np.isinf(took)] = block
        if not np.isinf(took).any():
            break
    median, p90 = np.quantile(took, [0.5, 0.9], method="higher")
    return {"median": float(median), "p90": float(p90), "found": float(np.mean(np.isfinite(took)))}


def _beta(rng: Any, mean: float, spread: float, size: int) -> Array:
    most = mean * (1 - mean)
    if most <= 0 or spread <= 0:
        return np.full(size, mean)
    strength = max(most / spread**2 - 1, 1e-3)
    drawn: Array = rng.beta(mean * strength, (1 - mean) * strength, size)
    return drawn
