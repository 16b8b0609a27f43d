"""One greedy answer, drawn with a draft model that proposes tokens for the large one to verify."""

import time
from typing import TYPE_CHECKING, Any

from driftline.protocols import Sampling
from variants.runners.chat_tokens import ChatTokens, Drawn
from variants.runners.prefix import shared_length

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel


class Reader:
    """A model with the keys and values of what it has read; goes back to any earlier place."""

    def __init__(self, model: "PreTrainedModel") -> None:
        from transformers import DynamicCache

        self._model = model
        self._cache = DynamicCache()
        self._read: list[int] = []

    def logits(self, ids: list[int], last: int) -> "torch.Tensor":
        """float32 (last, vocabulary): what follows each of the `last` last of `ids`; only new ids are read."""
        import torch

        known = shared_length([self._read, ids], min(len(self._read), len(ids) - last))
        if known < len(self._read):
            self._cache.crop(known - len(self._read))  # tokens to take away, as a negative number
        new = torch.tensor([ids[known:]])
        out: Any = self._model(
            input_ids=new,
            attention_mask=torch.ones(1, len(ids), dtype=torch.long),
            past_key_values=self._cache,
            use_cache=True,
            logits_to_keep=last,
        )
        self._read = list(ids)
        return out.logits[0, -last:].float()  # type: ignore[no-any-return]


def draw_drafted(
    model: "PreTrainedModel",
    draft: "PreTrainedModel",
    prompt: list[int],
    sampling: Sampling,
    ends: frozenset[int],
    tokens: ChatTokens,
    began: float,
    ahead: int,
) -> tuple[Drawn, int, int]:
    """The greedy answer of `model` to `prompt`, and how many tokens were proposed and accepted.

    Each round `draft` proposes `ahead` tokens, `model` reads them in one pass, and the longest beginning that it
    would have drawn itself is kept, with the token it draws after it.
    """
    import torch

    large, small = Reader(model), Reader(draft)
    drawn: list[int] = []
    total = ttft = 0.0
    proposed = accepted = 0
    with torch.inference_mode():
        while True:
            guessed: list[int] = []
            for _ in range(min(ahead, sampling.max_tokens - len(drawn) - 1)):
                guessed.append(int(small.logits([*prompt, *drawn, *guessed], 1)[0].argmax()))
                if guessed[-1] in ends:
                    break
            logits = large.logits([*prompt, *drawn, *guessed], len(guessed) + 1)
            proposed += len(guessed)
            for place, own in enumerate(logits.argmax(-1).tolist()):
                right = place < len(guessed) and own == guessed[place]
                accepted += right
                drawn.append(own)
                total += float(logits[place, own] - logits[place].logsumexp(-1))
                ttft = ttft or (time.perf_counter() - began) * 1000
                ended = own in ends or tokens.holds(drawn, sampling.stop)
                if ended or len(drawn) >= sampling.max_tokens:
                    now = (time.perf_counter() - began) * 1000
                    reason = "stop" if ended else "length"
                    return Drawn(tuple(drawn), ttft, now, total / len(drawn), reason), proposed, accepted
                if not right:
                    break
