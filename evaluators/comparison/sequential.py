"""Comparisons that are looked at after every answer, and stop when they know.

The promise holds however often one looks and whenever one stops, provided that items come in an order that does not
depend on their scores: replay a golden set in random order, each item once.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from driftline.errors import BadInput
from evaluators.comparison.evidence import NODES, exponential, favourable, stakes, unfavourable
from evaluators.comparison.verdicts import Verdict, checked_margin

Floats = NDArray[np.float64]


class Wealth:
    """A mixture of bets on values of at least -1, with mean at most 0 under the null; it remembers the most it held."""

    def __init__(self, log_wealth: Sequence[float] | None = None, log_peak: float = 0.0) -> None:
        self.log_wealth: Floats = np.zeros(NODES) if log_wealth is None else np.asarray(log_wealth, dtype=np.float64)
        self.log_peak = log_peak

    def update(self, evidence: Floats) -> Floats:
        """Bets on each value in turn; gives the logarithm of the wealth after each, shape (values,)."""
        path = self.log_wealth + np.cumsum(np.log1p(np.outer(evidence, stakes())), axis=0)
        highest = path.max(axis=1)
        wealth: Floats = highest + np.log(np.exp(path - highest[:, None]).mean(axis=1))
        self.log_wealth = path[-1]
        self.log_peak = max(self.log_peak, float(wealth.max()))
        return wealth

    @property
    def log_value(self) -> float:
        """Logarithm of the wealth now held."""
        highest = float(self.log_wealth.max())
        return highest + float(np.log(np.exp(self.log_wealth - highest).mean()))

    def state(self) -> dict[str, Any]:
        """All that is needed to go on later, as JSON values."""
        return {"log_wealth": self.log_wealth.tolist(), "log_peak": self.log_peak}


@dataclass(frozen=True, slots=True)
class Evidence:
    """How far the evidence has come: items seen, wealth now, the most it was, whether that reached the line."""

    n: int
    e_value: float
    peak: float
    decided: bool


class PairedWorse:
    """Evidence, answer by answer, that a candidate is worse than its baseline by more than a margin.

    Alarms falsely with probability at most `alpha` in all the looks ever taken, where the candidate is in truth no
    worse than the margin (Ville's inequality). On yes/no scores without a margin it is the Krichevsky-Trofimov
    mixture of `kt_e_value`; on graded scores and with a margin it bets on (baseline - candidate - margin).

    Args:
        margin: The largest loss that does not matter, in units of the score.
        alpha: The share of harmless candidates that may ever be called worse.

    >>> process = PairedWorse(alpha=0.01)
    >>> process.update([-1.0, 0.0, -1.0, -1.0] * 3).decided
    True
    """

    def __init__(self, *, margin: float | None = None, alpha: float = 0.001) -> None:
        self.margin, self.alpha = checked_margin(margin), _checked_alpha(alpha)
        self.n = 0
        self.wealth = Wealth()

    def update(self, differences: Iterable[float]) -> Evidence:
        """Takes in further differences (candidate - baseline, in [-1, 1]), in the order in which they came."""
        batch = checked_differences(differences)
        if len(batch):
            self.wealth.update(unfavourable(batch, self.margin or 0.0))
            self.n += len(batch)
        return self.evidence

    @property
    def evidence(self) -> Evidence:
        """Where it stands now."""
        peak = exponential(self.wealth.log_peak)
        return Evidence(self.n, exponential(self.wealth.log_value), peak, peak >= 1.0 / self.alpha)

    def state(self) -> dict[str, Any]:
        """All that is needed to go on later, as JSON values."""
        return {"margin": self.margin, "alpha": self.alpha, "n": self.n, "wealth": self.wealth.state()}

    @classmethod
    def resume(cls, state: Mapping[str, Any]) -> Self:
        """The process that gave this state."""
        process = cls(margin=state["margin"], alpha=state["alpha"])
        process.n, process.wealth = state["n"], Wealth(**state["wealth"])
        return process


class EarlyStop:
    """Tells a replay when it may stop: the first verdict that holds, however often one asked.

    Each of `worse`, `not_worse` (where there is a margin) and `better` is claimed falsely with probability at most
    `alpha` in all looks together. Once a verdict is found, `decided_at` is the number of items it took and further
    ones change nothing.

    Args:
        margin: The largest loss that does not matter, in units of the score; None asks for `worse` or `better` alone.
        alpha: The share of false claims of each kind that is tolerated.
    """

    def __init__(self, *, margin: float | None = None, alpha: float = 0.001) -> None:
        self.margin, self.alpha = checked_margin(margin), _checked_alpha(alpha)
        self.n = 0
        self.verdict = Verdict.UNDECIDED
        self.decided_at: int | None = None
        claims = (Verdict.WORSE, Verdict.BETTER, Verdict.NOT_WORSE) if margin else (Verdict.WORSE, Verdict.BETTER)
        self.claims = {claim: Wealth() for claim in claims}

    def update(self, differences: Iterable[float]) -> Verdict:
        """Takes in further differences (candidate - baseline, in [-1, 1]); `undecided` means: go on."""
        batch = checked_differences(differences)
        if self.decided_at is not None or not len(batch):
            return self.verdict
        margin, line = self.margin or 0.0, -np.log(self.alpha)
        evidence = {
            Verdict.WORSE: lambda: unfavourable(batch, margin),
            Verdict.BETTER: lambda: favourable(batch, 0.0),
            Verdict.NOT_WORSE: lambda: favourable(batch, margin),
        }
        for claim, wealth in self.claims.items():
            reached = np.flatnonzero(wealth.update(evidence[claim]()) >= line)
            if len(reached) and (self.decided_at is None or self.n + int(reached[0]) + 1 < self.decided_at):
                self.decided_at, self.verdict = self.n + int(reached[0]) + 1, claim
        self.n += len(batch)
        return self.verdict

    def state(self) -> dict[str, Any]:
        """All that is needed to go on later, as JSON values."""
        return {
            "margin": self.margin,
            "alpha": self.alpha,
            "n": self.n,
            "verdict": self.verdict.value,
            "decided_at": self.decided_at,
            "claims": {claim.value: wealth.state() for claim, wealth in self.claims.items()},
        }

    @classmethod
    def resume(cls, state: Mapping[str, Any]) -> Self:
        """The process that gave this state."""
        stop = cls(margin=state["margin"], alpha=state["alpha"])
        stop.n, stop.verdict, stop.decided_at = state["n"], Verdict(state["verdict"]), state["decided_at"]
        stop.claims = {Verdict(claim): Wealth(**wealth) for claim, wealth in state["claims"].items()}
        return stop


def checked_differences(differences: Iterable[float]) -> Floats:
    """The differences as an array, shape (items,).

    Raises:
        BadInput: One is no number in [-1, 1].
    """
    batch = np.asarray(list(differences), dtype=np.float64)
    wrong = np.flatnonzero(~(np.abs(batch) <= 1.0))
    if len(wrong):
        raise BadInput(
            f"Difference {int(wrong[0])} of the batch is {batch[wrong[0]]}; candidate minus baseline must lie in "
            "[-1, 1]. Leave out items that were not scored on both sides."
        )
    return batch


def _checked_alpha(alpha: float) -> float:
    if not 0.0 < alpha < 1.0:
        raise BadInput(f"alpha is {alpha}; it must lie between 0 and 1, such as 0.001.")
    return alpha
