"""What scorers share: how an error, a missing reference or an empty answer is answered for."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Any

from driftline.errors import BadInput, MissingPackage
from driftline.protocols import Answered, AnswerLogProbs, LogProbs, Messages, Scored

Judge = Callable[[Answered], Scored]


@dataclass
class Each:
    """A Score that judges answers one by one with `judge`; an answer with an error scores 0."""

    name: str
    judge: Judge
    version: str = "1"

    def __call__(self, answers: Sequence[Answered]) -> list[Scored]:
        """One Scored per answer, in order."""
        judge = self.judge
        return [judge(answer) if answer.error is None else failed(answer.error) for answer in answers]


@dataclass
class Together:
    """A Score that judges answers in one go with `judge`, which never sees those with an error: they score 0."""

    name: str
    judge: Callable[[Sequence[Answered]], list[Scored]]
    version: str = "1"

    def __call__(self, answers: Sequence[Answered]) -> list[Scored]:
        """One Scored per answer, in order."""
        judged = iter(self.judge([answer for answer in answers if answer.error is None]))
        return [failed(answer.error) if answer.error is not None else next(judged) for answer in answers]


def failed(error: str) -> Scored:
    """The score of an answer that is none."""
    return Scored(0.0, because=f"the answer is an error: {error}")


def unscored(reason: str) -> Scored:
    """No score; `reason` completes "unscored, because …"."""
    return Scored(None, because=reason)


def references(answered: Answered) -> tuple[str, ...]:
    """The expected answers that say something."""
    return tuple([text for text in answered.expected if text.strip()])


def best(agreement: Callable[[str, str], float]) -> Judge:
    """Judges an answer by the reference it agrees with most.

    Args:
        agreement: Score of (answer, reference), in [0, 1].
    """

    def judge(answered: Answered) -> Scored:
        known = references(answered)
        if not known:
            return unscored("the item has no reference answer")
        return Scored(max([agreement(answered.text, reference) for reference in known]))

    return judge


def optional(module: str, package: str, scorer: str) -> Any:
    """A module of a package that only some scorers need.

    Raises:
        MissingPackage: It is not installed.
    """
    try:
        return import_module(module)
    except ImportError as error:
        raise MissingPackage(package, f"Scorer {scorer}", f"pip install {package}") from error


def weighed(model: LogProbs, pairs: Sequence[tuple[Messages, str]]) -> list[AnswerLogProbs | str]:
    """Log-probabilities of each (prompt, answer), in order, or why that one could not be weighed."""
    empty = "its prompt was not stored"
    asked = [pair for pair in pairs if pair[0]]
    try:
        found: list[AnswerLogProbs | str] = list(model.log_probs(asked)) if asked else []
    except BadInput:  # one pair cannot be weighed, such as one beyond the model's context: find out which
        found = [_weighed_alone(model, pair) for pair in asked]
    answers = iter(found)
    return [next(answers) if pair[0] else empty for pair in pairs]


def _weighed_alone(model: LogProbs, pair: tuple[Messages, str]) -> AnswerLogProbs | str:
    try:
        return model.log_probs([pair])[0]
    except BadInput as error:
        return f"the model cannot weigh it: {error.message}"
