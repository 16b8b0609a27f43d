"""Is the number in the answer the number expected?"""

import math
import re
from typing import Literal

from driftline.errors import BadInput
from driftline.protocols import Answered, Score, Scored
from evaluators.scorers.judging import Each, references, unscored

NUMBER = re.compile(
    r"(?<![\w.])[-+\u2212]?(?:\d{1,3}(?:,\d{3})+(?!\d)|\d+)?(?:(?<=\d)\.\d+|(?<!\d)\.\d+|(?<=\d))(?:[eE][-+]?\d+)?",
    re.ASCII,
)
_BEGINNING = re.compile("[-+\u2212.0-9]")  # of every number; to look for it takes no time


def numeric(tolerance: float = 1e-6, relative: bool = True, take: Literal["last", "first"] = "last") -> Score:
    """1 where the answer's number is a reference's number within the tolerance, 0 elsewhere or where it names none.

    Numbers may have thousands separated by commas, a decimal point and an exponent. An answer that works its way to the
    result names it last, so the last number counts.

    Args:
        tolerance: Largest difference, as a share of the reference or as it stands.
        relative: The tolerance is a share of the reference.
        take: Which number of the answer counts.

    Raises:
        BadInput: The tolerance is below 0 or no number.
    """
    if not (math.isfinite(tolerance) and tolerance >= 0.0):
        raise BadInput(f"The tolerance is {tolerance}; it must be a number of at least 0.")
    if take not in ("last", "first"):
        raise BadInput(f"take is {take}; it must be last or first.")

    def judge(answered: Answered) -> Scored:
        expected = [number for text in references(answered) for number in numbers(text)[-1:]]
        if not expected:
            return unscored("no reference answer names a number")
        found = numbers(answered.text)
        if not found:
            return Scored(0.0, because="the answer names no number")
        said = found[-1 if take == "last" else 0]
        close = any(abs(said - number) <= tolerance * (abs(number) if relative else 1.0) for number in expected)
        return Scored(float(close), detail={"number": said})

    return Each("numeric", judge)


def numbers(text: str) -> list[float]:
    """The numbers in a text, in order.

    >>> numbers("From 1,200.50 to −3e2, or .5 of it")
    [1200.5, -300.0, 0.5]
    """
    found, at = [], 0
    while (beginning := _BEGINNING.search(text, at)) is not None:
        number = NUMBER.match(text, beginning.start())
        if number is not None:
            found.append(float(number.group().replace(",", "").replace("\u2212", "-")))
        at = (number or beginning).end()
    return [value for value in found if math.isfinite(value)]
