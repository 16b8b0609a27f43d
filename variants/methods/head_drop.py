"""Fewer attention heads: whole groups that carry little left out."""

from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from pydantic import Field
from pydantic.dataclasses import dataclass

from driftline.errors import BadInput
from variants.loading import decoder_layers
from variants.method import STRICT, Say, Stage
from variants.methods.calibration import TEXTS, input_norms

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


@dataclass(frozen=True, config=STRICT)
class HeadDrop:
    """In every layer the `groups` key-value groups that carry least left out, with all query heads that read them.

    What a group carries is the rms of what its heads give on the `calibration` texts times the norm of their columns
    in `o_proj`. Weights, arithmetic and the cache of keys and values fall. Needs `q_proj`, `k_proj`, `v_proj` and
    `o_proj`, as in Llama, Qwen, Mistral and Gemma. Small models suffer much; train afterwards (`recover`).
    """

    groups: Annotated[int, Field(ge=1)] = 1
    calibration: Annotated[tuple[str, ...], Field(min_length=1)] = TEXTS
    stage: ClassVar[Stage] = "weights"
    revision: ClassVar[int] = 1

    def edit(
        self, model: "PreTrainedModel", tokenizer: "PreTrainedTokenizerBase", say: Say
    ) -> tuple["PreTrainedModel", dict[str, float]]:
        config: Any = model.config.get_text_config()
        blocks: list[Any] = [getattr(layer, "self_attn", None) for layer in decoder_layers(model)]
        if not all(hasattr(block, f"{part}_proj") for block in blocks for part in "qkvo"):
            raise BadInput(f"{type(model).__name__} has no q_proj, k_proj, v_proj and o_proj, which head_drop needs.")
        heads, there = config.num_attention_heads, config.num_key_value_heads
        width: int = blocks[0].q_proj.out_features // heads
        if self.groups >= there:
            raise BadInput(f"The model has {there} groups of heads per layer; {self.groups} cannot be dropped.")
        per_group = heads // there
        norms = input_norms(model, tokenizer, self.calibration, [block.o_proj for block in blocks])
        say(f"dropping {self.groups} of {there} groups of {per_group} heads in {len(blocks)} layers")
        for block in blocks:
            carried = norms[block.o_proj] * block.o_proj.weight.data.float().norm(dim=0)
            by_group = carried.square().reshape(there, per_group * width).sum(-1)
            kept = by_group.topk(there - self.groups).indices.sort().values
            _keep_groups(block, kept, per_group, width)
        config.head_dim = width
        config.num_attention_heads = (there - self.groups) * per_group
        config.num_key_value_heads = there - self.groups
        return model, {"heads": float(config.num_attention_heads), "groups": float(config.num_key_value_heads)}


def _keep_groups(block: Any, kept: Any, per_group: int, width: int) -> None:
    """Leaves only the groups `kept` in an attention block."""
    import torch

    def channels(size: int) -> torch.Tensor:
        found: torch.Tensor = (kept[:, None] * size + torch.arange(size)).flatten()
        return found

    asking, read = channels(per_group * width), channels(width)
    for linear, chosen, side in (
        (block.q_proj, asking, 0),
        (block.k_proj, read, 0),
        (block.v_proj, read, 0),
        (block.o_proj, asking, 1),
    ):
        linear.weight = torch.nn.Parameter(linear.weight.data.index_select(side, chosen), requires_grad=False)
        if side == 0:
            linear.out_features = len(chosen)
            if linear.bias is not None:
                linear.bias = torch.nn.Parameter(linear.bias.data[chosen], requires_grad=False)
        else:
            linear.in_features = len(chosen)
