"""Reading prompts: what all of a batch begin with is read once, and so is a batch whose answers are weighed later."""

import copy
from collections import Counter, OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from variants.runners.forward import Forward

if TYPE_CHECKING:
    import torch
    from transformers import DynamicCache

WORTHWHILE = 8  # shared tokens below which one more pass through the model costs more than it saves
TOKENS_PER_PASS = 640  # prompt tokens, padding included, above which a batch is read in several passes
KEPT_BYTES = 128 * 2**20  # keys and values of a batch above which it is read again rather than kept


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


@dataclass(frozen=True)
class WasRead:
    """A left-padded batch whose prompts have been read.

    `logits` (prompts, vocabulary) predict each prompt's next token; `mask` is (prompts, longest), `position`
    (prompts, 1) that of the last token; `cache` holds all keys and values.
    """

    logits: "torch.Tensor"
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


class Reader:
    """Reads batches of prompts, and keeps the newest one as it was read.

    So a replay that answers a batch and then weighs the reference answers reads its prompts once. Reading again would
    give the very same numbers: it is the same computation.
    """

    def __init__(self, kept_prefixes: int = 0) -> None:
        self.prefixes = Prefixes(kept_prefixes)
        self._prompts: list[tuple[int, ...]] = []
        self._newest: WasRead | None = None

    def read(self, forward: Forward, prompts: Sequence[Sequence[int]]) -> WasRead:
        """The prompts as one batch, read now; with a cache that the caller may change."""
        self._newest = None
        newest = read(forward, prompts, self.prefixes)
        if cached_bytes(newest.cache) > KEPT_BYTES:
            return newest
        self._prompts, self._newest = [tuple(prompt) for prompt in prompts], newest
        return replace(newest, cache=copy.deepcopy(newest.cache))

    def again(self, forward: Forward, prompts: Sequence[Sequence[int]]) -> WasRead:
        """As `read`, without reading where these prompts were the newest."""
        if self._newest is None or self._prompts != [tuple(prompt) for prompt in prompts]:
            return self.read(forward, prompts)
        return replace(self._newest, cache=copy.deepcopy(self._newest.cache))


def cached_bytes(cache: Any) -> int:
    """Size of the keys and values in a cache."""
    tensors = [getattr(layer, name, None) for layer in getattr(cache, "layers", []) for name in ("keys", "values")]
    return sum(one.numel() * one.element_size() for one in tensors if one is not None)


def beginning(
    forward: Forward, prompts: Sequence[Sequence[int]], most: int, prefixes: Prefixes
) -> tuple[int, "DynamicCache | None"]:
    """How many tokens of `prompts` are read once for all, and the cache (1 row) that holds them."""
    shared = shared_length(prompts, most)
    if shared >= WORTHWHILE and (len(prompts) > 1 or prefixes.kept) and forward.can_repeat_cache:
        return shared, prefixes.read(forward, prompts[0][:shared])
    return 0, None


def ready(prompts: Sequence[Sequence[int]], shared: int, cache: "DynamicCache | None") -> Start:
    """`prompts` after their first `shared` tokens, which `cache` (1 row, repeated in place) holds."""
    import torch

    if cache is not None:
        cache.batch_repeat_interleave(len(prompts))
    ids, mask = left_pad([prompt[shared:] for prompt in prompts])
    mask = torch.cat([torch.ones(len(prompts), shared, dtype=mask.dtype), mask], dim=1)
    position = (mask.cumsum(1) - 1).clamp(min=0)[:, shared:]
    return Start(ids, mask, position, cache)


def read(forward: Forward, prompts: Sequence[Sequence[int]], prefixes: Prefixes) -> WasRead:
    """Reads `prompts` as one batch, in several passes of similar lengths where they are long: little is padding."""
    import torch

    shared, cache = beginning(forward, prompts, min(map(len, prompts)) - 1, prefixes)
    order = sorted(range(len(prompts)), key=lambda place: len(prompts[place]))
    slices = passes_of([len(prompts[place]) - shared for place in order])
    if len(slices) == 1 or not forward.can_repeat_cache:
        return _read(forward, ready(prompts, shared, cache))
    parts = [[prompts[place] for place in order[part]] for part in slices]
    done = [_read(forward, ready(part, shared, copy.deepcopy(cache))) for part in parts]
    back = torch.tensor(sorted(range(len(order)), key=order.__getitem__))
    width = done[-1].mask.shape[1]
    joined = done[-1].cache
    for number, layer in enumerate(joined.layers):
        for name in ("keys", "values"):
            own = [widened(getattr(one.cache.layers[number], name), width, -2) for one in done]
            setattr(layer, name, torch.cat(own)[back])
    return WasRead(
        torch.cat([one.logits for one in done])[back],
        torch.cat([widened(one.mask, width, -1) for one in done])[back],
        torch.cat([one.position for one in done])[back],
        joined,
    )


def _read(forward: Forward, begin: Start) -> WasRead:
    out = forward(begin.ids, begin.mask, begin.position, begin.cache)
    return WasRead(out.logits[:, -1].float(), begin.mask, begin.position[:, -1:], out.past_key_values)


def widened(tensor: "torch.Tensor", width: int, axis: int) -> "torch.Tensor":
    """`tensor` with zeros before it along `axis` (-1 or -2), up to `width`."""
    import torch

    missing = width - tensor.shape[axis]
    return torch.nn.functional.pad(tensor, (missing, 0) if axis == -1 else (0, 0, missing, 0)) if missing else tensor


def passes_of(lengths: Sequence[int]) -> list[slice]:
    """Slices of prompts, shortest first, that together are about TOKENS_PER_PASS tokens, one prompt at least.

    >>> passes_of([20] * 16), passes_of([200, 250, 600])
    ([slice(0, 16, None)], [slice(0, 2, None), slice(2, 3, None)])
    """
    slices, first = [], 0
    for place in range(1, len(lengths) + 1):
        if place == len(lengths) or (place + 1 - first) * lengths[place] > TOKENS_PER_PASS:
            slices.append(slice(first, place))
            first = place
    return slices


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
