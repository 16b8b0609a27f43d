"""4-bit weights by rounding to the nearest step: quality of int4, stored at the model's own width."""

from collections.abc import Iterable
from typing import TYPE_CHECKING, Annotated, ClassVar

from pydantic import Field
from pydantic.dataclasses import dataclass

from driftline.errors import BadInput
from variants.loading import linears
from variants.method import STRICT, Say, Stage

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


@dataclass(frozen=True, config=STRICT)
class Int4PerRow:
    """Each Linear weight on 16 levels (-8…7), one scale per output row: small, and usually too coarse.

    The levels are written back at the model's width (there is no int4 kernel here), so speed and file size stay;
    `packed_bytes` is what the levels and scales would take.
    """

    skip: tuple[str, ...] = ("lm_head",)
    stage: ClassVar[Stage] = "weights"
    revision: ClassVar[int] = 1

    def edit(
        self, model: "PreTrainedModel", tokenizer: "PreTrainedTokenizerBase", say: Say
    ) -> tuple["PreTrainedModel", dict[str, float]]:
        return model, round_to_4_bits(model, self.skip, None)


@dataclass(frozen=True, config=STRICT)
class Int4Group:
    """As `int4_per_row`, with one scale per `group` neighbouring weights of a row."""

    group: Annotated[int, Field(ge=8)] = 64
    skip: tuple[str, ...] = ("lm_head",)
    stage: ClassVar[Stage] = "weights"
    revision: ClassVar[int] = 1

    def edit(
        self, model: "PreTrainedModel", tokenizer: "PreTrainedTokenizerBase", say: Say
    ) -> tuple["PreTrainedModel", dict[str, float]]:
        return model, round_to_4_bits(model, self.skip, self.group)


def round_to_4_bits(model: "torch.nn.Module", skip: tuple[str, ...], group: int | None) -> dict[str, float]:
    """Rounds every Linear weight of `model` in place; returns the bytes that levels and scales would take."""
    chosen = linears(model, skip)
    for name, module in chosen.items():
        width = module.in_features
        if group is not None and width % group:
            raise BadInput(f"{name} has {width} inputs, which groups of {group} do not divide. Choose another group.")
        module.weight.data.copy_(nearest_of_16(module.weight.data, group or width))
    return {"packed_bytes": packed_bytes(model, chosen.values(), group)}


def packed_bytes(model: "torch.nn.Module", rounded: "Iterable[torch.nn.Linear]", group: int | None) -> float:
    """Bytes of `model` with half a byte per weight of `rounded`, and a 16-bit scale per row or per `group` of a row."""
    total = sum(p.numel() * p.element_size() for p in model.parameters())
    for module in rounded:
        scales = module.out_features * (module.in_features // (group or module.in_features))
        weights = module.weight.numel()
        total += weights // 2 + 2 * scales - weights * module.weight.element_size()
    return float(total)


def nearest_of_16(weight: "torch.Tensor", group: int) -> "torch.Tensor":
    """`weight` (rows, columns) with each group of neighbouring columns rounded to scale · {-8…7}."""
    rows, columns = weight.shape
    grouped = weight.float().reshape(rows, columns // group, group)
    scale = (grouped.abs().amax(-1, keepdim=True) / 7).clamp(min=1e-12)
    return (grouped.div(scale).round_().clamp_(-8, 7) * scale).reshape(rows, columns).to(weight.dtype)
