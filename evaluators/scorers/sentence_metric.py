"""Metrics of the library sacrebleu as scorers: its scores, from n-grams counted for a whole batch."""

from collections.abc import Callable, Sequence
from typing import Any

from driftline.protocols import Answered, Scored
from evaluators.scorers.judging import references, unscored

AT_ONCE = 32  # pairs whose n-grams are counted in one go

Pair = tuple[str, str]  # answer, reference
Together = Callable[[Sequence[str], Sequence[str]], list[float] | None]


def by_sentence(
    metric: Any, together: Together | None, *, best_of_all: bool
) -> Callable[[Sequence[Answered]], list[Scored]]:
    """Judges answers by a sacrebleu metric over all their references, from per cent to [0, 1].

    Args:
        metric: Scores one answer against all its references.
        together: The same for answers and as many references, pair by pair, faster, or None where it cannot; None
            where it never can.
        best_of_all: Of several references the best pair is the score; else `metric` looks at all of them.
    """

    def judge(answers: Sequence[Answered]) -> list[Scored]:
        known = [references(answered) for answered in answers]
        quick = [texts if together is not None and (best_of_all or len(texts) == 1) else () for texts in known]
        pairs = [(answered.text, text) for answered, texts in zip(answers, quick, strict=True) for text in texts]
        scores = iter(
            [score for start in range(0, len(pairs), AT_ONCE) for score in many(pairs[start : start + AT_ONCE])]
        )
        scored = []
        for answered, texts, paired in zip(answers, known, quick, strict=True):
            if not texts:
                scored.append(unscored("the item has no reference answer"))
                continue
            percent = max(next(scores) for _ in paired) if paired else one_by_one(answered.text, texts)
            scored.append(Scored(min(percent / 100.0, 1.0)))
        return scored

    def many(pairs: Sequence[Pair]) -> list[float]:
        found = together([text for text, _ in pairs], [text for _, text in pairs]) if together is not None else None
        if found is not None:
            return found
        if len(pairs) == 1:
            return [one_by_one(text, [reference]) for text, reference in pairs]
        half = len(pairs) // 2
        return [*many(pairs[:half]), *many(pairs[half:])]

    def one_by_one(text: str, texts: Sequence[str]) -> float:
        return float(metric.sentence_score(text, list(texts)).score)

    return judge
