"""Is there an answer at all?"""

import unicodedata

from driftline.protocols import Answered, Score, Scored
from evaluators.scorers.judging import Each


def empty() -> Score:
    """1 where the answer shows at least one character, 0 where it is empty, blank or invisible."""

    def judge(answered: Answered) -> Scored:
        shown = any(unicodedata.category(character)[0] not in "ZC" for character in answered.text)
        return Scored(1.0) if shown else Scored(0.0, because="the answer is empty")

    return Each("empty", judge)
