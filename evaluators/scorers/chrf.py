"""How many of the reference's character sequences are in the answer?"""

import numpy as np

from driftline.protocols import Score
from evaluators.scorers.judging import Together, optional
from evaluators.scorers.ngrams import Symbols, shared_ngrams
from evaluators.scorers.sentence_metric import Pair, by_sentence


def chrf(word_order: int = 0) -> Score:
    """Sentence chrF of the best reference, by the library sacrebleu; kinder to inflected languages than BLEU.

    Args:
        word_order: 2 gives chrF++.

    Raises:
        MissingPackage: sacrebleu is not installed.
    """
    library = optional("sacrebleu.metrics", "sacrebleu", "chrf")
    metric = library.CHRF(word_order=word_order)

    def together(pairs: list[Pair]) -> list[float]:
        said, expected = ([_letters(pair[side]) for pair in pairs] for side in (0, 1))
        counts = shared_ngrams(said, expected, metric.char_order)
        counts[:, :, 0] *= counts[:, :, 1] > 0  # the library counts no n-grams where the reference has none
        return [float(metric._compute_f_score(row)) for row in counts.reshape(len(pairs), -1).tolist()]

    return Together("chrf", by_sentence(metric, None if word_order else together, best_of_all=True))


def _letters(text: str) -> Symbols:
    """Code points without white space."""
    together = "".join(text.split())
    return np.frombuffer(together.encode("utf-32-le", "surrogatepass"), dtype="<u4").astype(np.int64)
