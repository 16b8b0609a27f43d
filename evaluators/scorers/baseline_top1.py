"""How often would the baseline have chosen the same next token?"""

from collections.abc import Sequence

from driftline.protocols import Answered, LogProbs, Score, Scored
from evaluators.scorers.judging import Together, unscored, weighed


def baseline_top1(model: LogProbs) -> Score:
    """The share of the given answer's tokens that were the baseline's own first choice at that place.

    1 means that the baseline at temperature 0 would have said the same. An empty answer scores 0.

    Args:
        model: The baseline.
    """

    def judge(answers: Sequence[Answered]) -> list[Scored]:
        said = [answered for answered in answers if answered.text.strip()]
        found = iter(weighed(model, [(answered.messages, answered.text) for answered in said]))
        scored = []
        for answered in answers:
            if not answered.text.strip():
                scored.append(Scored(0.0, because="the answer is empty"))
                continue
            result = next(found)
            if isinstance(result, str):
                scored.append(unscored(result))
            elif not result.top1:
                scored.append(unscored("the text has no token"))
            else:
                scored.append(Scored(sum(result.top1) / len(result.top1), detail={"tokens": len(result.top1)}))
        return scored

    return Together("baseline_top1", judge)
