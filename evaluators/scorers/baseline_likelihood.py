"""How likely would the baseline have given this answer?"""

from collections.abc import Sequence

from driftline.protocols import Answered, LogProbs, Score, Scored
from evaluators.scorers.judging import Together, weighed
from evaluators.scorers.likelihood import token_probability


def baseline_likelihood(model: LogProbs) -> Score:
    """The typical probability of the given answer's tokens under the baseline: quality of traffic without labels.

    It is the geometric mean exp(mean log-probability). An answer that the baseline would hardly have given is odd, not
    proven wrong. An empty answer scores 0.

    Args:
        model: The baseline.
    """

    def judge(answers: Sequence[Answered]) -> list[Scored]:
        said = [answered for answered in answers if answered.text.strip()]
        found = iter(weighed(model, [(answered.messages, answered.text) for answered in said]))
        return [
            token_probability(next(found)) if answered.text.strip() else Scored(0.0, because="the answer is empty")
            for answered in answers
        ]

    return Together("baseline_likelihood", judge)
