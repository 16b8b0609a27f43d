"""How much memory a training will hold at most, told before it starts, from a dry run without memory."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from variants.free_memory import held_bytes
from variants.loading import load_tokenizer, need_transformers, quietly
from variants.method import quiet
from variants.storage.shell import shell
from variants.training.corpus import tokenized
from variants.training.loop import order_of, split
from variants.training.plan import Plan

if TYPE_CHECKING:
    from transformers import PreTrainedModel

LIBRARIES = 520 * 2**20  # what a process holds after importing torch and transformers and starting to compute
ALLOCATOR = 1.1  # what the allocator holds beyond what was asked for
UPDATE_COPIES = 2  # tensors as large as the weight that Adam is updating
LOGIT_COPIES = 3  # float32 tensors as large as the logits while their loss flows back: logits, softmax, gradient


def longest_batch(plan: Plan, parent: Path) -> int:
    """Tokens of the longest row that `plan` will train on with the tokenizer in `parent`, in the order it will take.

    Raises:
        BadInput: As `plan.examples` and `tokenized`.
    """
    import torch

    examples, _ = plan.examples(quiet)
    rows = split(tokenized(load_tokenizer(parent), examples, plan.max_tokens), plan.hold_out).learn
    taken = order_of(len(rows), plan, torch.Generator().manual_seed(plan.seed))
    return max(len(rows[place].ids) for batch in taken for place in batch)


def peak_bytes(
    parent: Path,
    rows: int,
    tokens: int,
    *,
    prepare: "Callable[[PreTrainedModel], PreTrainedModel]" = lambda model: model,
    beside: float = 0.0,
    teacher: bool = False,
) -> int:
    """Most bytes that this process will hold while it trains a model like the one in `parent`.

    What it holds already (a worker keeps other models open), weights, Adam's two moments, and the larger of the
    gradients with what Adam needs to update the largest weight (at a step's end) and what the forward pass keeps for
    the backward pass with the logits (in its middle).
    What is kept is counted, not guessed: the model runs once on torch's meta device, where tensors have shapes and no
    bytes.

    Args:
        rows: Examples per batch, of `tokens` tokens each (the longest).
        prepare: What is done to the model before it is trained (adapters, fewer layers).
        beside: Bytes of weights held beside the trained model.
        teacher: A second model of the same vocabulary answers every batch as well.
    """
    import torch

    need_transformers()
    with quietly(), torch.device("meta"):
        model = prepare(shell(parent).requires_grad_(True))
        kept = kept_bytes(model, rows, tokens)
    weights = sum(p.numel() * p.element_size() for p in model.parameters())
    learning = [p.numel() * p.element_size() for p in model.parameters() if p.requires_grad]
    trained = sum(learning)
    updating = trained + UPDATE_COPIES * max(learning, default=0)
    logits = rows * tokens * int(model.config.get_text_config().vocab_size) * 4
    flowing = kept + logits * (LOGIT_COPIES + (2 if teacher else 0))
    held = max(LIBRARIES, held_bytes())
    return held + int(ALLOCATOR * (weights + beside + 2 * trained + max(updating, flowing)))


def kept_bytes(model: "PreTrainedModel", rows: int, tokens: int) -> int:
    """Bytes beside the weights that `model` keeps for the backward pass of (rows, tokens) ids, up to its last norm."""
    import torch

    saved: dict[int, tuple[Any, int]] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        place = tensor.untyped_storage()._cdata
        saved[place] = (tensor.untyped_storage(), tensor.untyped_storage().nbytes())
        return tensor

    own = {parameter.untyped_storage()._cdata for parameter in model.parameters()}
    ids = torch.zeros(rows, tokens, dtype=torch.long)
    mask = torch.ones(rows, 1, tokens, tokens, dtype=torch.bool)  # a ready one: what a mask holds cannot be asked
    model.train()
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        model.model(input_ids=ids, attention_mask=mask, use_cache=False)
    return sum(size for place, (_, size) in saved.items() if place not in own)
