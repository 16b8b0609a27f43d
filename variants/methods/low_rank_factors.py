"""Linear layers as two thin matrices that are really multiplied one after the other."""

from pathlib import Path
from typing import Annotated, ClassVar

from pydantic import Field
from pydantic.dataclasses import dataclass

from driftline.errors import BadInput
from variants.loading import linears, load_model, load_tokenizer
from variants.method import STRICT, Say, Stage
from variants.methods.calibration import TEXTS, input_norms
from variants.methods.low_rank import MLP, factors_of
from variants.storage import factors


@dataclass(frozen=True, config=STRICT)
class LowRankFactors:
    """As `low_rank`, with the two factors kept and used instead of their product.

    Bytes and arithmetic of a matrix (rows, columns) fall where `rank` is below rows · columns / (rows + columns); a
    matrix for which it is not stays whole.
    """

    rank: Annotated[int, Field(ge=1)]
    layers: tuple[str, ...] = MLP
    aware: bool = True
    calibration: Annotated[tuple[str, ...], Field(min_length=1)] = TEXTS
    stage: ClassVar[Stage] = "export"
    gives: ClassVar[str] = "hf"
    revision: ClassVar[int] = 1

    def export(self, parent: Path, directory: Path, say: Say) -> dict[str, float]:
        model = load_model(parent)
        chosen = {
            name: module
            for name, module in linears(model).items()
            if name.rpartition(".")[2] in self.layers and self.rank * sum(module.weight.shape) < module.weight.numel()
        }
        if not chosen:
            raise BadInput(f"No matrix of {', '.join(self.layers)} becomes smaller at rank {self.rank}. Lower it.")
        norms = input_norms(model, load_tokenizer(parent), self.calibration, chosen.values()) if self.aware else {}
        energy = 0.0
        for done, (name, module) in enumerate(chosen.items()):
            if done % 10 == 0:
                say(f"decomposing {done}/{len(chosen)} matrices")
            up, down, kept = factors_of(module.weight.data.float(), self.rank, norms.get(module))
            energy += kept
            width = module.weight.dtype
            factors.replace(model, name, factors.factored(up.to(width), down.to(width), module.bias))
        factors.save(model, directory)
        return {"factored_matrices": float(len(chosen)), "energy_kept": energy / len(chosen)}
