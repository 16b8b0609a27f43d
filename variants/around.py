"""The same model asked differently: a Generate around another, that keeps `log_probs` where the inner one has it."""

import hashlib
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, Protocol

from pydantic import TypeAdapter

from driftline.errors import BadInput
from driftline.protocols import AnswerLogProbs, Completion, Counting, Generate, LogProbs, Messages, Sampling
from variants.method import inputs_of


class Wrapped:
    """A Generate around `inner`; answers as it does until a subclass says otherwise.

    `log_probs` stands only on instances made by `weighing`, where the inner one weighs answers.
    """

    is_one_model: ClassVar[bool] = True

    def __init__(self, inner: Generate, step: Any) -> None:
        self.inner = inner
        self._identity = identity_of(step)
        self.counted: Counter[str] = Counter()

    @property
    def fingerprint(self) -> str:
        """Of the inner one and of what this one changes."""
        return hashlib.sha256(f"{self.inner.fingerprint}\n{self._identity}".encode()).hexdigest()

    def generate(self, prompts: Sequence[Messages], sampling: Sampling) -> list[Completion]:
        """One Completion per prompt, in order."""
        return self.inner.generate(prompts, sampling)

    def counts(self) -> Mapping[str, float]:
        """Own totals and the inner one's."""
        inner = self.inner.counts() if isinstance(self.inner, Counting) else {}
        return {**inner, **self.counted}

    def asked_as(self, prompt: Messages) -> Messages:
        """What the inner one is asked instead of `prompt`, where an answer to it is weighed."""
        return prompt


class Weighing(Wrapped):
    """Mixed into a Wrapped whose inner one weighs answers."""

    inner: "LogProbsToo"

    def log_probs(self, pairs: Sequence[tuple[Messages, str]]) -> list[AnswerLogProbs]:
        """One AnswerLogProbs per (prompt, answer), in order."""
        return self.inner.log_probs([(self.asked_as(prompt), answer) for prompt, answer in pairs])


class LogProbsToo(Generate, LogProbs, Protocol):
    """A runner that answers and weighs answers."""


def weighing(kind: type[Wrapped], inner: Generate) -> type[Any]:
    """`kind`, with `log_probs` where `inner` has it."""
    return type(kind.__name__, (Weighing, kind), {}) if isinstance(inner, LogProbs) else kind


class Redressed(Wrapped):
    """Changes every prompt with `dress` before it is answered; a prompt that `dress` refuses gives an error."""

    def __init__(self, inner: Generate, step: Any, dress: Callable[[Messages], Messages]) -> None:
        super().__init__(inner, step)
        self.dress = dress

    def asked_as(self, prompt: Messages) -> Messages:
        """The dressed prompt."""
        return self.dress(prompt)

    def generate(self, prompts: Sequence[Messages], sampling: Sampling) -> list[Completion]:
        """One Completion per prompt, in order."""
        dressed: list[Messages] = []
        refused: dict[int, Completion] = {}
        for place, prompt in enumerate(prompts):
            try:
                dressed.append(self.dress(prompt))
            except (BadInput, ValueError, KeyError, TypeError, AttributeError) as wrong:
                refused[place] = Completion("", 0.0, error=f"The prompt does not fit the template: {wrong!r}")
        answers = iter(self.inner.generate(dressed, sampling))
        return [refused[place] if place in refused else next(answers) for place in range(len(prompts))]


def redress(inner: Generate, dress: Callable[[Messages], Messages], step: Any) -> Redressed:
    """`inner` asked through `dress`; `step` is the configured method, whose content enters the fingerprint."""
    made: Redressed = weighing(Redressed, inner)(inner, step, dress)
    return made


def identity_of(step: Any) -> str:
    """What a configured method adds to a fingerprint: its name, its config and the content of its inputs."""
    told = f"{type(step).__name__} {TypeAdapter(type(step)).dump_json(step).decode()}"
    for place in inputs_of(step):
        for path in [place] if place.is_file() else sorted(p for p in place.iterdir() if p.is_file()):
            told += f" {path.name} {hashlib.sha256(path.read_bytes()).hexdigest()}"
    return told


def question_of(prompt: Messages) -> str:
    """The last user message of a prompt, or all its text where none is the user's."""
    for message in reversed(prompt):
        if message.get("role") == "user":
            return message.get("content", "")
    return "\n".join(message.get("content", "") for message in prompt)
