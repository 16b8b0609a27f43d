"""Is the answer in the language it should be in?"""

from driftline.protocols import Answered, Score, Scored
from evaluators.scorers.judging import Each, references, unscored
from evaluators.scorers.languages import detect


def language(expected: str | None = None) -> Score:
    """1 where the answer is in the expected language, 0 where it is in another; unscored where that cannot be told.

    Args:
        expected: ISO 639-1 code for all items, such as "de"; without one, the language of the item's reference, or else
            of the last message of the prompt.
    """

    def judge(answered: Answered) -> Scored:
        wanted = expected or _wanted(answered)
        if wanted is None:
            return unscored("the language of reference and prompt cannot be told")
        found = detect(answered.text)
        if found is None:
            return unscored("the answer is too short to tell its language")
        return Scored(float(found == wanted), detail={"language": found, "expected": wanted})

    return Each("language", judge)


def _wanted(answered: Answered) -> str | None:
    texts = [*references(answered), *(message.get("content", "") for message in answered.messages[-1:])]
    return next((found for text in texts if (found := detect(text)) is not None), None)
