"""A Kolmogorov-Smirnov test window by window: the yardstick that most monitoring does, never for alarms."""

import math
from collections.abc import Mapping, Sequence
from typing import Any, Self

from driftline.errors import BadInput
from evaluators.drift.numbers import checked
from evaluators.drift.reading import Reading


class KSWindow:
    """Alarms whenever a full window of values differs from the reference by a KS test at level `alpha`.

    Each window is a new test at the same level, so false alarms come again and again: one in 1/alpha windows at best,
    far more where values of one day are alike. That is why it stands here as a yardstick and is not a detector.
    `statistic` is -log p, the threshold -log alpha. Weights are checked and not used.

    Args:
        reference: Values of a good stretch.
        window: Values in a window.
        alpha: Level of each test.

    >>> watch = KSWindow(reference=[float(i) for i in range(100)], window=50)
    >>> watch.update([float(2 * i) for i in range(50)]).alarmed
    False
    >>> watch.update([50.0 + i for i in range(50)]).alarmed
    True
    """

    VERSION = 1

    def __init__(self, *, reference: Sequence[float], window: int, alpha: float = 0.05) -> None:
        self.reference, _ = checked(reference, what="reference value")
        if not self.reference or window < 2 or not 0 < alpha < 1:
            raise BadInput(
                f"{len(reference)} reference values, window {window} and alpha {alpha}: there must be values, a window "
                "of at least 2 and a level strictly between 0 and 1."
            )
        self.window, self.alpha = int(window), float(alpha)
        self._open: list[float] = []

    def update(self, values: Sequence[float], weights: Sequence[float] | None = None) -> Reading:
        """Judge every window that these values fill; see `Detector.update`."""
        from scipy import stats

        xs, _ = checked(values, weights)
        self._open.extend(xs)
        least, alarms = 1.0, 0
        while len(self._open) >= self.window:
            full, self._open = self._open[: self.window], self._open[self.window :]
            p_value = float(stats.ks_2samp(self.reference, full).pvalue)
            least, alarms = min(least, p_value), alarms + (p_value < self.alpha)
        return Reading(
            n=len(xs),
            value=math.fsum(xs) / len(xs) if xs else None,
            statistic=-math.log(max(least, 1e-300)),
            threshold=-math.log(self.alpha),
            alarmed=alarms > 0,
            since_blocks=1 if alarms else 0,
            detail={"alarms": alarms, "waiting": len(self._open)},
        )

    def rethreshold(self, log_threshold: float) -> None:
        """Nothing: there is no promise to keep."""

    def state(self) -> dict[str, Any]:
        """The reference and the window that is not full yet."""
        return {
            "detector": "ks-window",
            "version": self.VERSION,
            "reference": list(self.reference),
            "window": self.window,
            "alpha": self.alpha,
            "open": list(self._open),
        }

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> Self:
        """The one that wrote this state."""
        made = cls(reference=state["reference"], window=state["window"], alpha=state["alpha"])
        made._open = [float(x) for x in state["open"]]
        return made
