"""Is the answer the reference, character by character?"""

from driftline.protocols import Score
from evaluators.scorers.judging import Each, best


def exact(ignore_case: bool = False) -> Score:
    """1 where the answer equals a reference, 0 elsewhere; space around both does not count.

    Args:
        ignore_case: Compare case folded.
    """

    def agreement(answer: str, reference: str) -> float:
        answer, reference = answer.strip(), reference.strip()
        if ignore_case:
            answer, reference = answer.casefold(), reference.casefold()
        return float(answer == reference)

    return Each("exact", best(agreement))
