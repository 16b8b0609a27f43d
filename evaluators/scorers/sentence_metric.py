"""Metrics of the library sacrebleu as scorers."""

from typing import Any

from driftline.protocols import Answered, Scored
from evaluators.scorers.judging import Judge, references, unscored


def by_sentence(metric: Any) -> Judge:
    """Judges an answer by a sacrebleu metric over all its references, from per cent to [0, 1]."""

    def judge(answered: Answered) -> Scored:
        known = references(answered)
        if not known:
            return unscored("the item has no reference answer")
        return Scored(min(float(metric.sentence_score(answered.text, list(known)).score) / 100.0, 1.0))

    return judge
