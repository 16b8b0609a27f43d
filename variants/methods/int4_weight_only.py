"""4-bit weights, computed in bfloat16 (torchao's int4 tensor and torch's int4 kernel for CPUs)."""

from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic.dataclasses import dataclass

from driftline.errors import BadInput
from variants.loading import INSTALL, cast, linears
from variants.lookup import need
from variants.method import STRICT, Stage

if TYPE_CHECKING:
    from transformers import PreTrainedModel


@dataclass(frozen=True, config=STRICT)
class Int4WeightOnly:
    """Linear weights as 16 levels between the least and the greatest of each `group` neighbours; activations bfloat16.

    Levels, and a scale and a middle per group, are all that stays in memory. Weights that come from Q4_1 lie on such
    levels already with groups of 32, and lose no more than the rounding of scales to bfloat16. `skip` names Linear
    layers (last part of their name) that stay wide. Reading long prompts is slower than in bfloat16, decoding is not.
    """

    group: Literal[32, 64, 128] = 32
    skip: tuple[str, ...] = ("lm_head",)
    stage: ClassVar[Stage] = "runtime"
    revision: ClassVar[int] = 1
    packages: ClassVar[tuple[str, ...]] = ("torchao",)

    def apply(self, model: "PreTrainedModel") -> "PreTrainedModel":
        need("torchao", "int4_weight_only", INSTALL)
        from torch.nn import Parameter
        from torchao.prototype.quantization.int4 import Int4OpaqueTensor

        chosen = linears(model, self.skip)
        for name, module in chosen.items():
            if module.in_features % self.group or module.out_features % 16:
                raise BadInput(
                    f"{name} maps {module.in_features} to {module.out_features} values; groups of {self.group} must "
                    "divide the first, and the kernel needs a multiple of 16 of the second. Choose another group, or "
                    "skip it."
                )
        levels = {name: Int4OpaqueTensor.from_hp(module.weight.detach().float(), [1, self.group])
                  for name, module in chosen.items()}  # fmt: skip
        for module in chosen.values():
            del module.weight
        model = cast(model, "bfloat16")
        for name, module in chosen.items():
            levels[name].scale_and_zero = levels[name].scale_and_zero.bfloat16()
            module.weight = Parameter(levels[name], requires_grad=False)
        return model
