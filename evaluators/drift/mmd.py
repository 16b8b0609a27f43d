"""Did the answers change? Paired texts of before and after, one prompt a pair; no model needed."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any, Self

import numpy as np

from driftline.errors import BadInput
from evaluators.drift.bounds import Array
from evaluators.drift.numbers import checked, from_log, log_mean_exp, softplus, to_log
from evaluators.drift.reading import Reading
from evaluators.drift.textual import FORMAT, WIDTH, features

MOST = 2000  # pairs, whose products are held in a square matrix
BETS = (0.1, 0.3, 0.6, 0.9)
SLACK = 0.1  # likeness that chance brings: what dates the change lies above it


@dataclass(frozen=True, slots=True)
class TextChange:
    """Whether paired answers differ in kind. `statistic` is the squared distance of their mean features."""

    changed: bool
    statistic: float
    p_value: float
    pairs: int
    identical: int
    format_moved: dict[str, float]


def answers_changed(
    before: Sequence[str], after: Sequence[str], *, alpha: float = 0.01, permutations: int = 999, seed: int = 0
) -> TextChange:
    """Paired sign-flip MMD: T = |mean(φ(a_i) - φ(b_i))|² against random exchanges of each pair.

    Exact whenever before and after are exchangeable within each pair, as two runs of the same model are. "Changed"
    never means "worse". `format_moved` names the format features whose mean moved most (after minus before).

    Args:
        before: One answer per prompt.
        after: The answers to the same prompts, in the same order.
        alpha: Level of the test.
        permutations: Sign flips.
        seed: Of the flips.

    Raises:
        BadInput: Different or too many pairs, or none.

    >>> old = [f"The answer to question {i} is {i * 7}." for i in range(40)]
    >>> answers_changed(old, old).changed
    False
    >>> answers_changed(old, [f"{i * 7}" for i in range(40)]).changed
    True
    """
    if len(before) != len(after) or not before:
        raise BadInput(f"There are {len(before)} answers before and {len(after)} after; give one of each per prompt.")
    if len(before) > MOST:
        raise BadInput(f"There are {len(before)} pairs; at most {MOST} are compared at once. Draw a sample.")
    apart = features(after) - features(before)
    n = len(apart)
    products = apart @ apart.T
    signs = np.random.default_rng(seed).choice((-1.0, 1.0), (permutations, n))
    observed = float(products.sum()) / n**2
    flipped = np.einsum("ri,ij,rj->r", signs, products, signs, optimize=True) / n**2
    p_value = (1 + int(np.sum(flipped >= observed * (1 - 1e-9)))) / (1 + permutations)
    moved = apart[:, 2 * WIDTH :].mean(axis=0)
    largest = np.argsort(-np.abs(moved))[:3]
    return TextChange(
        changed=p_value <= alpha and observed > 0,
        statistic=observed,
        p_value=p_value,
        pairs=n,
        identical=sum(a == b for a, b in zip(before, after, strict=True)),
        format_moved={FORMAT[k]: float(moved[k]) for k in largest if abs(moved[k]) > 0.02},
    )


class PairedTexts:
    """Alarms when answers begin to differ in kind from those the same prompts had before, pair after pair.

    The direction in which earlier pairs differed, w, is a guess about the next pair: u = cos(w, φ(after) - φ(before)).
    Where before and after are exchangeable given the past, u is as likely as -u, so L = 1 + λ u has mean 1, and
    M_t(λ) = (M_{t-1}(λ) + 1) L_t(λ), averaged over four λ, is an e-detector: P(any alarm within N pairs) ≤ N / A.
    Identical answers say nothing (u = 0), so replaying the same item twice is harmless, though it may be counted once.

    A value is a pair (before, after) of texts. Pairs are judged one after the other, those of a block in an order that
    does not tell before from after; `weights` scale the bets.

    Source: sign-symmetric betting, Ramdas, Ruf, Larsson, Koolen (2020), arXiv 2009.03167; features as in `textual`.

    >>> watch = PairedTexts(log_threshold=math.log(1e4))
    >>> pairs = [(f"The answer to question {i} is {i * 7}.", f"{i * 7}") for i in range(60)]
    >>> readings = [watch.update([pair]) for pair in pairs]
    >>> [r.alarmed for r in readings].index(True)
    17
    """

    VERSION = 1

    def __init__(self, *, log_threshold: float) -> None:
        if not math.isfinite(log_threshold):
            raise BadInput(f"log_threshold is {log_threshold}; it must be finite.")
        self.log_threshold = float(log_threshold)
        self._pairs = 0
        self._towards: Array = np.zeros(features([""]).shape[1])
        self._log_m = [-math.inf] * len(BETS)
        self._cusum, self._since = 0.0, 0

    def update(self, values: Sequence[tuple[str, str]], weights: Sequence[float] | None = None) -> Reading:
        """Judge the next pairs, in order; see `Detector.update`."""
        for i, pair in enumerate(values):
            whole = isinstance(pair, tuple | list) and len(pair) == 2 and all(isinstance(text, str) for text in pair)
            if not whole:
                raise BadInput(f"The value at index {i} is {pair!r:.60}; it must be a pair of texts (before, after).")
        _, ws = checked([0.0] * len(values), weights)
        if not values:
            return self._reading(0, None)
        apart = features([after for _, after in values]) - features([before for before, _ in values])
        order = sorted(range(len(values)), key=lambda i: sorted(values[i]))
        likeness: list[float] = []
        for _, same in groupby(order, key=lambda i: sorted(values[i])):
            likeness += self._advance([(apart[i], ws[i]) for i in same])
        mean = math.fsum(likeness) / len(likeness)
        running = self._cusum > 0
        self._since = self._since + 1 if running else 1
        self._cusum = (self._cusum if running else 0.0) + len(likeness) * (mean - SLACK)
        return self._reading(len(values), mean)

    def rethreshold(self, log_threshold: float) -> None:
        """Go on with another threshold; see `ESR.rethreshold`."""
        self._log_m = [m + log_threshold - self.log_threshold for m in self._log_m]
        self.log_threshold = float(log_threshold)

    def state(self) -> dict[str, Any]:
        """The direction so far and the evidence, as JSON values."""
        return {
            "detector": "paired-texts",
            "version": self.VERSION,
            "log_threshold": self.log_threshold,
            "pairs": self._pairs,
            "towards": self._towards.tolist(),
            "log_m": [from_log(m) for m in self._log_m],
            "cusum": self._cusum,
            "since": self._since,
        }

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> Self:
        """The detector that wrote this state."""
        made = cls(log_threshold=state["log_threshold"])
        if len(state["towards"]) != len(made._towards) or len(state["log_m"]) != len(BETS):
            raise ValueError("its features are others than this version's")
        made._pairs, made._cusum, made._since = int(state["pairs"]), float(state["cusum"]), int(state["since"])
        made._towards = np.array(state["towards"])
        made._log_m = [to_log(m) for m in state["log_m"]]
        return made

    def _advance(self, tied: Sequence[tuple[Array, float]]) -> list[float]:
        """Bet on pairs of the same two texts (mostly one), whose order says nothing, by the direction so far."""
        length = float(np.linalg.norm(self._towards))
        alike, growth = [], [[0.0] for _ in BETS]
        for difference, weight in tied:
            size = float(np.linalg.norm(difference)) * length
            u = max(-1.0, min(1.0, float(difference @ self._towards) / size)) if size > 0 else 0.0
            alike.append(u)
            for logs, bet in zip(growth, BETS, strict=True):
                logs.append(math.log1p(bet * weight * u))
        self._log_m = [softplus(m) + math.fsum(logs) for m, logs in zip(self._log_m, growth, strict=True)]
        # by counts: a sum of many rows would depend on their order in the last bit
        first = tied[0][0]
        turned = sum(1 if float(difference @ first) >= 0 else -1 for difference, _ in tied)
        self._towards = self._towards + turned * first
        self._pairs += len(tied)
        return alike

    def _reading(self, n: int, value: float | None) -> Reading:
        statistic = log_mean_exp(self._log_m)
        return Reading(
            n=n,
            value=value,
            statistic=statistic,
            threshold=self.log_threshold,
            alarmed=n > 0 and statistic >= self.log_threshold,
            since_blocks=self._since if self._cusum > 0 else 0,
            detail={"pairs": self._pairs, "likeness_to_earlier_differences": value},
        )
