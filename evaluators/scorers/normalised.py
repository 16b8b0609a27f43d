"""Is the answer the reference, but for case, punctuation, spacing and articles?"""

from driftline.protocols import Score
from evaluators.scorers.judging import Each, best
from evaluators.scorers.words import content_words


def normalised() -> Score:
    """1 where answer and reference have the same words in the same order, 0 elsewhere (SQuAD's exact match)."""

    def agreement(answer: str, reference: str) -> float:
        expected = content_words(reference)
        if not expected:  # nothing but articles or punctuation
            return float(answer.strip() == reference.strip())
        return float(content_words(answer) == expected)

    return Each("normalised", best(agreement))
