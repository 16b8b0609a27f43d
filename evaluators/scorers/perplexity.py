"""How surprising does a model find the answer?"""

import math
from collections.abc import Sequence

from driftline.errors import BadInput
from driftline.protocols import Answered, LogProbs, Score, Scored
from evaluators.scorers.judging import Together, weighed
from evaluators.scorers.likelihood import token_probability


def perplexity(model: LogProbs, most: float = 1000.0) -> Score:
    """1 where the model finds the answer certain, 0 from perplexity `most` on, even steps for even factors between.

    Perplexity is exp(-mean log-probability of a token) of the answer after its prompt; `detail` holds it. Fluent text
    scores high, garbled text low, whether or not it is true.

    Args:
        model: Who is surprised: the variant itself, or another that is named in the configuration.
        most: Perplexity from which an answer scores 0, above 1.

    Raises:
        BadInput: `most` is not above 1.
    """
    if not (math.isfinite(most) and most > 1.0):
        raise BadInput(f"most is {most}; it must be a perplexity above 1, such as 1000.")

    def judge(answers: Sequence[Answered]) -> list[Scored]:
        found = weighed(model, [(answered.messages, answered.text) for answered in answers])
        return [_scored(token_probability(one), most) for one in found]

    return Together("perplexity", judge)


def _scored(typical: Scored, most: float) -> Scored:
    if typical.value is None:
        return typical
    if typical.value <= 0.0:
        return Scored(0.0, detail={"perplexity": math.inf})
    surprise = 1.0 / typical.value
    return Scored(max(1.0 - math.log(surprise) / math.log(most), 0.0), detail={"perplexity": surprise})
