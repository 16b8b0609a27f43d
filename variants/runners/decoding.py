"""Token by token: a batch of prompts answered together, and given answers weighed."""

import hashlib
import math
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

from driftline.protocols import AnswerLogProbs, Sampling
from variants.runners.chat_tokens import ChatTokens, Drawn
from variants.runners.constrained import Held
from variants.runners.forward import Forward
from variants.runners.prefix import Reader

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

LOGITS_BYTES = 512 * 2**20  # most that the float32 logits of one log-probability pass may take


def draw(
    model: "PreTrainedModel",
    prompts: Sequence[Sequence[int]],
    sampling: Sampling,
    ends: frozenset[int],
    tokens: ChatTokens,
    began: float,
    reader: Reader | None = None,
) -> list[Drawn]:
    """Answers of `model` to token-id `prompts`, decoded as one left-padded batch.

    A row leaves the batch when it has drawn an end token, when its text holds a stop text, or after
    `sampling.max_tokens`; the others go on in a smaller batch. Each row draws from a generator of its own, seeded
    by `sampling.seed` and its prompt, so its randomness does not depend on its neighbours.

    Args:
        prompts: At least one; none empty.
        began: `time.perf_counter()` when the batch was taken up; the times count from there.
        reader: Who reads the prompts, and may have read them before.
    """
    import torch

    with torch.inference_mode():
        forward = Forward(model)
        begun = (reader or Reader()).read(forward, prompts)
        width = begun.mask.shape[1]
        attention = torch.cat([begun.mask, begun.mask.new_ones(len(prompts), sampling.max_tokens)], dim=1)
        logits, position, cache = begun.logits, begun.position, begun.cache
        luck = luck_of(prompts, sampling)
        held = Held(tokens.tokenizer, sampling.constraint, len(prompts), ends)

        rows = list(range(len(prompts)))  # which prompt each row of the shrinking batch answers
        drawn: list[list[int]] = [[] for _ in prompts]
        total = [0.0] * len(prompts)
        done: dict[int, Drawn] = {}
        ttft = 0.0
        for step in range(sampling.max_tokens):
            logits = held.allowed(logits, rows)
            chosen = choose(logits, sampling, luck[rows, step] if luck is not None else None)
            weight = logits.gather(1, chosen[:, None])[:, 0] - logits.logsumexp(-1)
            now = (time.perf_counter() - began) * 1000
            ttft = ttft or now
            stay: list[int] = []
            for row, token, logprob in zip(range(len(rows)), chosen.tolist(), weight.tolist(), strict=True):
                prompt = rows[row]
                drawn[prompt].append(token)
                held.took(prompt, token)
                total[prompt] += logprob
                ended = token in ends or held.complete(prompt) or tokens.holds(drawn[prompt], sampling.stop)
                if ended or step + 1 == sampling.max_tokens:
                    mean = total[prompt] / len(drawn[prompt])
                    reason = "stop" if ended else "length"
                    done[prompt] = Drawn(tuple(drawn[prompt]), ttft, now, mean, reason)
                else:
                    stay.append(row)
            if not stay:
                break
            if len(stay) < len(rows) and hasattr(cache, "batch_select_indices"):
                keep = torch.tensor(stay)
                cache.batch_select_indices(keep)
                attention, position, chosen = attention[keep], position[keep], chosen[keep]
                rows = [rows[row] for row in stay]
            position = position + 1
            out = forward(chosen[:, None], attention[:, : width + step + 1], position, cache)
            logits, cache = out.logits[:, -1].float(), out.past_key_values
    return [done[prompt] for prompt in range(len(prompts))]


def weigh(
    model: "PreTrainedModel", pairs: Sequence[tuple[Sequence[int], Sequence[int]]], reader: Reader | None = None
) -> list[AnswerLogProbs]:
    """Log-probability of each answer token after its prompt, in one batch; log-softmax in float32.

    The prompts are read as for answering them, then the answers beside each other, padded on the right.

    Args:
        pairs: (prompt ids, answer ids); prompts not empty. An empty answer gives an empty result.
        reader: Who reads the prompts, and may have read them before.
    """
    import torch

    answers = [list(answer) for _, answer in pairs]
    longest = max(map(len, answers))
    if not longest:
        return [AnswerLogProbs((), ())] * len(pairs)
    with torch.inference_mode():
        forward = Forward(model)
        begun = (reader or Reader()).again(forward, [prompt for prompt, _ in pairs])
        logits = begun.logits[:, None]  # of the first token; each token of the answer predicts the next one
        if longest > 1:
            lacking = [longest - len(answer) for answer in answers]
            fed = torch.tensor([[*answer, *[0] * n][:-1] for answer, n in zip(answers, lacking, strict=True)])
            there = torch.tensor([[1] * len(answer) + [0] * n for answer, n in zip(answers, lacking, strict=True)])
            mask = torch.cat([begun.mask, there[:, :-1].to(begun.mask.dtype)], dim=1)
            position = begun.position + 1 + torch.arange(longest - 1)
            out = forward(fed, mask, position, begun.cache, keep=longest - 1)
            logits = torch.cat([logits, out.logits[:, 1 - longest :].float()], dim=1)
        weighed = []
        for row, answer in enumerate(answers):
            own = torch.log_softmax(logits[row, : len(answer)], dim=-1)
            wanted = torch.tensor(answer, dtype=torch.long)
            given = own.gather(1, wanted[:, None])[:, 0]
            weighed.append(AnswerLogProbs(tuple(given.tolist()), tuple((own.argmax(-1) == wanted).tolist())))
    return weighed


def passes(sizes: Sequence[int], vocabulary: int) -> list[slice]:
    """Consecutive slices of a batch whose logits stay under LOGITS_BYTES; `sizes` are answer tokens per row.

    >>> passes([10, 10, 5000], 50_000)
    [slice(0, 2, None), slice(2, 3, None)]
    """
    slices, first = [], 0
    for place in range(1, len(sizes) + 1):
        more = sizes[first : place + 1]
        if place == len(sizes) or len(more) * (max(more) + 1) * vocabulary * 4 > LOGITS_BYTES:
            slices.append(slice(first, place))
            first = place
    return slices


def luck_of(prompts: Sequence[Sequence[int]], sampling: Sampling) -> "torch.Tensor | None":
    """Uniform numbers (prompts, max_tokens) in [0, 1); None when drawing is greedy."""
    import torch

    if sampling.temperature <= 0:
        return None
    drawn = []
    for prompt in prompts:
        seed = hashlib.sha256(repr((sampling.seed, list(prompt))).encode()).digest()
        own = torch.Generator().manual_seed(int.from_bytes(seed[:8], "big") >> 1)
        drawn.append(torch.rand(sampling.max_tokens, generator=own))
    return torch.stack(drawn)


def choose(logits: "torch.Tensor", sampling: Sampling, luck: "torch.Tensor | None") -> "torch.Tensor":
    """One token id per row of float32 `logits` (rows, vocabulary)."""
    if luck is None:
        return logits.argmax(-1)
    share, order = (logits / sampling.temperature).softmax(-1).sort(dim=-1, descending=True)
    summed = share.cumsum(-1)
    nucleus = summed - share < sampling.top_p  # smallest set of likeliest tokens that reaches top_p
    reach = (share * nucleus).sum(-1)
    place = (summed < (luck * reach)[:, None]).sum(-1).clamp(max=logits.shape[-1] - 1)
    place = place.minimum(nucleus.sum(-1) - 1)
    return order.gather(1, place[:, None])[:, 0]


def perplexity(logprobs: Sequence[float]) -> float:
    """exp of the mean negative log-probability; 1.0 means every token was certain. NaN for no token.

    >>> round(perplexity([math.log(0.5)] * 3), 6)
    2.0
    """
    return math.exp(-sum(logprobs) / len(logprobs)) if logprobs else math.nan
