"""How many of the reference's character sequences are in the answer?"""

from driftline.protocols import Answered, Score, Scored
from evaluators.scorers.judging import Each, optional, references, unscored


def chrf(word_order: int = 0) -> Score:
    """Sentence chrF of the best reference, by the library sacrebleu; kinder to inflected languages than BLEU.

    Args:
        word_order: 2 gives chrF++.

    Raises:
        MissingPackage: sacrebleu is not installed.
    """
    library = optional("sacrebleu.metrics", "sacrebleu", "chrf")
    metric = library.CHRF(word_order=word_order)

    def judge(answered: Answered) -> Scored:
        known = references(answered)
        if not known:
            return unscored("the item has no reference answer")
        return Scored(min(float(metric.sentence_score(answered.text, list(known)).score) / 100.0, 1.0))

    return Each("chrf", judge)
