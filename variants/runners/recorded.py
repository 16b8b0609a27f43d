"""Answers that were given once, and how likely others were, read back from a file: no model needed."""

import csv
import gzip
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field
from pydantic.dataclasses import dataclass

from driftline.errors import BadInput
from driftline.protocols import AnswerLogProbs, Completion, Messages, Sampling
from variants.canonical import digest
from variants.method import STRICT
from variants.runners.local_model import LocalModel
from variants.shelf import file_sha256

CELL_LIMIT = 2**31 - 1  # recorded answers are longer than the csv module's 128 kB


@dataclass(frozen=True, config=STRICT)
class RecordedRunner:
    """Answers by prompt, from the file at `path` (.jsonl or .csv, also with .gz) or from `answers` in the config.

    A row belongs here when all of `where` holds (column → text). Its key is the column `prompt`: the text of the
    last user message. Of several rows with one prompt the first counts. The other columns name what a Completion takes;
    None where the file has none. Latencies are in `latency_unit`. A prompt without a row gives an error.
    `logprobs` names a column that holds, as an object or its JSON text, the token log-probabilities of given answers to
    the prompt, `{"Paris": [-0.1, -0.02]}`; then such answers can be weighed, others cannot.
    `answers` maps a prompt to its text or to `{"text", "latency_ms", "ttft_ms", "input_tokens", …}`.
    """

    path: str | None = None
    answers: dict[str, str | dict[str, Any]] | None = None
    where: dict[str, str] = Field(default_factory=dict)
    prompt: str = "prompt"
    answer: str = "answer"
    latency: str | None = None
    latency_unit: Literal["ms", "s"] = "ms"
    ttft: str | None = None
    input_tokens: str | None = None
    output_tokens: str | None = None
    mean_logprob: str | None = None
    logprobs: str | None = None
    error: str | None = None
    default_latency_ms: Annotated[float, Field(ge=0)] = 0.0
    takes: ClassVar[str | None] = None
    on_disk: ClassVar[tuple[str, ...]] = ("path",)

    def __post_init__(self) -> None:
        if (self.path is None) == (self.answers is None):
            raise ValueError("either path or answers must be given, not both")
        if self.logprobs is not None and self.path is None:
            raise ValueError("logprobs names a column of the file at path")

    def open(self, source: LocalModel | None, threads: int | None) -> "RecordedGenerate":
        """The recorded answers in memory."""
        if self.answers is not None:
            found = {prompt: self._inline(prompt, given) for prompt, given in self.answers.items()}
            return RecordedGenerate(found, digest(["recorded", self.answers]))
        path = Path(self.path or "")
        try:
            rows = [row for row in _rows(path) if all(str(row.get(c)) == v for c, v in self.where.items())]
            content = file_sha256(path)
        except OSError as wrong:
            raise BadInput(f"The recorded answers in {path} cannot be read: {wrong.strerror or wrong}") from wrong
        if not rows:
            raise BadInput(f"{path} has no row where {self.where or 'anything is recorded'}.")
        named = (self.prompt, self.answer, self.latency, self.ttft, self.input_tokens, self.output_tokens)
        absent = sorted(
            {c for c in (*named, self.mean_logprob, self.logprobs, self.error) if c is not None} - set(rows[0])
        )
        if absent:
            raise BadInput(f"{path} has no column {', '.join(absent)}. It has: {', '.join(map(str, rows[0]))}.")
        answers: dict[str, Completion] = {}
        for row in rows:
            answers.setdefault(str(row[self.prompt]), self._row(row))
        columns = [self.where, self.prompt, self.answer, self.latency, self.latency_unit, self.default_latency_ms]
        if self.logprobs is None:
            return RecordedGenerate(answers, digest(["recorded", content, columns]))
        weighed: dict[tuple[str, str], AnswerLogProbs] = {}
        for row in rows:
            prompt = str(row[self.prompt])
            for text, odds in _log_probs(row[self.logprobs], self.logprobs):
                weighed.setdefault((prompt, text), AnswerLogProbs(odds, ()))
        return RecordedLogProbs(answers, digest(["recorded", content, columns, self.logprobs]), weighed)

    def _row(self, row: Mapping[str, Any]) -> Completion:
        latency = _number(row, self.latency)
        ttft, unit = _number(row, self.ttft), 1000.0 if self.latency_unit == "s" else 1.0
        tokens = [_number(row, column) for column in (self.input_tokens, self.output_tokens)]
        error = str(row[self.error]) if self.error and row[self.error] else None
        return Completion(
            text="" if error or row[self.answer] is None else str(row[self.answer]),
            latency_ms=self.default_latency_ms if latency is None else latency * unit,
            ttft_ms=None if ttft is None else ttft * unit,
            input_tokens=None if tokens[0] is None else int(tokens[0]),
            output_tokens=None if tokens[1] is None else int(tokens[1]),
            mean_logprob=_number(row, self.mean_logprob),
            finish_reason=None if error else "stop",
            error=error,
        )

    def _inline(self, prompt: str, given: str | dict[str, Any]) -> Completion:
        told = {"text": given} if isinstance(given, str) else dict(given)
        try:
            return Completion(**{"text": "", "latency_ms": self.default_latency_ms, "finish_reason": "stop", **told})
        except TypeError as wrong:
            raise BadInput(f"The recorded answer to {prompt[:60]!r} has an unknown key: {wrong}") from wrong


class RecordedGenerate:
    """Generate from a table. The same prompt always gets the same answer, whatever the sampling."""

    def __init__(self, answers: Mapping[str, Completion], fingerprint: str) -> None:
        self._answers, self._fingerprint = answers, fingerprint

    @property
    def fingerprint(self) -> str:
        """sha256 of the recorded content and of how it is read."""
        return self._fingerprint

    def generate(self, prompts: Sequence[Messages], sampling: Sampling) -> list[Completion]:
        """One Completion per prompt, in order; an error where the last user message was never recorded."""
        return [self._answer(prompt) for prompt in prompts]

    def _answer(self, prompt: Messages) -> Completion:
        asked = _asked(prompt)
        found = self._answers.get(asked)
        return found or Completion("", 0.0, error=f"No answer is recorded for the prompt {asked[:80]!r}.")


class RecordedLogProbs(RecordedGenerate):
    """RecordedGenerate that also knows how likely some given answers were; `top1` is never known."""

    def __init__(
        self, answers: Mapping[str, Completion], fingerprint: str, weighed: Mapping[tuple[str, str], AnswerLogProbs]
    ) -> None:
        super().__init__(answers, fingerprint)
        self._weighed = weighed

    def log_probs(self, pairs: Sequence[tuple[Messages, str]]) -> list[AnswerLogProbs]:
        """One AnswerLogProbs per (prompt, answer), in order.

        Raises:
            BadInput: The log-probabilities of a pair were never recorded.
        """
        found = []
        for prompt, answer in pairs:
            asked = _asked(prompt)
            if (asked, answer) not in self._weighed:
                raise BadInput(
                    f"No log-probabilities of {answer[:40]!r} are recorded for the prompt {asked[:80]!r}. "
                    "Record them in the column that `logprobs` names."
                )
            found.append(self._weighed[asked, answer])
        return found


def _asked(prompt: Messages) -> str:
    return str(next((m.get("content", "") for m in reversed(prompt) if m.get("role") == "user"), ""))


def _log_probs(told: Any, column: str) -> Iterator[tuple[str, tuple[float, ...]]]:
    """Answer and token log-probabilities from a cell of the column."""
    try:
        given = json.loads(told or "{}") if isinstance(told, str) else told or {}
        found = [(str(text), tuple(map(float, values))) for text, values in given.items()]
        if not all(value <= 0.0 for _, values in found for value in values):
            raise ValueError
    except (ValueError, TypeError, AttributeError):
        raise BadInput(
            f"Column {column} holds {str(told)[:80]!r}; it must map answers to lists of token log-probabilities, none "
            "above 0."
        ) from None
    yield from found


def _rows(path: Path) -> Iterator[Mapping[str, Any]]:
    kind = path.with_suffix("").suffix.lower() if path.suffix.lower() == ".gz" else path.suffix.lower()
    if kind not in {".jsonl", ".ndjson", ".csv"}:
        raise BadInput(f"{path} must end in .jsonl, .ndjson or .csv, with or without .gz.")
    opened = gzip.open if path.suffix.lower() == ".gz" else open
    with opened(path, "rt", encoding="utf-8", newline="") as file:
        if kind == ".csv":
            csv.field_size_limit(CELL_LIMIT)
            yield from csv.DictReader(file)
            return
        for number, line in enumerate(file, 1):
            if not line.strip():
                continue
            try:
                row = json.loads(line)
            except ValueError as wrong:
                raise BadInput(f"{path}, line {number} is not JSON: {wrong}") from wrong
            if not isinstance(row, dict):
                raise BadInput(f"{path}, line {number} must be an object, not {type(row).__name__}.")
            yield row


def _number(row: Mapping[str, Any], column: str | None) -> float | None:
    said = row.get(column) if column else None
    if said is None or said == "":
        return None
    try:
        return float(said)
    except (TypeError, ValueError) as wrong:
        raise BadInput(f"Column {column} of a recorded answer holds {said!r}, which is no number.") from wrong
