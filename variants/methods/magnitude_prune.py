"""The smallest weights set to zero."""

from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from pydantic import Field
from pydantic.dataclasses import dataclass

from driftline.errors import BadInput
from variants.loading import linears
from variants.method import STRICT, Say, Stage

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


@dataclass(frozen=True, config=STRICT)
class MagnitudePrune:
    """Of each Linear weight, the `share` with the smallest magnitude becomes zero.

    `pattern` "2:4" zeroes two of every four neighbours in a row instead (`share` must then be 0.5). The zeros make
    no dense kernel faster and the file no smaller; `packed_bytes` is a bitmap plus the weights that are left.
    """

    share: Annotated[float, Field(gt=0, lt=1)] = 0.5
    pattern: Literal["unstructured", "2:4"] = "unstructured"
    skip: tuple[str, ...] = ("lm_head",)
    stage: ClassVar[Stage] = "weights"
    revision: ClassVar[int] = 1

    def __post_init__(self) -> None:
        check_pattern(self.pattern, self.share)

    def edit(
        self, model: "PreTrainedModel", tokenizer: "PreTrainedTokenizerBase", say: Say
    ) -> tuple["PreTrainedModel", dict[str, float]]:
        for name, module in linears(model, self.skip).items():
            weight = module.weight.data
            weight.mul_(kept(weight.abs(), self.share, self.pattern, name))
        return model, sparsity(model, self.skip)


def check_pattern(pattern: str, share: float) -> None:
    """Returns when the two agree; else raises ValueError."""
    if pattern == "2:4" and share != 0.5:
        raise ValueError(f"Pattern 2:4 zeroes exactly half of the weights; share is {share}. Leave share at 0.5.")


def kept(importance: "torch.Tensor", share: float, pattern: str, name: str, by_row: bool = False) -> "torch.Tensor":
    """Mask (rows, columns) of what stays: all but the least important `share`, or two of every four neighbours.

    The share is of the whole matrix, or `by_row` of each row.
    """
    import torch

    rows, columns = importance.shape
    if pattern == "2:4":
        if columns % 4:
            raise BadInput(f"{name} has {columns} inputs; the pattern 2:4 needs a multiple of 4.")
        fours = importance.reshape(rows, columns // 4, 4)
        best = fours.topk(2, dim=-1).indices
        return torch.zeros_like(fours, dtype=torch.bool).scatter_(-1, best, True).reshape(rows, columns)
    competing = importance if by_row else importance.reshape(1, -1)
    drop = round(competing.shape[1] * share)
    lowest = competing.topk(drop, dim=-1, largest=False).indices
    return torch.ones_like(competing, dtype=torch.bool).scatter_(-1, lowest, False).reshape(rows, columns)


def sparsity(model: "torch.nn.Module", skip: tuple[str, ...]) -> dict[str, float]:
    """Share of zeros in the Linear weights, and the model's bytes with those stored as bitmap and values."""
    total = sum(p.numel() * p.element_size() for p in model.parameters())
    zeros = weights = 0
    for module in linears(model, skip).values():
        gone = int((module.weight == 0).sum())
        zeros, weights = zeros + gone, weights + module.weight.numel()
        total += module.weight.numel() // 8 - gone * module.weight.element_size()
    return {"zero_share": zeros / weights, "packed_bytes": float(total)}
