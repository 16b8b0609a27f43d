"""The same model asked differently: a Generate around another, that keeps `log_probs` where the inner one has it."""

import hashlib
from collections.abc import Callable, Sequence
from typing import Any, Protocol

from pydantic import TypeAdapter

from driftline.errors import BadInput
from driftline.protocols import AnswerLogProbs, Completion, Generate, LogProbs, Messages, Sampling


class Redressed:
    """Changes every prompt with `dress` before it is answered; a prompt that `dress` refuses gives an error."""

    def __init__(self, inner: Generate, dress: Callable[[Messages], Messages], identity: str) -> None:
        self.inner = inner
        self.dress = dress
        self._identity = identity

    @property
    def fingerprint(self) -> str:
        """Of the inner one and of what this one changes."""
        return hashlib.sha256(f"{self.inner.fingerprint}\n{self._identity}".encode()).hexdigest()

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


class RedressedLogProbs(Redressed):
    """Redressed around a runner that also weighs answers."""

    inner: "LogProbsToo"

    def log_probs(self, pairs: Sequence[tuple[Messages, str]]) -> list[AnswerLogProbs]:
        """One AnswerLogProbs per (prompt, answer), in order."""
        return self.inner.log_probs([(self.dress(prompt), answer) for prompt, answer in pairs])


class LogProbsToo(Generate, LogProbs, Protocol):
    """A runner that answers and weighs answers."""


def redress(inner: Generate, dress: Callable[[Messages], Messages], step: Any) -> Redressed:
    """`inner` asked through `dress`; `step` is the configured method, whose content enters the fingerprint."""
    identity = f"{type(step).__name__} {TypeAdapter(type(step)).dump_json(step).decode()}"
    kind = RedressedLogProbs if isinstance(inner, LogProbs) else Redressed
    return kind(inner, dress, identity)
