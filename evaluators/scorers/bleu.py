"""How many of the reference's phrases are in the answer?"""

from driftline.protocols import Score
from evaluators.scorers.judging import Each, optional
from evaluators.scorers.sentence_metric import by_sentence


def bleu(tokenize: str | None = None) -> Score:
    """Sentence BLEU over all references, by the library sacrebleu, with effective order for short answers.

    Args:
        tokenize: sacrebleu's tokenizer, such as "zh" or "ja-mecab"; its own default without.

    Raises:
        MissingPackage: sacrebleu is not installed.
    """
    library = optional("sacrebleu.metrics", "sacrebleu", "bleu")
    metric = library.BLEU(effective_order=True, **({} if tokenize is None else {"tokenize": tokenize}))
    return Each("bleu", by_sentence(metric))
