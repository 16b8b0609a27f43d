"""Half-precision weights: half the bytes, and with bf16 arithmetic units a faster model."""

from typing import TYPE_CHECKING, ClassVar

from pydantic.dataclasses import dataclass

from variants.loading import cast
from variants.method import STRICT, Say, Stage

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


@dataclass(frozen=True, config=STRICT)
class Bf16:
    """All weights rounded to bfloat16 (8 exponent, 7 fraction bits): the range of float32, two to three digits."""

    stage: ClassVar[Stage] = "weights"
    revision: ClassVar[int] = 1

    def edit(
        self, model: "PreTrainedModel", tokenizer: "PreTrainedTokenizerBase", say: Say
    ) -> tuple["PreTrainedModel", dict[str, float]]:
        return cast(model, "bfloat16"), {}


@dataclass(frozen=True, config=STRICT)
class Fp16:
    """All weights rounded to float16 (5 exponent, 10 fraction bits).

    Closer to float32 than bf16 as long as nothing exceeds 65504; on CPUs without fp16 units prefill gets slower.
    """

    stage: ClassVar[Stage] = "weights"
    revision: ClassVar[int] = 1

    def edit(
        self, model: "PreTrainedModel", tokenizer: "PreTrainedTokenizerBase", say: Say
    ) -> tuple["PreTrainedModel", dict[str, float]]:
        return cast(model, "float16"), {}
