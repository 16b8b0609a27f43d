"""Small marks inside tables: where an interval lies against the margin, how a count went over time. Plain numbers."""

from collections.abc import Sequence
from dataclasses import dataclass

WIDTH, HEIGHT = 120.0, 28.0


@dataclass(frozen=True, slots=True)
class IntervalMarks:
    """Places from 0 to `WIDTH`: of zero, of minus the margin, of the estimate and of its interval's ends."""

    zero: float
    margin: float
    estimate: float
    low: float
    high: float


def interval_marks(
    estimate: float, low: float, high: float, margin: float, reach: float | None = None
) -> IntervalMarks:
    """Where a difference stands on a scale that is symmetric about zero.

    Args:
        reach: The largest difference the scale shows; what lies beyond is drawn at its end. By default all fits.

    >>> interval_marks(0.0, -0.1, 0.1, 0.05, reach=0.1).zero
    60.0
    """
    reach = reach or 1.15 * max(abs(low), abs(high), abs(margin), 1e-9)

    def place(value: float) -> float:
        return round(WIDTH / 2 * (1 + max(-1.0, min(1.0, value / reach))), 1)

    return IntervalMarks(place(0.0), place(-margin), place(estimate), place(low), place(high))


def sparkline(values: Sequence[float]) -> str:
    """An SVG path of bars, `WIDTH` × `HEIGHT`, from zero at the bottom to the largest value at the top.

    >>> sparkline([0, 2])
    'M0.0 28V28.0H60.0V0.0H120.0V28'
    """
    if not values:
        return ""
    top, step = max(values) or 1.0, WIDTH / len(values)
    steps = "".join(f"V{HEIGHT * (1 - value / top):.1f}H{(i + 1) * step:.1f}" for i, value in enumerate(values))
    return f"M0.0 {HEIGHT:.0f}{steps}V{HEIGHT:.0f}"
