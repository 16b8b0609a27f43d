"""How many of the reference's phrases are in the answer?"""

import re
from collections import defaultdict
from collections.abc import Callable, Sequence
from itertools import chain, count
from typing import Any

import numpy as np

from driftline.protocols import Score
from evaluators.scorers.judging import Together, optional
from evaluators.scorers.ngrams import shared_ngrams
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
    tokens = _tokens_of(metric)

    def together(said: Sequence[str], expected: Sequence[str]) -> list[float] | None:
        split = tokens([*said, *expected])
        number: defaultdict[str, int] = defaultdict(count().__next__)
        symbols = np.array([number[token] for token in chain.from_iterable(split)], dtype=np.int64)
        lengths = list(map(len, split))
        counts = shared_ngrams(symbols, lengths, metric.max_ngram_order)
        if counts is None:
            return None
        correct, total = counts[:, :, 2].tolist(), counts[:, :, 0].tolist()
        return [
            metric._compute_score_from_stats([ours, theirs, *shared, *made]).score
            for ours, theirs, shared, made in zip(lengths, lengths[len(said) :], correct, total, strict=False)
        ]

    return Together("bleu", by_sentence(metric, together, best_of_all=False))


def _tokens_of(metric: Any) -> Callable[[Sequence[str]], list[list[str]]]:
    if metric.tokenizer.signature() == "13a":
        return Apart(metric.tokenizer._post_tokenizer._re)
    return lambda texts: [metric._preprocess_segment(text).split() for text in texts]


class Apart:
    """Takes texts apart by the library's rules for mteval-v13a, all of them together.

    Args:
        rules: Patterns and what replaces a match: for signs of which each stands alone, for a period or comma after no
            digit, for one before no digit, and for a dash after a digit.
    """

    def __init__(self, rules: Sequence[tuple[re.Pattern[str], str]]) -> None:
        (alone, _), *self._rules = rules
        self._alone = [sign for sign in map(chr, range(128)) if alone.fullmatch(sign) and sign != " "]

    def __call__(self, texts: Sequence[str]) -> list[list[str]]:
        """The tokens of each text."""
        lines = "\n".join(map(_one_line, texts))  # no text holds a line break, and no rule looks beyond a space
        seen = set(lines)
        for sign in self._alone:
            if sign in seen:
                lines = lines.replace(sign, f" {sign} ")
        if _RUN.search(lines):
            return [self._apart(line).split() for line in lines.split("\n")]
        return [line.split() for line in self._apart(lines).split("\n")]

    def _apart(self, text: str) -> str:
        for pattern, apart in self._rules if _RUN.search(text) else _QUICK:
            text = pattern.sub(apart, text)
        return text


_RUN = re.compile("[.,][.,]")
_QUICK = tuple(  # what the library's other rules come to where no period or comma adjoins another
    (re.compile(rf"{re.escape(sign)}{beside}"), f" {sign} ")
    for sign, beside in ((".", "(?<=[^0-9].)|\\.(?=[^0-9])"), (",", "(?<=[^0-9],)|,(?=[^0-9])"), ("-", "(?<=[0-9]-)"))
)


def _one_line(text: str) -> str:
    """What mteval-v13a does to a text whatever its language is."""
    text = text.rstrip().replace("<skipped>", "").replace("-\n", "").replace("\n", " ")
    if "&" in text:
        text = text.replace("&quot;", '"').replace("&amp;", "&").replace("&lt;", "<").replace("&gt;", ">")
    return f" {text} "
