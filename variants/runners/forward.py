"""One pass through a model, with the arguments that its architecture takes."""

from inspect import signature
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel


class Forward:
    """Calls `model` on token ids with explicit mask, positions and cache.

    `can_repeat_cache` says whether one prompt's cache can serve many: only where every layer keeps all tokens.
    """

    def __init__(self, model: "PreTrainedModel") -> None:
        self._model = model
        self._takes = signature(model.forward).parameters
        config: Any = model.config.get_text_config()
        kinds = set(getattr(config, "layer_types", None) or ["full_attention"])
        windowed = getattr(config, "sliding_window", None) and getattr(config, "use_sliding_window", True)
        self.can_repeat_cache = kinds == {"full_attention"} and not windowed and "position_ids" in self._takes

    def __call__(
        self, ids: "torch.Tensor", mask: "torch.Tensor", position: "torch.Tensor", cache: Any, keep: int = 1
    ) -> Any:
        """The model's output, with logits of (at least) the last `keep` positions."""
        named: dict[str, Any] = {"input_ids": ids, "attention_mask": mask, "use_cache": True, "past_key_values": cache}
        if "position_ids" in self._takes:
            named["position_ids"] = position
        if "logits_to_keep" in self._takes:
            named["logits_to_keep"] = keep
        return self._model(**named)
