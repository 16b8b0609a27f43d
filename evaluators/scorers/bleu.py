"""How many of the reference's phrases are in the answer?"""

from driftline.protocols import Answered, Score, Scored
from evaluators.scorers.judging import Each, optional, references, unscored


def bleu(tokenize: str | None = None) -> Score:
    """Sentence BLEU over all references, by the library sacrebleu, with effective order for short answers.

    Args:
        tokenize: sacrebleu's tokenizer, such as "zh" or "ja-mecab"; its own default without.

    Raises:
        MissingPackage: sacrebleu is not installed.
    """
    library = optional("sacrebleu.metrics", "sacrebleu", "bleu")
    metric = library.BLEU(effective_order=True, **({} if tokenize is None else {"tokenize": tokenize}))

    def judge(answered: Answered) -> Scored:
        known = references(answered)
        if not known:
            return unscored("the item has no reference answer")
        return Scored(min(float(metric.sentence_score(answered.text, list(known)).score) / 100.0, 1.0))

    return Each("bleu", judge)
