"""How many words do answer and reference share?"""

from collections import Counter

from driftline.protocols import Score
from evaluators.scorers.judging import Each, best
from evaluators.scorers.words import content_words


def token_f1() -> Score:
    """The harmonic mean of precision and recall of the reference's words, 1 where all are shared (SQuAD's F1)."""

    def agreement(answer: str, reference: str) -> float:
        said, expected = content_words(answer), content_words(reference)
        if not expected:
            return float(answer.strip() == reference.strip())
        shared = sum((Counter(said) & Counter(expected)).values())
        return 2.0 * shared / (len(said) + len(expected))

    return Each("token_f1", best(agreement))
