"""What rooms hand each other: a way to answer prompts, a way to weigh answers, a way to score them.

Variants implement `Generate` and `LogProbs`, scorers implement `Score`, and the scheduler hands one to the other.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, NamedTuple, Protocol, runtime_checkable

Message = Mapping[str, str]  # {"role": "system" | "user" | "assistant", "content": "…"}
Messages = tuple[Message, ...]


@dataclass(frozen=True, slots=True)
class Constraint:
    """What every answer must be: a match of a regular expression, JSON of a schema, or one of some texts.

    `kind` is "regex", "json_schema" (then `value` is the schema as JSON text) or "choices" (a JSON list of texts).
    """

    kind: str
    value: str


@dataclass(frozen=True, slots=True)
class Sampling:
    """How an answer is drawn. `temperature` 0 is greedy, and then the same prompt gives the same answer.

    A `constraint` is held while decoding by runners of local models, asked of the server by others.
    """

    max_tokens: int = 64
    temperature: float = 0.0
    top_p: float = 1.0
    seed: int = 0
    stop: tuple[str, ...] = ()
    constraint: Constraint | None = None


@dataclass(frozen=True, slots=True)
class Completion:
    """One answer, or why there is none (`error`; then `text` is empty).

    Times are milliseconds: `latency_ms` to the last token, `ttft_ms` to the first (None where it cannot be seen).
    `mean_logprob` is the mean natural log-probability of the tokens drawn, None where the runner gives none.
    """

    text: str
    latency_ms: float
    ttft_ms: float | None = None
    input_tokens: int | None = None
    output_tokens: int | None = None
    mean_logprob: float | None = None
    finish_reason: str | None = None
    error: str | None = None


@dataclass(frozen=True, slots=True)
class AnswerLogProbs:
    """Teacher-forced natural log-probabilities of one given answer, one per answer token.

    `top1` says, per token, whether it was the model's own first choice at that place. Both empty where the answer
    has no token.
    """

    logprobs: tuple[float, ...]
    top1: tuple[bool, ...]


@runtime_checkable
class Generate(Protocol):
    """Answers prompts. One bad prompt gives a Completion with `error`; it never fails the batch."""

    @property
    def fingerprint(self) -> str:
        """Hash of all that makes the answers: weights, config, tokenizer, template, adapter, runtime versions."""
        ...

    def generate(self, prompts: Sequence[Messages], sampling: Sampling) -> list[Completion]:
        """One Completion per prompt, in order."""
        ...


@runtime_checkable
class LogProbs(Protocol):
    """Weighs given answers: how likely would this model have said that?"""

    def log_probs(self, pairs: Sequence[tuple[Messages, str]]) -> list[AnswerLogProbs]:
        """One AnswerLogProbs per (prompt, answer), in order."""
        ...


@runtime_checkable
class Counting(Protocol):
    """A Generate that counts what it does beside answering: cache hits, escalations, tokens drafted."""

    def counts(self) -> Mapping[str, float]:
        """Totals since it was opened, by name; the difference of two readings belongs to what was between them."""
        ...


@dataclass(frozen=True, slots=True)
class Answered:
    """What a scorer looks at: a prompt, the answer given, and what was expected (empty on unlabelled traffic)."""

    messages: Messages
    text: str
    expected: tuple[str, ...] = ()
    rubric: str | None = None
    tags: Mapping[str, str] = field(default_factory=dict)
    error: str | None = None


class Scored(NamedTuple):
    """A score in the scorer's stated range, or None with the reason: "unscored, because …"."""

    value: float | None
    because: str | None = None
    detail: Mapping[str, Any] = MappingProxyType({})


class Score(Protocol):
    """Judges answers. `name` and `version` are stored with every value; values are in [0, 1], higher is better."""

    name: str
    version: str

    def __call__(self, answers: Sequence[Answered]) -> list[Scored]:
        """One Scored per answer, in order. An answer with `error` scores 0, with the reason in `because`."""
        ...
