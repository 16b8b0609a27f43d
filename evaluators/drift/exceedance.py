"""Slower answers: how many exceed lines that few exceeded before, over several quantiles at once."""

from collections.abc import Mapping, Sequence
from typing import Any, Self

from driftline.errors import BadInput
from evaluators.drift.esr import ESR
from evaluators.drift.numbers import checked, log_mean_exp
from evaluators.drift.quantiles import FrozenQuantiles
from evaluators.drift.reading import Reading

Row = float | tuple[float, float | None, float | None]  # latency, input tokens, output tokens


class Exceedance:
    """Alarms when answers become slower than the frozen quantile lines allow.

    One e-SR (`evaluators.drift.esr`) per line watches the share of answers above it for a rise over the bound of the
    reference. Their mean is again an e-detector: M_t - t stays a supermartingale while no line is exceeded more often
    than its bound, so P(any alarm within N blocks) ≤ N / A. The median line catches a general slow-down, the upper
    ones a tail that grows.

    A row is a latency, or (latency, input tokens, output tokens). Where the lines need a count that a row lacks, the
    row is left out and counted in `detail["without_tokens"]`. While most of the latest answers (a memory of some ten)
    are quick, in less than two thirds of the usual time, nothing counts as slow, however short answers have become.

    Args:
        reference: `FrozenQuantiles.to_json()`.
        log_threshold: Natural logarithm of A; see `evaluators.drift.budget`.

    >>> from evaluators.drift.reference import freeze_quantiles
    >>> lines = freeze_quantiles([100.0 + i % 50 for i in range(400)], confidence=0.995)
    >>> watch = Exceedance(reference=lines.to_json(), log_threshold=15.0)
    >>> [watch.update([100.0 + i for i in range(50)]).alarmed for _ in range(500)].count(True)
    0
    >>> [watch.update([160.0 + i for i in range(50)]).alarmed for _ in range(20)].index(True)
    5
    """

    VERSION = 3  # 1 held e-SR parts of version 1, which they upgrade themselves; 2 knew no `waited`
    KEEP = 0.9  # of the memory of quick answers, per answer

    def __init__(self, *, reference: Mapping[str, Any] | FrozenQuantiles, log_threshold: float) -> None:
        lines = reference if isinstance(reference, FrozenQuantiles) else FrozenQuantiles.from_json(reference)
        self.lines, self.log_threshold = lines, float(log_threshold)
        self._parts = [ESR(m0=bound, direction="rise", log_threshold=log_threshold) for bound in lines.bounds]
        self._waited = 1.0

    def update(self, values: Sequence[Row], weights: Sequence[float] | None = None) -> Reading:
        """Judge the next block of rows; see `Detector.update`."""
        rows = [_row(i, row) for i, row in enumerate(values)]
        _, ws = checked([0.0] * len(rows), weights)
        needs = (True, self.lines.per_input_token is not None, self.lines.per_output_token is not None)
        whole = [all(x is not None for x, needed in zip(row, needs, strict=True) if needed) for row in rows]
        kept = [row for row, complete in zip(rows, whole, strict=True) if complete]
        kept_weights = [w for w, complete in zip(ws, whole, strict=True) if complete]
        latencies = [latency for latency, _, _ in kept]
        keep = self.KEEP ** len(kept)
        waited = keep * self._waited + (1 - keep) * self.lines.waited(latencies)
        above = self.lines.exceedances(
            latencies,
            [tokens or 0.0 for _, tokens, _ in kept],
            [tokens or 0.0 for _, _, tokens in kept],
            waited=waited,
        )
        self._waited = waited
        readings = [part.update(indicators, kept_weights) for part, indicators in zip(self._parts, above, strict=True)]
        return self._reading(readings, len(kept), len(rows) - len(kept))

    def rethreshold(self, log_threshold: float) -> None:
        """Go on with another threshold; see `ESR.rethreshold`."""
        for part in self._parts:
            part.rethreshold(log_threshold)
        self.log_threshold = float(log_threshold)

    def state(self) -> dict[str, Any]:
        """The lines, and the state of the e-SR over each."""
        return {
            "detector": "exceedance",
            "version": self.VERSION,
            "log_threshold": self.log_threshold,
            "reference": self.lines.to_json(),
            "waited": self._waited,
            "parts": [part.state() for part in self._parts],
        }

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> Self:
        """The detector that wrote this state."""
        made = cls(reference=state["reference"], log_threshold=state["log_threshold"])
        if len(state["parts"]) != len(made._parts):
            raise ValueError(f"it holds {len(state['parts'])} parts for {len(made._parts)} lines")
        made._parts = [ESR.from_state(part) for part in state["parts"]]
        made._waited = float(state.get("waited", 1.0))
        return made

    def _reading(self, readings: list[Reading], n: int, left_out: int) -> Reading:
        statistic = log_mean_exp([r.statistic for r in readings])
        best = max(readings, key=lambda r: r.statistic)
        shares = {f"p{q * 100:g}": r.value for q, r in zip(self.lines.quantiles, readings, strict=True)}
        return Reading(
            n=n,
            value=best.value,
            statistic=statistic,
            threshold=self.log_threshold,
            alarmed=n > 0 and statistic >= self.log_threshold,
            since_blocks=best.since_blocks,
            detail={
                "shares_above": shares,
                "bounds": list(self.lines.bounds),
                "margin": self.lines.margin,
                "waited": self._waited,
                "without_tokens": left_out,
                "blocks": best.detail["blocks"],
            },
        )


def _row(index: int, row: Row) -> tuple[float, float | None, float | None]:
    if isinstance(row, int | float):
        return float(row), None, None
    if len(row) != 3:
        raise BadInput(
            f"The row at index {index} has {len(row)} entries; it must be (latency, input tokens, output tokens)."
        )
    return row[0], row[1], row[2]
