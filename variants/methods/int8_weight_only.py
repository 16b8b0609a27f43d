"""8-bit weights, computed in bfloat16 (torchao)."""

from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic.dataclasses import dataclass

from variants.loading import INSTALL, cast, linears
from variants.lookup import need
from variants.method import STRICT, Stage

if TYPE_CHECKING:
    from transformers import PreTrainedModel


@dataclass(frozen=True, config=STRICT)
class Int8WeightOnly:
    """Linear weights as int8 with one scale per output row; activations keep `compute`.

    `skip` names Linear layers (last part of their name) that stay wide. Processors with bfloat16 units are several
    times faster in bfloat16; those without are faster in float32, a fifth to four times slower than the wide model.
    """

    skip: tuple[str, ...] = ("lm_head",)
    compute: Literal["bfloat16", "float32"] = "bfloat16"
    stage: ClassVar[Stage] = "runtime"
    revision: ClassVar[int] = 1
    packages: ClassVar[tuple[str, ...]] = ("torchao",)

    def apply(self, model: "PreTrainedModel") -> "PreTrainedModel":
        need("torchao", "int8_weight_only", INSTALL)
        from torchao.quantization import Int8WeightOnlyConfig, quantize_

        chosen = linears(model, self.skip)
        model = cast(model, self.compute)
        quantize_(model, Int8WeightOnlyConfig(), filter_fn=lambda _, name: name in chosen)
        return model
