"""What every training method is told: the examples, and how to learn from them."""

from pathlib import Path
from typing import Annotated, ClassVar, Literal

from pydantic import Field
from pydantic.dataclasses import dataclass

from variants.method import STRICT, Say
from variants.training.clean import cleaned
from variants.training.corpus import Example, read_examples


@dataclass(frozen=True, config=STRICT)
class Plan:
    """`steps` updates of `batch_size` examples from the file `data`, AdamW with warm-up and cosine decay to a tenth.

    `clean` removes duplicates and near-duplicates first and refuses examples that contradict each other. `precision`
    "bf16" computes in bfloat16 and keeps float32 weights. `hold_out` of the examples are not trained on; their loss
    before and after is what the training is measured by. With a graphics card, or under `accelerate launch`, the loop
    runs there. The same seed, data and versions give the same weights on the same number of threads.
    """

    data: Annotated[str, Field(min_length=1)]
    steps: Annotated[int, Field(ge=1)] = 100
    batch_size: Annotated[int, Field(ge=1)] = 4
    learning_rate: Annotated[float, Field(gt=0)] = 1e-4
    warmup: Annotated[float, Field(ge=0, le=1)] = 0.1
    weight_decay: Annotated[float, Field(ge=0)] = 0.01
    max_tokens: Annotated[int, Field(ge=2)] = 256
    precision: Literal["fp32", "bf16"] = "fp32"
    hold_out: Annotated[float, Field(ge=0, lt=1)] = 0.1
    clean: bool = True
    seed: int = 0
    on_disk: ClassVar[tuple[str, ...]] = ("data",)

    def examples(self, say: Say) -> tuple[list[Example], dict[str, float]]:
        """The examples that are left after cleaning, and what the cleaning found.

        Raises:
            BadInput: The file cannot be used, or examples contradict each other.
        """
        found = read_examples(Path(self.data).expanduser())
        if not self.clean:
            return found, {"examples": float(len(found))}
        kept, report = cleaned(found)
        say(f"{len(kept)} of {len(found)} examples are left after cleaning")
        return kept, {"examples": float(len(kept)), **report}
