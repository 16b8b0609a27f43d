"""e-SR, the workhorse: a Shiryaev-Roberts e-detector for the mean of a bounded stream (fall or rise)."""

import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal, Self

from driftline.errors import BadInput
from evaluators.drift.numbers import checked, from_log, log_mean_exp, softplus, to_log
from evaluators.drift.reading import Reading

Direction = Literal["fall", "rise"]
Form = Literal["block", "item"]
Bet = Literal["adaptive", "grid"]

CAP = 0.9  # of the largest bet that cannot go broke
SIZES = tuple(90 ** (k / 6) / 30 for k in range(7))  # of a change to be ready for, in standard deviations of an item
TINY = 1e-12  # variance of a stream that never varied
MEMORY = 1000  # blocks over which the variance is averaged, so that a change does not inflate it at once


class ESR:
    """Alarms when the conditional mean of a stream in [0, 1] leaves the good side of `m0`.

    For a fall, with X_t the mean of block t and several bets λ at once, each in (0, 0.9/(1 - m0)]:

        L_t(λ) = 1 + λ (m0 - X_t),   M_t(λ) = (M_{t-1}(λ) + 1) L_t(λ),   M_t = mean over λ,   alarm at M_t ≥ A;

    a rise is the mirror image (1 - X against 1 - m0). As long as the conditional mean stays on the good side, each
    L_t has conditional mean ≤ 1, so M_t - t is a supermartingale and P(any alarm within N blocks) ≤ N / A, whatever
    else the stream does: any distribution, any dependence that leaves the conditional mean there, any looking.

    The bets: "grid" holds 16 fixed λ, log-spaced over two decades. "adaptive" is ready for seven sizes g of a
    change, 1/30 to 3 times √(m0 (1 - m0)), and bets λ_t = g / v on each, what grows fastest for a small change where
    blocks vary by v; v is the variance of the blocks before t. A bet may depend on the past in any way, so the promise
    is the same; and since most of these bets are useful, block means that change moderately are found 15 % sooner.

    Sampled records enter with weight w = r_min / r: a block bets on Σ w (m0 - x) / n. That is exact where r does not
    depend on x inside a block, and conservative where bad records are kept more often; give `offered`, the number of
    records before sampling, and it is exact whatever r depends on.

    The form "item" multiplies one L per item instead of one per block. Sharper, and valid only where the items of a
    block are independent given the past (golden replay in random order), never on traffic with shared shocks.

    Source: Shin, Ramdas, Rinaldo (2024), E-detectors, arXiv 2203.03532.

    Args:
        m0: Edge of what is tolerated, in (0, 1): the bound of a frozen reference, moved by the margin.
        direction: "fall" alarms below `m0`, "rise" above.
        log_threshold: Natural logarithm of A; see `evaluators.drift.budget`.
        form: "block" or "item".
        bet: "adaptive" or "grid".

    Raises:
        BadInput: A parameter out of range.

    >>> watch = ESR(m0=0.85, direction="fall", log_threshold=math.log(3.5e6))
    >>> [watch.update([0.9] * 50).alarmed for _ in range(1000)].count(True)
    0
    >>> [watch.update([0.6] * 50).alarmed for _ in range(20)].index(True)
    14
    """

    VERSION = 2

    def __init__(
        self,
        *,
        m0: float,
        direction: Direction,
        log_threshold: float,
        form: Form = "block",
        bet: Bet = "adaptive",
    ) -> None:
        for name, value, choices in (
            ("direction", direction, ("fall", "rise")),
            ("form", form, ("block", "item")),
            ("bet", bet, ("adaptive", "grid")),
        ):
            if value not in choices:
                raise BadInput(f"{name} is {value!r}; it must be {choices[0]!r} or {choices[1]!r}.")
        if not 0 < m0 < 1:
            raise BadInput(
                f"m0 is {m0}; it must lie strictly between 0 and 1, or there is no room for a {direction}. "
                "Freeze the reference on more values, or take a smaller margin."
            )
        if not math.isfinite(log_threshold):
            raise BadInput(f"log_threshold is {log_threshold}; it must be finite, e.g. log(35040 / 0.01) = 15.07.")
        self.m0, self.direction, self.form, self.bet = float(m0), direction, form, bet
        self.log_threshold = float(log_threshold)
        self._cap = CAP / ((1 - m0) if direction == "fall" else m0)
        parts = 16 if bet == "grid" else len(SIZES)
        self._log_m = [-math.inf] * parts
        self._cusum = [-math.inf] * parts  # of log L: the change most likely came where its running maximum began
        self._since = [0] * parts
        self._blocks = 0
        self._centre, self._variance = 0.0, m0 * (1 - m0)  # of the gain per block (or item), all blocks before this one

    def update(
        self, values: Sequence[float], weights: Sequence[float] | None = None, *, offered: int | None = None
    ) -> Reading:
        """Judge the next block of values in [0, 1]; see `Detector.update`."""
        xs, ws = checked(values, weights, low=0.0, high=1.0)
        if offered is not None and offered < len(xs):
            raise BadInput(f"offered is {offered}, but {len(xs)} values were kept; it counts them before sampling.")
        bets = self._bets()
        if not xs:
            return self._reading(0, None, bets)
        sign = 1.0 if self.direction == "fall" else -1.0
        gains = [sign * w * (self.m0 - x) for x, w in zip(xs, ws, strict=True)]
        if self.form == "block":
            gains = [math.fsum(gains) / (offered or len(xs))]
        for k, bet in enumerate(bets):
            growth = math.fsum(math.log1p(bet * gain) for gain in gains)
            self._log_m[k] = softplus(self._log_m[k]) + growth
            running = self._cusum[k] > 0
            self._since[k] = self._since[k] + 1 if running else 1
            self._cusum[k] = (self._cusum[k] if running else 0.0) + growth
        self._remember(gains)
        return self._reading(len(xs), math.fsum(x * w for x, w in zip(xs, ws, strict=True)) / math.fsum(ws), bets)

    def rethreshold(self, log_threshold: float) -> None:
        """Go on with another threshold; evidence keeps its distance to it, so each past block stays paid as it was."""
        if not math.isfinite(log_threshold):
            raise BadInput(f"log_threshold is {log_threshold}; it must be finite.")
        shift = log_threshold - self.log_threshold
        self._log_m = [m + shift for m in self._log_m]
        self.log_threshold = float(log_threshold)

    def state(self) -> dict[str, Any]:
        """Parameters and evidence as JSON values; an evidence of zero (log -inf) is null."""
        return {
            "detector": "esr",
            "version": self.VERSION,
            "m0": self.m0,
            "direction": self.direction,
            "log_threshold": self.log_threshold,
            "form": self.form,
            "bet": self.bet,
            "blocks": self._blocks,
            "centre": self._centre,
            "variance": self._variance,
            "log_m": [from_log(m) for m in self._log_m],
            "cusum": [from_log(c) for c in self._cusum],
            "since": list(self._since),
        }

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> Self:
        """The detector that wrote this state; version 1 knew the grid alone."""
        if state["version"] == 1:
            state = {**state, "bet": "grid", "centre": 0.0, "variance": state["m0"] * (1 - state["m0"])}
        made = cls(**{key: state[key] for key in ("m0", "direction", "log_threshold", "form", "bet")})
        parts = len(made._log_m)
        made._blocks, made._centre, made._variance = int(state["blocks"]), state["centre"], state["variance"]
        made._log_m = [to_log(m) for m in state["log_m"]]
        made._cusum = [to_log(c) for c in state["cusum"]]
        made._since = [int(s) for s in state["since"]]
        if not len(made._log_m) == len(made._cusum) == len(made._since) == parts:
            raise ValueError(f"it holds {len(made._log_m)} evidences for {parts} bets")
        return made

    def _bets(self) -> list[float]:
        """The bets on the next block, from the blocks before it."""
        if self.bet == "grid":
            parts = len(self._log_m)
            return [self._cap * 100 ** (-k / (parts - 1)) for k in range(parts)]
        unit = math.sqrt(self.m0 * (1 - self.m0)) / max(self._variance, TINY)
        return [min(size * unit, self._cap) for size in SIZES]

    def _remember(self, gains: Sequence[float]) -> None:
        self._blocks += 1
        share = 1 / min(self._blocks + 1, MEMORY)
        before = self._centre
        self._centre += share * (math.fsum(gains) / len(gains) - before)
        spread = math.fsum((g - before) * (g - self._centre) for g in gains) / len(gains)
        self._variance += share * (spread - self._variance)

    def _reading(self, n: int, value: float | None, bets: Sequence[float]) -> Reading:
        statistic = log_mean_exp(self._log_m)
        best = max(range(len(bets)), key=self._cusum.__getitem__)
        return Reading(
            n=n,
            value=value,
            statistic=statistic,
            threshold=self.log_threshold,
            alarmed=n > 0 and statistic >= self.log_threshold,
            since_blocks=self._since[best] if self._cusum[best] > 0 else 0,
            detail={
                "m0": self.m0,
                "direction": self.direction,
                "form": self.form,
                "blocks": self._blocks,
                "bet": bets[best],
            },
        )
