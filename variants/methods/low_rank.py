"""Each matrix as the product of two thin ones."""

from typing import TYPE_CHECKING, Annotated, ClassVar

from pydantic import Field
from pydantic.dataclasses import dataclass

from variants.loading import linears
from variants.method import STRICT, Say, Stage
from variants.methods.calibration import TEXTS, input_norms

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


MLP = ("gate_proj", "up_proj", "down_proj")


@dataclass(frozen=True, config=STRICT)
class LowRank:
    """The Linear layers named in `layers` cut to `rank` by a singular value decomposition.

    Weights count by the size of what flows into them (`aware`; Yuan et al. 2023, "ASVD"): the decomposition is of
    weight · diag(rms of the calibration inputs). The product is written back at full size; `packed_bytes` is what
    the factors would take, smaller only below rank rows · columns / (rows + columns). Small models do not survive that
    without training; a rank at least as large as the smaller side changes nothing, which proves the code.
    """

    rank: Annotated[int, Field(ge=1)]
    layers: Annotated[tuple[str, ...], Field(min_length=1)] = MLP
    aware: bool = True
    calibration: Annotated[tuple[str, ...], Field(min_length=1)] = TEXTS
    stage: ClassVar[Stage] = "weights"
    revision: ClassVar[int] = 1

    def edit(
        self, model: "PreTrainedModel", tokenizer: "PreTrainedTokenizerBase", say: Say
    ) -> tuple["PreTrainedModel", dict[str, float]]:
        chosen = {name: m for name, m in linears(model).items() if name.rpartition(".")[2] in self.layers}
        norms = input_norms(model, tokenizer, self.calibration, chosen.values()) if self.aware else {}
        total = sum(p.numel() * p.element_size() for p in model.parameters())
        lost = kept = 0.0
        for done, module in enumerate(chosen.values()):
            if done % 10 == 0:
                say(f"decomposing {done}/{len(chosen)} matrices")
            weight = module.weight.data
            rank = min(self.rank, *weight.shape)
            cut, energy = truncated(weight.float(), rank, norms.get(module))
            weight.copy_(cut)
            kept, lost = kept + energy, lost + 1 - energy
            total += weight.element_size() * (rank * sum(weight.shape) - weight.numel())
        return model, {"packed_bytes": float(total), "energy_kept": kept / max(kept + lost, 1e-12)}


def truncated(weight: "torch.Tensor", rank: int, norms: "torch.Tensor | None") -> tuple["torch.Tensor", float]:
    """Best approximation of rank `rank` to float32 `weight` (rows, columns), and the share of its square kept.

    `norms` (columns,) weigh the columns' errors.
    """
    up, down, energy = factors_of(weight, rank, norms)
    return up @ down, energy


def factors_of(
    weight: "torch.Tensor", rank: int, norms: "torch.Tensor | None"
) -> tuple["torch.Tensor", "torch.Tensor", float]:
    """float32 (rows, rank) and (rank, columns) whose product is what `truncated` gives, and the share kept."""
    import torch

    scale = torch.ones(weight.shape[1]) if norms is None else norms.clamp(min=1e-6 * float(norms.max()) + 1e-12)
    left, values, right = torch.linalg.svd(weight * scale, full_matrices=False)
    energy = float(values[:rank].square().sum() / values.square().sum().clamp(min=1e-30))
    return left[:, :rank] * values[:rank], right[:rank] / scale, energy
