"""Does the model find the right choice the likeliest?"""

import json
import math
from collections.abc import Sequence

from driftline.errors import BadInput
from driftline.protocols import Answered, AnswerLogProbs, LogProbs, Score, Scored
from evaluators.scorers.judging import Together, references, unscored, weighed


def multiple_choice(model: LogProbs, choices: Sequence[str] | None = None, per_token: bool = False) -> Score:
    """1 where the model finds the expected choice likelier than every other, 0 elsewhere; the answer is not read.

    Args:
        model: The variant that is judged.
        choices: The texts to choose from for all items; without them, each item's tag `choices`, a JSON list of texts.
        per_token: Compare mean log-probability of a token instead of that of the whole choice, where lengths differ.

    Raises:
        BadInput: Fewer than two choices, or two of them are the same.
    """
    if choices is not None and (len(set(choices)) < 2 or len(set(choices)) < len(choices)):
        raise BadInput(f"The choices are {list(choices)}; at least two are needed, each a different text.")

    def judge(answers: Sequence[Answered]) -> list[Scored]:
        offered = [_offered(answered, choices) for answered in answers]
        pairs = [
            (answered.messages, choice)
            for answered, some in zip(answers, offered, strict=True)
            if not isinstance(some, Scored)
            for choice in some
        ]
        found = iter(weighed(model, pairs))
        return [
            some if isinstance(some, Scored) else _chosen(answered, some, [next(found) for _ in some], per_token)
            for answered, some in zip(answers, offered, strict=True)
        ]

    return Together("multiple_choice", judge)


def _chosen(
    answered: Answered, choices: Sequence[str], found: Sequence[AnswerLogProbs | str], per_token: bool
) -> Scored:
    weights: dict[str, float] = {}
    for choice, result in zip(choices, found, strict=True):
        if isinstance(result, str):
            return unscored(result)
        if not result.logprobs:
            return unscored(f"the choice {choice!r} has no token")
        total = math.fsum(result.logprobs)
        weights[choice] = total / len(result.logprobs) if per_token else total
    chosen = max(weights, key=lambda choice: weights[choice])
    return Scored(float(chosen in references(answered)), detail={"chosen": chosen})


def _offered(answered: Answered, choices: Sequence[str] | None) -> Sequence[str] | Scored:
    if choices is None:
        try:
            listed = json.loads(answered.tags.get("choices", "[]"))
        except (ValueError, RecursionError):
            return unscored("the item's tag `choices` is no JSON list")
        choices = [str(choice) for choice in listed] if isinstance(listed, list) else []
    if len(set(choices)) < 2:
        return unscored("the item offers fewer than two choices")
    if not set(references(answered)) & set(choices):
        return unscored("no reference answer is among the choices")
    return choices
