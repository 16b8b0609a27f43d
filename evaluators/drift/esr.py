"""e-SR, the workhorse: a Shiryaev-Roberts e-detector for the mean of a bounded stream (fall or rise)."""

import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal, Self

from driftline.errors import BadInput
from evaluators.drift.numbers import checked, from_log, log_mean_exp, softplus, to_log
from evaluators.drift.reading import Reading

Direction = Literal["fall", "rise"]
Form = Literal["block", "item"]


class ESR:
    """Alarms when the conditional mean of a stream in [0, 1] leaves the good side of `m0`.

    For a fall, with X_t the mean of block t and for each bet λ of a log-spaced grid in (0, 0.9/(1 - m0)]:

        L_t(λ) = 1 + λ (m0 - X_t),   M_t(λ) = (M_{t-1}(λ) + 1) L_t(λ),   M_t = mean over λ,   alarm at M_t ≥ A;

    a rise is the mirror image (1 - X against 1 - m0). As long as the conditional mean stays on the good side, each
    L_t has conditional mean ≤ 1, so M_t - t is a supermartingale and P(any alarm within N blocks) ≤ N / A, whatever
    else the stream does: autocorrelation inside the conditional mean's freedom, any distribution, any looking.

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
        bets: How many λ.

    Raises:
        BadInput: A parameter out of range.

    >>> watch = ESR(m0=0.85, direction="fall", log_threshold=math.log(3.5e6))
    >>> [watch.update([0.9] * 50).alarmed for _ in range(1000)].count(True)
    0
    >>> [watch.update([0.6] * 50).alarmed for _ in range(20)].index(True)
    17
    """

    VERSION = 1
    CAP = 0.9  # of the largest bet that cannot go broke

    def __init__(
        self, *, m0: float, direction: Direction, log_threshold: float, form: Form = "block", bets: int = 16
    ) -> None:
        if direction not in ("fall", "rise"):
            raise BadInput(f"direction is {direction!r}; it must be 'fall' or 'rise'.")
        if form not in ("block", "item"):
            raise BadInput(f"form is {form!r}; it must be 'block' or 'item'.")
        if not 0 < m0 < 1:
            raise BadInput(
                f"m0 is {m0}; it must lie strictly between 0 and 1, or there is no room for a {direction}. "
                "Freeze the reference on more values, or take a smaller margin."
            )
        if not math.isfinite(log_threshold):
            raise BadInput(f"log_threshold is {log_threshold}; it must be finite, e.g. log(35040 / 0.01) = 15.07.")
        if bets < 1:
            raise BadInput(f"bets is {bets}; at least one is needed.")
        self.m0, self.direction, self.form, self.bets = float(m0), direction, form, bets
        self.log_threshold = float(log_threshold)
        cap = self.CAP / ((1 - m0) if direction == "fall" else m0)
        self._lambdas = [cap * 100 ** (-k / max(bets - 1, 1)) for k in range(bets)]
        self._blocks = 0
        self._log_m = [-math.inf] * bets
        self._cusum = [-math.inf] * bets  # of log L: where its running maximum began is where the change most likely is
        self._since = [0] * bets

    def update(
        self, values: Sequence[float], weights: Sequence[float] | None = None, *, offered: int | None = None
    ) -> Reading:
        """Judge the next block of values in [0, 1]; see `Detector.update`."""
        xs, ws = checked(values, weights, low=0.0, high=1.0)
        if not xs:
            return self._reading(0, None, None)
        if offered is not None and offered < len(xs):
            raise BadInput(
                f"offered is {offered}, fewer than the {len(xs)} values kept; it counts them before sampling."
            )
        sign = 1.0 if self.direction == "fall" else -1.0
        gains = [sign * w * (self.m0 - x) for x, w in zip(xs, ws, strict=True)]
        if self.form == "item":
            growths = [math.fsum(math.log1p(lam * g) for g in gains) for lam in self._lambdas]
        else:
            gain = math.fsum(gains) / (offered or len(xs))
            growths = [math.log1p(lam * gain) for lam in self._lambdas]
        for k, growth in enumerate(growths):
            self._log_m[k] = softplus(self._log_m[k]) + growth
            running = self._cusum[k] > 0
            self._since[k] = self._since[k] + 1 if running else 1
            self._cusum[k] = (self._cusum[k] if running else 0.0) + growth
        self._blocks += 1
        value = math.fsum(x * w for x, w in zip(xs, ws, strict=True)) / math.fsum(ws)
        return self._reading(len(xs), value, math.fsum(ws))

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
            "bets": self.bets,
            "blocks": self._blocks,
            "log_m": [from_log(m) for m in self._log_m],
            "cusum": [from_log(c) for c in self._cusum],
            "since": list(self._since),
        }

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> Self:
        """The detector that wrote this state."""
        made = cls(**{key: state[key] for key in ("m0", "direction", "log_threshold", "form", "bets")})
        made._blocks = int(state["blocks"])
        made._log_m = [to_log(m) for m in state["log_m"]]
        made._cusum = [to_log(c) for c in state["cusum"]]
        made._since = [int(s) for s in state["since"]]
        if not len(made._log_m) == len(made._cusum) == len(made._since) == made.bets:
            raise ValueError(f"it holds {len(made._log_m)} evidences for {made.bets} bets")
        return made

    def _reading(self, n: int, value: float | None, weight: float | None) -> Reading:
        statistic = log_mean_exp(self._log_m)
        best = max(range(self.bets), key=self._cusum.__getitem__)
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
                "weight": weight,
                "bet": self._lambdas[best],
            },
        )
