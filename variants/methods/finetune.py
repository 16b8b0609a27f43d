"""All weights trained on examples."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from pydantic.dataclasses import dataclass

from variants.method import STRICT, Say, Stage
from variants.storage.shell import tensors
from variants.training.corpus import tokenized
from variants.training.loop import split, train
from variants.training.memory import longest_batch, peak_bytes
from variants.training.plan import Plan

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


@dataclass(frozen=True, config=STRICT)
class Finetune(Plan):
    """Every weight learns from the examples (`lora` learns far fewer and needs a fraction of the memory)."""

    learning_rate: float = 5e-5
    stage: ClassVar[Stage] = "weights"
    revision: ClassVar[int] = 1
    packages: ClassVar[tuple[str, ...]] = ("accelerate",)

    def peak_bytes(self, parent: Path) -> int:
        """Most memory the training will hold."""
        return peak_bytes(parent, self.batch_size, longest_batch(self, parent))

    def edit(
        self, model: "PreTrainedModel", tokenizer: "PreTrainedTokenizerBase", say: Say
    ) -> tuple["PreTrainedModel", dict[str, float]]:
        return model, self.learn(model, tokenizer, say)

    def learn(
        self,
        model: "PreTrainedModel",
        tokenizer: "PreTrainedTokenizerBase",
        say: Say,
        after_step: Callable[[], None] = lambda: None,
    ) -> dict[str, float]:
        """Trains all weights in place; what was found in the examples and measured."""
        examples, found = self.examples(say)
        rows = split(tokenized(tokenizer, examples, self.max_tokens), self.hold_out)
        model.requires_grad_(True)
        measured = train(model, rows, self, int(tokenizer.pad_token_id or 0), say, after_step=after_step)
        model.requires_grad_(False)
        return {**found, **measured}


@dataclass(frozen=True, config=STRICT)
class Recover(Finetune):
    """As `finetune`, after pruning: weights that are zero stay zero, the others make up for them.

    `packed_bytes` is what the model takes with the matrices that have zeros stored as bitmap and values.
    """

    def peak_bytes(self, parent: Path) -> int:
        """Most memory the training will hold: a finetune's, and where the zeros are, a byte a weight."""
        marks = sum(tensor.numel() for _, tensor in tensors(parent) if bool((tensor == 0).any()))
        return peak_bytes(parent, self.batch_size, longest_batch(self, parent), beside=marks)

    def edit(
        self, model: "PreTrainedModel", tokenizer: "PreTrainedTokenizerBase", say: Say
    ) -> tuple["PreTrainedModel", dict[str, float]]:
        gone = [(parameter, parameter == 0) for parameter in model.parameters() if bool((parameter == 0).any())]

        def hold() -> None:
            for parameter, zero in gone:
                parameter.data.masked_fill_(zero, 0)

        learned = self.learn(model, tokenizer, say, after_step=hold)
        held = {parameter: int(zero.sum()) for parameter, zero in gone}
        learned["zeros_held"] = float(sum(held.values()))
        if held:
            total = sum(parameter.numel() * parameter.element_size() for parameter in model.parameters())
            saved = sum(max(0, count * one.element_size() - one.numel() // 8) for one, count in held.items())
            learned["packed_bytes"] = float(total - saved)
        return model, learned
