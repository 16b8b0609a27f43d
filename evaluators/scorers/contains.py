"""Does the answer say the reference somewhere?"""

from driftline.protocols import Score
from evaluators.scorers.judging import Each, best
from evaluators.scorers.words import words


def contains() -> Score:
    """1 where a reference occurs in the answer as whole words, 0 elsewhere; case and punctuation do not count.

    "no" is not contained in "know".
    """

    def agreement(answer: str, reference: str) -> float:
        expected = words(reference)
        if not expected:
            return float(reference.strip() in answer)
        return float(f" {' '.join(expected)} " in f" {' '.join(words(answer))} ")

    return Each("contains", best(agreement))
