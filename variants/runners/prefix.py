"""What all prompts of a batch begin with, read once instead of once per prompt."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from variants.runners.forward import Forward

if TYPE_CHECKING:
    import torch

WORTHWHILE = 8  # shared tokens below which one more pass through the model costs more than it saves


@dataclass(frozen=True)
class Start:
    """A left-padded batch, ready for its first forward pass.

    `ids` and `position` are (prompts, longest rest), `mask` (prompts, shared + longest rest); padding is masked.
    `cache` holds the keys and values of the shared tokens, None where none were read ahead.
    """

    ids: "torch.Tensor"
    mask: "torch.Tensor"
    position: "torch.Tensor"
    cache: Any


def start(forward: Forward, prompts: Sequence[Sequence[int]], most: int) -> Start:
    """The batch of token-id `prompts`, whose common beginning has been read once.

    Args:
        most: The beginning has at most so many tokens; below the length of the shortest prompt.
    """
    import torch

    shared = shared_length(prompts, most)
    cache = None
    if len(prompts) > 1 and shared >= WORTHWHILE and forward.can_repeat_cache:
        ids = torch.tensor([list(prompts[0][:shared])])
        cache = forward(ids, torch.ones_like(ids), torch.arange(shared)[None], None).past_key_values
        cache.batch_repeat_interleave(len(prompts))
    else:
        shared = 0
    ids, mask = left_pad([prompt[shared:] for prompt in prompts])
    mask = torch.cat([torch.ones(len(prompts), shared, dtype=mask.dtype), mask], dim=1)
    position = (mask.cumsum(1) - 1).clamp(min=0)[:, shared:]
    return Start(ids, mask, position, cache)


def shared_length(prompts: Sequence[Sequence[int]], most: int) -> int:
    """How many tokens all `prompts` begin with, `most` at most.

    >>> shared_length([[1, 2, 3, 4], [1, 2, 9]], most=2), shared_length([[1, 2], [1, 2]], most=1)
    (2, 1)
    """
    for place in range(most):
        if any(prompt[place] != prompts[0][place] for prompt in prompts):
            return place
    return most


def left_pad(prompts: Sequence[Sequence[int]]) -> tuple["torch.Tensor", "torch.Tensor"]:
    """(ids, mask), each (prompts, longest): every prompt ends in the last column; padding has id 0 and mask 0."""
    import torch

    longest = max(len(prompt) for prompt in prompts)
    ids = torch.zeros(len(prompts), longest, dtype=torch.long)
    mask = torch.zeros(len(prompts), longest, dtype=torch.long)
    for row, prompt in enumerate(prompts):
        ids[row, longest - len(prompt) :] = torch.tensor(prompt, dtype=torch.long)
        mask[row, longest - len(prompt) :] = 1
    return ids, mask
