"""How many words do answer and reference share?"""

from driftline.protocols import Score
from evaluators.scorers.judging import Each, best
from evaluators.scorers.words import content_words


def token_f1() -> Score:
    """The harmonic mean of precision and recall of the reference's words, 1 where all are shared (SQuAD's F1)."""

    def agreement(answer: str, reference: str) -> float:
        said, expected = content_words(answer), content_words(reference)
        if not expected:
            return float(answer.strip() == reference.strip())
        left: dict[str, int] = {}
        for word in expected:
            left[word] = left.get(word, 0) + 1
        shared = 0
        for word in said:
            if left.get(word):
                left[word] -= 1
                shared += 1
        return 2.0 * shared / (len(said) + len(expected))

    return Each("token_f1", best(agreement))
