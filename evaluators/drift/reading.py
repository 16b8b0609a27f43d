"""What every detector is and says: `update` one block of values, get a Reading, keep a state of a few floats."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Protocol, Self


@dataclass(frozen=True, slots=True)
class Reading:
    """One look at one block.

    `n` values were in the block and `value` is their (inverse-probability weighted) mean, None for an empty block.
    `statistic` and `threshold` are natural logarithms, -inf where there is no evidence yet; `alarmed` says that the
    statistic has reached the threshold. `since_blocks` counts the judged (non-empty) blocks since the evidence most
    likely began to gather: 0 where nothing points to a change, 1 where only the newest block does.
    """

    n: int
    value: float | None
    statistic: float
    threshold: float
    alarmed: bool
    since_blocks: int
    detail: dict[str, Any] = field(default_factory=dict)


class Detector(Protocol):
    """Watches one stream, a block at a time. Its size does not grow with the number of blocks seen."""

    VERSION: ClassVar[int]  # of the state it writes

    def update(self, values: Sequence[Any], weights: Sequence[float] | None = None) -> Reading:
        """Judge the next block. An empty block is no evidence: it leaves the state as it was.

        Args:
            values: The block's values, in any order.
            weights: Per value r_min / r, in (0, 1]: r its inclusion probability, r_min the smallest there can be.

        Raises:
            BadInput: A value cannot be used; the state is unchanged then.
        """
        ...

    def rethreshold(self, log_threshold: float) -> None:
        """Go on with another share of the false-alarm budget; the past stays paid at its own price."""
        ...

    def state(self) -> dict[str, Any]:
        """All that is remembered, as JSON values; `restore` continues from it bit for bit."""
        ...

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> Self:
        """The detector that wrote this state, of this version."""
        ...
