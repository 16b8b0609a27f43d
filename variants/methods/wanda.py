"""The weights that matter least for what really flows through them set to zero."""

from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from pydantic import Field
from pydantic.dataclasses import dataclass

from variants.loading import linears
from variants.method import STRICT, Say, Stage
from variants.methods.calibration import TEXTS, input_norms
from variants.methods.magnitude_prune import check_pattern, kept, sparsity

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


@dataclass(frozen=True, config=STRICT)
class Wanda:
    """In each row of each Linear, the `share` of weights with the least |weight| · input norm becomes zero.

    The norms are those of the `calibration` texts (Sun et al. 2023, "A Simple and Effective Pruning Approach for
    Large Language Models"). `pattern` "2:4" zeroes two of every four neighbours. As with `magnitude_prune` the
    zeros make no dense kernel faster; at the same share, quality is far better.
    """

    share: Annotated[float, Field(gt=0, lt=1)] = 0.5
    pattern: Literal["unstructured", "2:4"] = "unstructured"
    calibration: Annotated[tuple[str, ...], Field(min_length=1)] = TEXTS
    skip: tuple[str, ...] = ("lm_head",)
    stage: ClassVar[Stage] = "weights"
    revision: ClassVar[int] = 1

    def __post_init__(self) -> None:
        check_pattern(self.pattern, self.share)

    def edit(
        self, model: "PreTrainedModel", tokenizer: "PreTrainedTokenizerBase", say: Say
    ) -> tuple["PreTrainedModel", dict[str, float]]:
        chosen = linears(model, self.skip)
        say(f"reading {len(self.calibration)} calibration texts")
        norms = input_norms(model, tokenizer, self.calibration, chosen.values())
        say(f"pruning {len(chosen)} matrices")
        for name, module in chosen.items():
            importance = module.weight.data.float().abs() * norms[module]
            module.weight.data.mul_(kept(importance, self.share, self.pattern, name, by_row=True))
        return model, sparsity(model, self.skip)
