"""What all prompts of a batch begin with, read once instead of once per prompt."""

import copy
from collections import Counter, OrderedDict
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


class Prefixes:
    """Beginnings of prompts that were read before, with their keys and values; the last used `kept` stay.

    `counted` has tokens of beginnings that were wanted (`prefix_tokens`) and found (`prefix_found`).
    """

    def __init__(self, kept: int) -> None:
        self.kept = kept
        self._caches: OrderedDict[tuple[int, ...], Any] = OrderedDict()
        self.counted: Counter[str] = Counter()

    def read(self, forward: Forward, ids: Sequence[int]) -> Any:
        """A cache of keys and values of exactly `ids`, that the caller may change."""
        import torch

        wanted = tuple(ids)
        best = max(self._caches, key=lambda one: shared_length([one, wanted], min(len(one), len(wanted))), default=())
        known = shared_length([best, wanted], min(len(best), len(wanted)))
        cache = None
        if known >= WORTHWHILE:
            self._caches.move_to_end(best)
            cache = copy.deepcopy(self._caches[best])
            if known < len(best):
                cache.crop(known - len(best))  # tokens to take away, as a negative number
        else:
            known = 0
        if known < len(wanted):
            rest = torch.tensor([wanted[known:]])
            mask = torch.ones(1, len(wanted), dtype=torch.long)
            cache = forward(rest, mask, torch.arange(known, len(wanted))[None], cache).past_key_values
        if self.kept:
            self.counted["prefix_tokens"] += len(wanted)
            self.counted["prefix_found"] += known
            if wanted not in self._caches:
                self._caches[wanted] = copy.deepcopy(cache)
                while len(self._caches) > self.kept:
                    self._caches.popitem(last=False)
        return cache


def start(forward: Forward, prompts: Sequence[Sequence[int]], most: int, prefixes: "Prefixes | None" = None) -> Start:
    """The batch of token-id `prompts`, whose common beginning has been read once.

    Args:
        most: The beginning has at most so many tokens; below the length of the shortest prompt.
        prefixes: Where beginnings are kept from batch to batch.
    """
    import torch

    shared = shared_length(prompts, most)
    cache = None
    worth = shared >= WORTHWHILE and (len(prompts) > 1 or (prefixes is not None and prefixes.kept))
    if worth and forward.can_repeat_cache:
        cache = (prefixes or Prefixes(0)).read(forward, prompts[0][:shared])
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
