"""Is the answer as long as the reference?"""

from driftline.protocols import Score
from evaluators.scorers.judging import Each, best
from evaluators.scorers.words import words


def length_ratio() -> Score:
    """The shorter length divided by the longer, in words: 1 for the same length, 0.5 for half or double."""

    def agreement(answer: str, reference: str) -> float:
        said, expected = len(words(answer)), len(words(reference))
        if not expected:
            return float(said == 0)
        return min(said, expected) / max(said, expected)

    return Each("length_ratio", best(agreement))
