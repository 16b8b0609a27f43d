"""River's ADWIN and Page-Hinkley behind our protocol: yardsticks for benchmarks, never for alarms.

Neither keeps a false-alarm promise under continuous looking, so `evaluators.drift.detector` does not make them; get
them from `evaluators.drift.yardstick`. They need the package `river`.
"""

from collections.abc import Mapping, Sequence
from importlib import import_module
from typing import Any, ClassVar, Self

from driftline.errors import BadInput, MissingPackage
from evaluators.drift.numbers import checked
from evaluators.drift.reading import Reading

MOST = 100_000  # values since the last alarm that a state may hold


class River:
    """One of river's detectors over single values; a block of them alarms where any of its values does.

    After an alarm river begins anew by itself. `statistic` is 1 in a block that alarmed and 0 elsewhere, against a
    threshold of 1: river's own statistics are on no common scale. The state is the values since the last alarm, from
    which river's is rebuilt by feeding them again, so unlike a detector's it grows. Weights are checked and not used,
    and a new threshold changes nothing: there is no budget to split.

    Args:
        **options: As river's class takes them.

    Raises:
        MissingPackage: river is not installed.
        BadInput: river does not take these options.
    """

    VERSION = 1
    NAME: ClassVar[str]
    KIND: ClassVar[str]  # in river.drift

    def __init__(self, **options: Any) -> None:
        self.options = options
        self._watch = self._anew()
        self._since: list[float] = []
        self._blocks_since = 0

    def update(self, values: Sequence[float], weights: Sequence[float] | None = None) -> Reading:
        """Judge the next values, in order; see `Detector.update`."""
        xs, _ = checked(values, weights)
        hits = 0
        for x in xs:
            self._watch.update(x)
            self._since.append(x)
            if self._watch.drift_detected:
                hits += 1
                self._watch, self._since, self._blocks_since = self._anew(), [], 0
        self._blocks_since += bool(xs)
        return Reading(
            n=len(xs),
            value=sum(xs) / len(xs) if xs else None,
            statistic=1.0 if hits else 0.0,
            threshold=1.0,
            alarmed=hits > 0,
            since_blocks=1 if hits else 0,
            detail={"alarms": hits, "values_since": len(self._since)},
        )

    def rethreshold(self, log_threshold: float) -> None:
        """Nothing: there is no promise to keep."""

    def state(self) -> dict[str, Any]:
        """The options and the values since the last alarm.

        Raises:
            BadInput: There are more than 100 000 of them.
        """
        if len(self._since) > MOST:
            raise BadInput(f"{len(self._since)} values since the last alarm: a yardstick keeps at most {MOST}.")
        return {"detector": self.NAME, "version": self.VERSION, "options": self.options, "since": list(self._since)}

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> Self:
        """The one that wrote this state."""
        made = cls(**state["options"])
        for x in state["since"]:
            made._watch.update(x)
            made._since.append(float(x))
        return made

    def _anew(self) -> Any:
        try:
            kind = getattr(import_module("river.drift"), self.KIND)
        except ModuleNotFoundError:
            raise MissingPackage("river", f"The yardstick {self.NAME}", "pip install 'driftline[dev]'") from None
        try:
            return kind(**self.options)
        except (TypeError, ValueError) as wrong:
            raise BadInput(f"river's {self.KIND} does not take {sorted(self.options)}: {wrong}.") from None


class Adwin(River):
    """ADWIN with river's defaults unless told otherwise: a window that shrinks where its halves differ.

    Source: Bifet, Gavaldà (2007), Learning from time-changing data with adaptive windowing.
    """

    NAME = "adwin"
    KIND = "ADWIN"


class PageHinkley(River):
    """Page-Hinkley with river's defaults (delta 0.005, threshold 50, both sides) unless told otherwise.

    Source: Page (1954), Continuous inspection schemes.
    """

    NAME = "page-hinkley"
    KIND = "PageHinkley"
