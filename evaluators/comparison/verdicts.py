"""From an interval and a margin to one of five words."""

import math
from enum import StrEnum

from driftline.errors import BadInput


class Verdict(StrEnum):
    """What a comparison found out about the candidate; a gate lets the first three pass."""

    BETTER = "better"
    EQUIVALENT = "equivalent"
    NOT_WORSE = "not_worse"
    WORSE = "worse"
    UNDECIDED = "undecided"

    @property
    def passes(self) -> bool:
        """Whether the candidate may be released on this evidence."""
        return self in (Verdict.BETTER, Verdict.EQUIVALENT, Verdict.NOT_WORSE)


def checked_margin(margin: float | None) -> float | None:
    """The margin as it is.

    Raises:
        BadInput: It is not between 0 and 1, in units of the score.
    """
    if margin is not None and not (math.isfinite(margin) and 0.0 <= margin < 1.0):
        raise BadInput(
            f"The margin is {margin}; it must be at least 0 and below 1, in units of the score. "
            "Give 0.02 to tolerate a loss of 2 points of 100, or none at all."
        )
    return margin


def verdict(low: float, high: float, margin: float | None) -> Verdict:
    """The word for an interval of (candidate - baseline), from the strongest claim to the weakest.

    `better` above 0; `equivalent` inside ±margin; `not_worse` above -margin; `worse` below -margin, or below 0 where no
    margin is set; else `undecided`. An end that touches a line has not crossed it.

    Args:
        low: Lower end of the interval, in units of the score.
        high: Upper end.
        margin: The largest loss that does not matter, at least 0; None where none is set.

    Raises:
        BadInput: The interval is upside down, or the margin out of range.

    >>> verdict(-0.01, 0.015, margin=0.02)
    <Verdict.EQUIVALENT: 'equivalent'>
    >>> verdict(-0.01, 0.015, margin=None)
    <Verdict.UNDECIDED: 'undecided'>
    """
    checked_margin(margin)
    if not low <= high:
        raise BadInput(f"The interval from {low} to {high} is upside down; give its lower end first.")
    if low > 0.0:
        return Verdict.BETTER
    if margin is None:
        return Verdict.WORSE if high < 0.0 else Verdict.UNDECIDED
    if low > -margin:
        return Verdict.EQUIVALENT if high < margin else Verdict.NOT_WORSE
    return Verdict.WORSE if high < -margin else Verdict.UNDECIDED
