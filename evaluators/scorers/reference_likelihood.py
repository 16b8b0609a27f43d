"""How likely would the model have given the expected answer?"""

from collections.abc import Sequence

from driftline.protocols import Answered, LogProbs, Score, Scored
from evaluators.scorers.judging import Together, references, unscored, weighed
from evaluators.scorers.likelihood import token_probability


def reference_likelihood(model: LogProbs) -> Score:
    """The typical probability of an expected answer's tokens given the prompt; of several references the best.

    It is the geometric mean exp(mean log-probability), under the answering variant itself. It moves long before answers
    flip, needs no generation, and judges the model rather than one drawn answer.

    Args:
        model: The variant that is judged.
    """

    def judge(answers: Sequence[Answered]) -> list[Scored]:
        known = [references(answered) for answered in answers]
        pairs = [(answered.messages, text) for answered, texts in zip(answers, known, strict=True) for text in texts]
        found = iter([token_probability(result) for result in weighed(model, pairs)])
        scored = []
        for texts in known:
            likelihoods = [next(found) for _ in texts]
            values = [one.value for one in likelihoods if one.value is not None]
            if values:
                scored.append(Scored(max(values)))
            else:
                scored.append(likelihoods[0] if likelihoods else unscored("the item has no reference answer"))
        return scored

    return Together("reference_likelihood", judge)
