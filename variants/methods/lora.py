"""A low-rank adapter trained on examples (PEFT), merged into the weights or kept beside them."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from pydantic import Field
from pydantic.dataclasses import dataclass

from driftline.errors import BadInput
from variants.loading import linears, load_model, load_tokenizer
from variants.method import STRICT, Say, Stage
from variants.storage import adapter
from variants.training.corpus import tokenized
from variants.training.loop import split, train
from variants.training.memory import longest_batch, peak_bytes
from variants.training.plan import Plan

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


@dataclass(frozen=True, config=STRICT)
class LoraPlan(Plan):
    """A `Plan` with the adapter's shape: pairs of rank `rank`, weighed `alpha` / rank, on the layers `targets`."""

    learning_rate: float = 5e-4
    rank: Annotated[int, Field(ge=1)] = 8
    alpha: Annotated[int, Field(ge=1)] = 16
    targets: Annotated[tuple[str, ...], Field(min_length=1)] = ("q_proj", "v_proj", "o_proj", "down_proj")
    revision: ClassVar[int] = 1
    packages: ClassVar[tuple[str, ...]] = ("peft", "accelerate")

    def peak_bytes(self, parent: Path) -> int:
        """Most memory the training will hold."""
        return peak_bytes(
            parent,
            self.batch_size,
            longest_batch(self, parent),
            prepare=lambda model: adapter.adapted(model, self.rank, self.alpha, self.targets),
        )

    def trained(
        self, model: "PreTrainedModel", tokenizer: "PreTrainedTokenizerBase", say: Say
    ) -> tuple["PreTrainedModel", dict[str, float]]:
        """`model` with a trained adapter, and what was measured.

        Raises:
            BadInput: The model has no layer of a name in `targets`.
        """
        import torch

        there = {name.rpartition(".")[2] for name in linears(model)}
        if not set(self.targets) <= there:
            raise BadInput(f"The model has no layers {set(self.targets) - there}. It has {', '.join(sorted(there))}.")
        examples, found = self.examples(say)
        rows = split(tokenized(tokenizer, examples, self.max_tokens), self.hold_out)
        with torch.random.fork_rng():
            torch.manual_seed(self.seed)
            model = adapter.adapted(model, self.rank, self.alpha, self.targets)
        count = float(sum(p.numel() for p in model.parameters() if p.requires_grad))
        measured = train(model, rows, self, int(tokenizer.pad_token_id or 0), say)
        return model, {**found, **measured, "trained_parameters": count}


@dataclass(frozen=True, config=STRICT)
class Lora(LoraPlan):
    """Low-rank pairs learn, the weights stay; at the end the pairs are added into them (Hu et al. 2021)."""

    stage: ClassVar[Stage] = "weights"

    def edit(
        self, model: "PreTrainedModel", tokenizer: "PreTrainedTokenizerBase", say: Say
    ) -> tuple["PreTrainedModel", dict[str, float]]:
        from peft.tuners.lora import LoraLayer

        adapted, measured = self.trained(model, tokenizer, say)
        for name, module in list(adapted.named_modules()):
            if isinstance(module, LoraLayer):
                merged: Any = module
                merged.merge()
                parent, _, own = name.rpartition(".")
                setattr(adapted.get_submodule(parent), own, merged.get_base_layer())
        return adapted, measured


@dataclass(frozen=True, config=STRICT)
class LoraAdapter(LoraPlan):
    """As `lora`, not merged: a few megabytes beside the parent's own weight file, applied when opened."""

    stage: ClassVar[Stage] = "export"
    gives: ClassVar[str] = "hf"

    def export(self, parent: Path, directory: Path, say: Say) -> dict[str, float]:
        model, measured = self.trained(load_model(parent), load_tokenizer(parent), say)
        shape = {"rank": self.rank, "alpha": self.alpha, "targets": list(self.targets)}
        adapter.save(model, shape, parent, directory)
        return {**measured, "adapter_bytes": float((directory / adapter.FILE).stat().st_size)}
