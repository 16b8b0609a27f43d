"""A smaller student that learns to say what its teacher would."""

import copy
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from pydantic import Field
from pydantic.dataclasses import dataclass

from driftline.errors import BadInput
from variants.loading import decoder_layers, weight_bytes
from variants.method import STRICT, Say, Stage
from variants.methods.layer_drop import keep_layers
from variants.methods.mlp_width import narrow
from variants.training.corpus import IGNORED, tokenized
from variants.training.loop import split, train
from variants.training.memory import longest_batch, peak_bytes
from variants.training.plan import Plan

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


@dataclass(frozen=True, config=STRICT)
class Distill(Plan):
    """A student of `layers` evenly spaced layers, its feed-forward blocks `mlp_keep` as wide, taught by its parent.

    It starts from the teacher's weights and lowers `blend` · T² · KL(teacher ‖ student at `temperature` T) +
    (1 - `blend`) · cross entropy of the examples' own answers (Hinton et al. 2015), over the answers' tokens. The
    examples may be a corpus of texts, or production prompts with the answers that were given.
    """

    layers: Annotated[int, Field(ge=1)] | None = None
    mlp_keep: Annotated[float, Field(gt=0, le=1)] = 1.0
    temperature: Annotated[float, Field(gt=0)] = 2.0
    blend: Annotated[float, Field(ge=0, le=1)] = 0.7
    learning_rate: float = 3e-4
    stage: ClassVar[Stage] = "weights"
    revision: ClassVar[int] = 1
    packages: ClassVar[tuple[str, ...]] = ("accelerate",)

    def __post_init__(self) -> None:
        if self.layers is None and self.mlp_keep == 1:
            raise ValueError("the student must be smaller: give layers, as in 15, or mlp_keep below 1")

    def peak_bytes(self, parent: Path) -> int:
        """Most memory the training will hold."""
        return peak_bytes(
            parent,
            self.batch_size,
            longest_batch(self, parent),
            prepare=self.shrunk,
            beside=weight_bytes(parent),
            teacher=True,
        )

    def edit(
        self, model: "PreTrainedModel", tokenizer: "PreTrainedTokenizerBase", say: Say
    ) -> tuple["PreTrainedModel", dict[str, float]]:
        examples, found = self.examples(say)
        rows = split(tokenized(tokenizer, examples, self.max_tokens), self.hold_out)
        student = self.shrunk(copy.deepcopy(model)).requires_grad_(True)
        sizes = [sum(p.numel() for p in one.parameters()) for one in (student, model)]
        loss_of = taught_by(model.requires_grad_(False), self.temperature, self.blend)
        measured = train(student, rows, self, int(tokenizer.pad_token_id or 0), say, loss_of)
        student.requires_grad_(False)
        return student, {**found, **measured, "parameters_kept": sizes[0] / sizes[1]}

    def shrunk(self, model: "PreTrainedModel") -> "PreTrainedModel":
        """`model` with fewer layers and narrower feed-forward blocks, in place.

        Raises:
            BadInput: It has no more layers than the student shall have.
        """
        import torch

        blocks = decoder_layers(model)
        if self.layers is not None:
            if not 0 < self.layers < len(blocks):
                raise BadInput(f"The teacher has {len(blocks)} layers; a student of {self.layers} is not smaller.")
            last = len(blocks) - 1
            spaced = [round(place * last / max(1, self.layers - 1)) for place in range(self.layers)]
            keep_layers(model, blocks, spaced)
        if self.mlp_keep < 1:
            for layer in decoder_layers(model):
                block: Any = layer.mlp
                wanted = max(1, round(block.down_proj.in_features * self.mlp_keep))
                weight = block.down_proj.weight
                if weight.is_meta:
                    narrow(block, torch.arange(wanted, device="meta"))
                else:
                    narrow(block, weight.data.float().norm(dim=0).topk(wanted).indices.sort().values)
            model.config.get_text_config().intermediate_size = wanted
        return model


def taught_by(
    teacher: "PreTrainedModel", temperature: float, blend: float
) -> "Callable[[PreTrainedModel, dict[str, Any]], torch.Tensor]":
    """The loss of a student, nats per answer token."""
    import torch
    from torch.nn import functional

    def loss(student: "PreTrainedModel", batch: dict[str, Any]) -> "torch.Tensor":
        counted = batch["labels"][:, 1:] != IGNORED
        asked = {"input_ids": batch["input_ids"], "attention_mask": batch["attention_mask"], "use_cache": False}
        with torch.no_grad():
            told = teacher.to(batch["input_ids"].device)(**asked).logits[:, :-1][counted].float()
        said = student(**asked).logits[:, :-1][counted].float()
        own = functional.cross_entropy(said, batch["labels"][:, 1:][counted])
        near = functional.kl_div(
            functional.log_softmax(said / temperature, -1),
            functional.log_softmax(told / temperature, -1),
            log_target=True,
            reduction="batchmean",
        )
        return blend * temperature**2 * near + (1 - blend) * own

    return loss
