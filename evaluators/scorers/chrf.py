"""How many of the reference's character sequences are in the answer?"""

from collections.abc import Sequence

import numpy as np

from driftline.protocols import Score
from evaluators.scorers.judging import Together, optional
from evaluators.scorers.ngrams import shared_ngrams
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

    def together(said: Sequence[str], expected: Sequence[str]) -> list[float] | None:
        texts = ["".join(text.split()) for text in (*said, *expected)]
        letters = np.frombuffer("".join(texts).encode("utf-32-le", "surrogatepass"), dtype="<u4").astype(np.int64)
        counts = shared_ngrams(letters, list(map(len, texts)), metric.char_order)
        if counts is None:
            return None
        counts[:, :, 0] *= counts[:, :, 1] > 0  # the library counts no n-grams where the reference has none
        return [float(metric._compute_f_score(row)) for row in counts.reshape(len(said), -1).tolist()]

    return Together("chrf", by_sentence(metric, None if word_order else together, best_of_all=True))
