"""How long is the common subsequence of answer and reference?"""

from collections.abc import Sequence

from driftline.protocols import Score
from evaluators.scorers.judging import Each, best, optional
from evaluators.scorers.words import words


def rouge_l() -> Score:
    """ROUGE-L F1 of the best reference, by the library rouge-score on words of any script.

    The library's own words drop all that is not ASCII, and its table takes the product of both lengths; words and
    the length of the common subsequence are ours, the score is its.

    Raises:
        MissingPackage: rouge-score is not installed.
    """
    library = optional("rouge_score.scoring", "rouge-score", "rouge_l")

    def agreement(answer: str, reference: str) -> float:
        said, expected = words(answer), words(reference)
        if not said or not expected:
            return 0.0
        common = common_subsequence(said, expected)
        return float(library.fmeasure(common / len(said), common / len(expected)))

    return Each("rouge_l", best(agreement))


def common_subsequence(one: Sequence[str], other: Sequence[str]) -> int:
    """The length of the longest common subsequence, by bits (Hyyrö 2004, "Bit-parallel LCS-length computation").

    >>> common_subsequence("a cat sat here".split(), "the cat he sat".split())
    2
    """
    places: dict[str, int] = {}
    for place, word in enumerate(one):
        places[word] = places.get(word, 0) | 1 << place
    every = (1 << len(one)) - 1
    row = every
    for word in other:
        matches = row & places.get(word, 0)
        row = (row + matches | row - matches) & every
    return len(one) - row.bit_count()
