"""8-bit weights and 8-bit activations whose scale is taken from each batch (torch dynamic quantization)."""

import warnings
from collections.abc import Callable
from typing import TYPE_CHECKING, ClassVar

from pydantic.dataclasses import dataclass

from variants.loading import cast, linears
from variants.method import STRICT, Stage

if TYPE_CHECKING:
    from transformers import PreTrainedModel


@dataclass(frozen=True, config=STRICT)
class Int8Dynamic:
    """Every Linear in int8, except those whose last name part is in `skip`.

    The usual one-line recipe quantizes all of them, and that can silently ruin a language model: one activation
    scale per batch does not survive the outliers that flow into `down_proj`. `skip=["down_proj", "lm_head"]`
    keeps those in float32. As the scale is the batch's, answers depend on which prompts share a batch.
    """

    skip: tuple[str, ...] = ()
    per_channel: bool = False
    stage: ClassVar[Stage] = "runtime"
    revision: ClassVar[int] = 1

    def apply(self, model: "PreTrainedModel") -> "PreTrainedModel":
        from torch.ao.quantization import default_dynamic_qconfig, per_channel_dynamic_qconfig, quantize_dynamic

        config = per_channel_dynamic_qconfig if self.per_channel else default_dynamic_qconfig
        chosen = dict.fromkeys(linears(model, self.skip), config)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch announces torch.ao's successor at every call
            quantize: Callable[..., PreTrainedModel] = quantize_dynamic
            return quantize(cast(model, "float32"), chosen, inplace=True)
