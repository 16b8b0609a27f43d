"""How many of the reference's character sequences are in the answer?"""

from driftline.protocols import Score
from evaluators.scorers.judging import Each, optional
from evaluators.scorers.sentence_metric import by_sentence


def chrf(word_order: int = 0) -> Score:
    """Sentence chrF of the best reference, by the library sacrebleu; kinder to inflected languages than BLEU.

    Args:
        word_order: 2 gives chrF++.

    Raises:
        MissingPackage: sacrebleu is not installed.
    """
    library = optional("sacrebleu.metrics", "sacrebleu", "chrf")
    metric = library.CHRF(word_order=word_order)
    return Each("chrf", by_sentence(metric))
