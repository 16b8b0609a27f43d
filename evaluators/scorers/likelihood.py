"""Log-probabilities of an answer's tokens as a score."""

import math

from driftline.protocols import AnswerLogProbs, Scored
from evaluators.scorers.judging import unscored


def token_probability(found: AnswerLogProbs | str) -> Scored:
    """The geometric mean of the tokens' probabilities, exp(mean log-probability), or why there is none.

    >>> token_probability(AnswerLogProbs((math.log(0.5), math.log(0.125)), (True, False))).value
    0.25
    """
    if isinstance(found, str):
        return unscored(found)
    if not found.logprobs:
        return unscored("the text has no token")
    mean = math.fsum(found.logprobs) / len(found.logprobs)
    if math.isnan(mean):
        return unscored("the model gave a log-probability that is no number")
    return Scored(min(math.exp(min(mean, 0.0)), 1.0), detail={"tokens": len(found.logprobs)})
