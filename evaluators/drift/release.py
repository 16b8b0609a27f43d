"""Back within the margin: the test that ends an alarm. Silence is no evidence; answers that are good again are."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal, Self

from driftline.errors import BadInput
from evaluators.drift.esr import ESR
from evaluators.drift.numbers import from_log
from evaluators.drift.quantiles import FrozenQuantiles
from evaluators.drift.reading import Reading

MIRROR: dict[str, Literal["fall", "rise"]] = {"fall": "rise", "rise": "fall"}
LEAST_BLOCKS = 3  # a lucky block or two end nothing


class Release:
    """Certifies that a stream which had left the good side of its edge is back on it.

    One e-SR (`evaluators.drift.esr`) per edge, mirrored: its null hypothesis is that every answer since the alarm is,
    given those before it, still at the edge or beyond. As long as that is so, P(certificate within N blocks) ≤ N / A.
    Where several edges are watched (the quantile lines of a latency), all of them must be certified.

    It multiplies one factor per answer, not per block: an alarm must not rest on answers that share the luck of their
    block, but a certificate says of the very answers that came that they were good. The price is that trouble which
    comes and goes may be certified in between; alerts that keep coming back are held for that reason.

    Args:
        edges: m0 of every stream, in (0, 1).
        direction: The side that alarmed: "fall" where values below the edge are bad, "rise" where those above are.
        log_threshold: Natural logarithm of A.

    >>> import math
    >>> watch = Release(edges=[0.85], direction="fall", log_threshold=math.log(2880 / 0.05))
    >>> [watch.update([[0.0, 1.0] * 25]).alarmed for _ in range(200)].count(True)  # half of the answers are bad
    0
    >>> [watch.update([[1.0] * 19 + [0.0]]).alarmed for _ in range(200)].index(True) < 30
    True
    """

    VERSION = 1

    def __init__(self, *, edges: Sequence[float], direction: str, log_threshold: float) -> None:
        if direction not in MIRROR:
            raise BadInput(f"direction is {direction!r}; it must be 'fall' or 'rise'.")
        if not edges:
            raise BadInput("A release needs at least one edge to come back to.")
        self.direction, self.log_threshold = direction, float(log_threshold)
        self._parts = [
            ESR(m0=edge, direction=MIRROR[direction], log_threshold=log_threshold, form="item") for edge in edges
        ]
        self._blocks = self._items = 0

    def update(self, streams: Sequence[Sequence[float]], weights: Sequence[float] | None = None) -> Reading:
        """Judge the next block: per edge the values in [0, 1] that are held against it."""
        if len(streams) != len(self._parts):
            raise BadInput(f"There are {len(streams)} streams for {len(self._parts)} edges.")
        readings = [part.update(values, weights) for part, values in zip(self._parts, streams, strict=True)]
        least = min(readings, key=lambda one: one.statistic)
        n = len(streams[0])
        self._blocks += n > 0
        self._items += n
        return Reading(
            n=n, value=least.value, statistic=least.statistic, threshold=self.log_threshold,
            alarmed=least.statistic >= self.log_threshold and self._blocks >= LEAST_BLOCKS,
            since_blocks=least.since_blocks, detail={"blocks": self._blocks, "items": self._items},
        )  # fmt: skip

    def state(self) -> dict[str, Any]:
        """Parameters and evidence as JSON values."""
        return {
            "version": self.VERSION, "direction": self.direction, "log_threshold": from_log(self.log_threshold),
            "blocks": self._blocks, "items": self._items, "parts": [part.state() for part in self._parts],
        }  # fmt: skip

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> Self:
        """The release that wrote this state."""
        parts = [ESR.from_state(part) for part in state["parts"]]
        made = cls(
            edges=[part.m0 for part in parts], direction=state["direction"], log_threshold=state["log_threshold"]
        )
        made._parts, made._blocks, made._items = parts, int(state["blocks"]), int(state["items"])
        return made


def edges_of(lines: FrozenQuantiles) -> list[float]:
    """The edges that a latency must come back to: how often each line may be exceeded."""
    return list(lines.bounds)
