"""A narrower model: feed-forward channels that carry little left out."""

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
class MlpWidth:
    """Of each layer's feed-forward channels the `keep` share that carries most, rounded to a multiple of `multiple`.

    What a channel carries is its rms over the `calibration` texts times the norm of its column in `down_proj`. The
    matrices really become smaller: bytes and arithmetic fall, no special kernel needed. Needs gated feed-forward
    blocks (`gate_proj`, `up_proj`, `down_proj`), as in Llama, Qwen, Mistral and Gemma.
    """

    keep: Annotated[float, Field(gt=0, lt=1)] = 0.9
    multiple: Annotated[int, Field(ge=1)] = 16
    calibration: Annotated[tuple[str, ...], Field(min_length=1)] = TEXTS
    stage: ClassVar[Stage] = "weights"
    revision: ClassVar[int] = 1

    def edit(
        self, model: "PreTrainedModel", tokenizer: "PreTrainedTokenizerBase", say: Say
    ) -> tuple["PreTrainedModel", dict[str, float]]:
        blocks: list[Any] = [getattr(layer, "mlp", None) for layer in decoder_layers(model)]
        if not all(hasattr(block, name) for block in blocks for name in ("gate_proj", "up_proj", "down_proj")):
            raise BadInput(f"{type(model).__name__} has no gated feed-forward blocks, which mlp_width needs.")
        width: int = blocks[0].down_proj.in_features
        wanted = round(width * self.keep / self.multiple) * self.multiple
        if not 0 < wanted < width:
            raise BadInput(f"Keeping {self.keep} of {width} channels in multiples of {self.multiple} leaves {wanted}.")
        norms = input_norms(model, tokenizer, self.calibration, [block.down_proj for block in blocks])
        say(f"keeping {wanted} of {width} channels in {len(blocks)} layers")
        for block in blocks:
            carried = norms[block.down_proj] * block.down_proj.weight.data.float().norm(dim=0)
            narrow(block, carried.topk(wanted).indices.sort().values)
        model.config.get_text_config().intermediate_size = wanted
        return model, {"channels": float(wanted)}


def narrow(block: Any, channels: Any) -> None:
    """Leaves only `channels` in a gated feed-forward block."""
    import torch

    for linear, side in ((block.gate_proj, 0), (block.up_proj, 0), (block.down_proj, 1)):
        linear.weight = torch.nn.Parameter(linear.weight.data.index_select(side, channels), requires_grad=False)
        if side == 0:
            linear.out_features = len(channels)
            if linear.bias is not None:
                linear.bias = torch.nn.Parameter(linear.bias.data[channels], requires_grad=False)
        else:
            linear.in_features = len(channels)
