"""Does the answer match a pattern?"""

import re

from driftline.errors import BadInput
from driftline.protocols import Answered, Score, Scored
from evaluators.scorers.judging import Each, references, unscored


def regex(pattern: str | None = None, full: bool = False) -> Score:
    """1 where the answer matches, 0 elsewhere.

    Args:
        pattern: The pattern for all items; without one, each reference of the item is a pattern, and one must match.
        full: The whole answer must match, not only a part.

    Raises:
        BadInput: The pattern is none.
    """
    try:
        for_all = [] if pattern is None else [re.compile(pattern)]
    except re.error as error:
        raise BadInput(f"The pattern {pattern!r} cannot be read: {error}.") from error

    def judge(answered: Answered) -> Scored:
        try:
            patterns = for_all or [re.compile(text) for text in references(answered)]
        except re.error as error:
            return unscored(f"the item's pattern cannot be read: {error}")
        if not patterns:
            return unscored("neither the scorer nor the item has a pattern")
        return Scored(float(any(p.fullmatch(answered.text) if full else p.search(answered.text) for p in patterns)))

    return Each("regex", judge)
