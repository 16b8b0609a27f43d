"""A shallower model: whole layers left out."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from pydantic import Field
from pydantic.dataclasses import dataclass

from driftline.errors import BadInput
from variants.loading import decoder_layers
from variants.method import STRICT, Say, Stage
from variants.methods.calibration import TEXTS

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


@dataclass(frozen=True, config=STRICT)
class LayerDrop:
    """The layers numbered in `layers` (0 is the first) left out, or the `count` of least block influence.

    Block influence of a layer is 1 - the mean cosine between what enters and what leaves it, over all tokens of
    `calibration` (Men et al. 2024, "ShortGPT"). Which layers go matters far more than how many: give `count`
    unless you know. Bytes and time fall in proportion.
    """

    layers: tuple[Annotated[int, Field(ge=0)], ...] = ()
    count: Annotated[int, Field(ge=0)] = 0
    calibration: tuple[str, ...] = TEXTS
    stage: ClassVar[Stage] = "weights"
    revision: ClassVar[int] = 1

    def __post_init__(self) -> None:
        if bool(self.layers) == bool(self.count):
            raise ValueError("either layers, as in [14, 17], or count, as in 2, must be given, not both")

    def edit(
        self, model: "PreTrainedModel", tokenizer: "PreTrainedTokenizerBase", say: Say
    ) -> tuple["PreTrainedModel", dict[str, float]]:
        blocks = decoder_layers(model)
        if self.layers:
            dropped = sorted(set(self.layers))
        else:
            say(f"measuring the influence of {len(blocks)} layers")
            influence = block_influence(model, tokenizer, self.calibration)
            dropped = sorted(sorted(range(len(blocks)), key=influence.__getitem__)[: self.count])
        if dropped[-1] >= len(blocks) or len(dropped) >= len(blocks):
            raise BadInput(f"The model has {len(blocks)} layers (0 to {len(blocks) - 1}); {dropped} cannot be dropped.")
        say(f"dropping layers {dropped}")
        keep_layers(model, blocks, [place for place in range(len(blocks)) if place not in dropped])
        return model, {f"dropped_{place}": float(layer) for place, layer in enumerate(dropped)}


def keep_layers(model: "PreTrainedModel", blocks: "torch.nn.ModuleList", keep: Sequence[int]) -> None:
    """Leaves only the layers `keep` in `model`, renumbered, and says so in its config."""
    import torch

    kept = [blocks[place] for place in keep]
    for parent in model.modules():
        for name, child in list(parent.named_children()):
            if child is blocks:
                setattr(parent, name, torch.nn.ModuleList(kept))
    for place, block in enumerate(kept):
        for module in block.modules():
            if hasattr(module, "layer_idx"):
                vars(module)["layer_idx"] = place
    config = model.config.get_text_config()
    config.num_hidden_layers = len(kept)
    if getattr(config, "layer_types", None):
        config.layer_types = [config.layer_types[place] for place in keep]


def block_influence(
    model: "PreTrainedModel", tokenizer: "PreTrainedTokenizerBase", texts: Sequence[str]
) -> list[float]:
    """1 - mean cosine similarity of each layer's input and output, over all tokens of `texts`; in [0, 2]."""
    import torch

    blocks = decoder_layers(model)
    similar, tokens = [0.0] * len(blocks), 0

    def listen(place: int) -> Any:
        def hook(_module: Any, positional: Any, named: Any, output: Any) -> None:
            before = positional[0] if positional else named["hidden_states"]
            after = output[0] if isinstance(output, tuple) else output
            cosine = torch.nn.functional.cosine_similarity(before.float(), after.float(), dim=-1)
            similar[place] += float(cosine.sum())

        return hook

    hooks = [block.register_forward_hook(listen(place), with_kwargs=True) for place, block in enumerate(blocks)]
    try:
        with torch.inference_mode():
            for text in texts:
                ids = tokenizer(text, return_tensors="pt").input_ids
                tokens += ids.numel()
                model(input_ids=ids, use_cache=False)
    finally:
        for hook in hooks:
            hook.remove()
    return [1 - total / max(tokens, 1) for total in similar]
