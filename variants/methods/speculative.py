"""Speculative decoding: a small draft variant proposes, the model verifies several tokens at once."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from pydantic import Field, JsonValue
from pydantic.dataclasses import dataclass

from driftline.errors import BadInput
from driftline.protocols import Completion, Generate, Messages, Sampling
from variants.around import Wrapped, weighing
from variants.method import STRICT, Beside, Stage
from variants.recipe import Spec
from variants.runners.drafted import draw_drafted
from variants.runners.transformers_local import TransformersGenerate

if TYPE_CHECKING:
    from variants.runners.chat_tokens import Drawn


@dataclass(frozen=True, config=STRICT)
class Speculative:
    """Greedy answers as without it (up to ties of rounding), in fewer passes through the model (Leviathan et al. 2022).

    `draft` is the spec of a smaller variant of the same tokenizer, run by transformers (on the command line
    `draft=@NAME`); it proposes `tokens` at a time. Prompts are answered one by one. Sampled and constrained answers
    are drawn without the draft. `draft_proposed` and `draft_accepted` are counted.
    """

    draft: dict[str, JsonValue]
    tokens: Annotated[int, Field(ge=1, le=32)] = 4
    stage: ClassVar[Stage] = "around"
    revision: ClassVar[int] = 1

    def __post_init__(self) -> None:
        Spec.from_json(self.draft)

    def others(self) -> Mapping[str, Spec]:
        """The draft."""
        return {"draft": Spec.from_json(self.draft)}

    def wrap(self, answering: Generate, beside: Beside) -> Generate:
        """`answering`, with the draft before it."""
        draft = beside.others["draft"]
        if not isinstance(answering, TransformersGenerate) or not isinstance(draft, TransformersGenerate):
            raise BadInput(
                "Speculative decoding needs a model and a draft that both run with transformers, and stands right "
                "after the steps that concern the model."
            )
        if answering.tokens.tokenizer.get_vocab() != draft.tokens.tokenizer.get_vocab():
            raise BadInput("The draft has another tokenizer than the model, so its proposals mean something else.")
        made: Generate = weighing(Drafted, answering)(answering, draft, self)
        return made


class Drafted(Wrapped):
    """Draws with a draft where the answer is greedy."""

    inner: Any

    def __init__(self, inner: TransformersGenerate, draft: TransformersGenerate, step: Speculative) -> None:
        super().__init__(inner, step)
        self.draft, self.step = draft, step

    @property
    def bytes_in_memory(self) -> int:
        """Weights of the model and of the draft."""
        return int(self.inner.bytes_in_memory + self.draft.bytes_in_memory)

    def generate(self, prompts: Sequence[Messages], sampling: Sampling) -> list[Completion]:
        """One Completion per prompt, in order."""
        if sampling.temperature > 0 or sampling.constraint is not None:
            answers: list[Completion] = self.inner.generate(prompts, sampling)
            return answers
        return [self.inner.answer_one(prompt, sampling, self._draw) for prompt in prompts]

    def _draw(self, ids: list[int], sampling: Sampling, began: float) -> "Drawn":
        inner = self.inner
        drawn, proposed, accepted = draw_drafted(
            inner.model, self.draft.model, ids, sampling, inner.ends, inner.tokens, began, self.step.tokens
        )
        self.counted["draft_proposed"] += proposed
        self.counted["draft_accepted"] += accepted
        return drawn
