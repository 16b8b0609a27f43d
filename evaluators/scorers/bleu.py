"""How many of the reference's phrases are in the answer?"""

import re
from collections.abc import Sequence

import numpy as np

from driftline.protocols import Score
from evaluators.scorers.judging import Together, optional
from evaluators.scorers.ngrams import shared_ngrams
from evaluators.scorers.sentence_metric import Pair, by_sentence


def bleu(tokenize: str | None = None) -> Score:
    """Sentence BLEU over all references, by the library sacrebleu, with effective order for short answers.

    Args:
        tokenize: sacrebleu's tokenizer, such as "zh" or "ja-mecab"; its own default without.

    Raises:
        MissingPackage: sacrebleu is not installed.
    """
    library = optional("sacrebleu.metrics", "sacrebleu", "bleu")
    metric = library.BLEU(effective_order=True, **({} if tokenize is None else {"tokenize": tokenize}))
    if metric.tokenizer.signature() == "13a":
        metric.tokenizer._post_tokenizer = Apart(metric.tokenizer._post_tokenizer._re)

    def together(pairs: list[Pair]) -> list[float]:
        number: dict[str, int] = {}
        said, expected = (
            [
                np.array([number.setdefault(token, len(number)) for token in tokens], dtype=np.int64)
                for tokens in (metric._preprocess_segment(pair[side]).split() for pair in pairs)
            ]
            for side in (0, 1)
        )
        counts = shared_ngrams(said, expected, metric.max_ngram_order)
        return [
            metric._compute_score_from_stats([len(ours), len(theirs), *row[:, 2].tolist(), *row[:, 0].tolist()]).score
            for ours, theirs, row in zip(said, expected, counts, strict=True)
        ]

    return Together("bleu", by_sentence(metric, together, best_of_all=False))


class Apart:
    """Sets punctuation apart by the library's rules for mteval-v13a, and skips those that have nothing to do.

    Args:
        rules: Patterns and what replaces a match: for signs of which each stands alone, for a period or comma after no
            digit, for one before no digit, and for a dash after a digit.
    """

    def __init__(self, rules: Sequence[tuple[re.Pattern[str], str]]) -> None:
        (alone, _), self._before, self._after, self._dash = rules
        self._alone = {code: f" {chr(code)} " for code in range(128) if alone.fullmatch(chr(code))}

    def __call__(self, line: str) -> str:
        """The tokens, one space between two."""
        line = line.translate(self._alone)
        if "." in line or "," in line:
            for pattern, apart in (self._before, self._after):
                line = pattern.sub(apart, line)
        if "-" in line:
            pattern, apart = self._dash
            line = pattern.sub(apart, line)
        return " ".join(line.split())
