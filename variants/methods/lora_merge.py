"""A trained LoRA adapter written into the weights."""

import json
import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from pydantic import Field
from pydantic.dataclasses import dataclass

from driftline.errors import BadInput
from variants.method import STRICT, Say, Stage

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

PREFIX = "base_model.model."
UNKNOWN = ("use_dora", "rank_pattern", "alpha_pattern", "fan_in_fan_out", "modules_to_save")


@dataclass(frozen=True, config=STRICT)
class LoraMerge:
    """weight + scale · (alpha / r) · B·A for every pair in the PEFT adapter directory at `path`.

    The directory holds adapter_config.json and adapter_model.safetensors, as `save_pretrained` of PEFT writes them;
    its content is part of the variant's identity. With `scale` below 1 the adapter counts less. An adapter that does
    more than plain LoRA (DoRA, ranks by layer, whole modules) is refused, not half applied.
    """

    path: Annotated[str, Field(min_length=1)]
    scale: float = 1.0
    stage: ClassVar[Stage] = "weights"
    revision: ClassVar[int] = 1
    on_disk: ClassVar[tuple[str, ...]] = ("path",)

    def edit(
        self, model: "PreTrainedModel", tokenizer: "PreTrainedTokenizerBase", say: Say
    ) -> tuple["PreTrainedModel", dict[str, float]]:
        factor, weights = self._adapter()
        modules = dict(model.named_modules())
        pairs = sorted(name for name in weights if name.endswith("lora_A.weight"))
        moved = total = 0.0
        for name in pairs:
            up = weights.get(name.replace("lora_A", "lora_B"))
            place = name.removeprefix(PREFIX).removesuffix(".lora_A.weight")
            target: Any = getattr(modules.get(place), "weight", None)
            if up is None or target is None or target.shape != (up.shape[0], weights[name].shape[1]):
                raise BadInput(f"The adapter in {self.path} was not made for this model: {place} does not fit.")
            change = (up.float() @ weights[name].float()) * factor
            total += float(target.data.float().square().sum())
            target.data.copy_(target.data.float() + change)
            moved += float(change.square().sum())
        if not pairs or len(weights) != 2 * len(pairs):
            raise BadInput(f"The adapter in {self.path} holds more or less than pairs of lora_A and lora_B.")
        say(f"merged {len(pairs)} pairs")
        return model, {"pairs": float(len(pairs)), "relative_change": math.sqrt(moved / max(total, 1e-30))}

    def _adapter(self) -> tuple[float, dict[str, Any]]:
        """alpha / r · scale, and the adapter's tensors by name."""
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        place = Path(self.path).expanduser()
        try:
            told = json.loads((place / "adapter_config.json").read_text())
            weights: dict[str, Any] = load_file(place / "adapter_model.safetensors")
        except (OSError, ValueError, SafetensorError) as wrong:
            raise BadInput(f"{self.path} holds no adapter that can be read: {wrong}") from wrong
        more = [key for key in UNKNOWN if told.get(key)]
        if told.get("peft_type") != "LORA" or more:
            raise BadInput(f"The adapter in {self.path} is not plain LoRA: {', '.join(more) or told.get('peft_type')}.")
        rank, alpha = told["r"], told["lora_alpha"]
        return self.scale * alpha / (math.sqrt(rank) if told.get("use_rslora") else rank), weights
