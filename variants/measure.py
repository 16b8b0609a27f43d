"""What a variant costs and how far it has moved from its parent, as numbers that two variants can be compared by."""

import math
import os
import resource
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from driftline.errors import BadInput
from driftline.protocols import Completion, Generate, LogProbs, Messages, Sampling
from variants.around import Wrapped
from variants.energy import metered
from variants.free_memory import hand_back

if TYPE_CHECKING:
    import torch

TOKENS_PER_TEXT = 512  # of a text probe, the tokens whose distributions are compared


@runtime_checkable
class Distributions(Protocol):
    """A runner that shows its whole next-token distributions."""

    @property
    def bytes_in_memory(self) -> int:
        """Size of the weights as they lie in memory."""
        ...

    def distributions(self, text: str, tokens: int) -> "tuple[list[int], torch.Tensor]":
        """The first `tokens` token ids of `text`, and float32 natural log-probabilities (ids - 1, vocabulary)."""
        ...


def measure(
    candidate: Generate,
    parent: Generate | None,
    probes: Sequence[str | Messages],
    *,
    max_tokens: int = 32,
) -> dict[str, float]:
    """What can be measured of `candidate`; what cannot be seen from here is left out, never guessed.

    Messages are answered one at a time (greedy, `max_tokens`), texts are only read. Keys:

    | key | of | meaning |
    |---|---|---|
    | `bytes_in_memory` | local models | weights |
    | `peak_rss_bytes`, `rss_growth_bytes` | all | of this process while it answered; growth since before |
    | `answer_ms`, `ttft_ms`, `prefill_tokens_per_s`, `decode_tokens_per_s` | messages | medians |
    | `cpu_ms_per_token`, `joules_per_token`, `joules_estimated` | messages | 1.0: from processor time, 0.0: read |
    | `load_average` | all | of the machine over the last minute: above its cores, times say little |
    | `perplexity` | texts | exp of the mean negative log-probability of a token; lower is better |
    | `kl_to_parent`, `top1_agreement` | texts, parent | mean nats from the parent; share of same first choices |
    | `answer_agreement` | messages, parent | share of the parent's answer tokens that the candidate would choose too |
    | `answer_perplexity` | messages, parent | of the parent's answers, under the candidate |
    | `errors` | messages | share of probes without an answer |

    Raises:
        BadInput: There is no probe.
    """
    if not probes:
        raise BadInput("Measuring a variant needs at least one probe: a text, or messages.")
    asked = [probe for probe in probes if not isinstance(probe, str)]
    texts = [probe for probe in probes if isinstance(probe, str)]
    found = _cost(candidate, asked, max_tokens) if asked else {}
    inner = innermost(candidate)
    held = getattr(inner, "bytes_in_memory", None)
    if isinstance(held, int | float):
        found["bytes_in_memory"] = float(held)
    if isinstance(inner, Distributions) and texts:
        found |= _distance(inner, innermost(parent) if parent else None, texts)
    if asked and parent is not None and isinstance(candidate, LogProbs):
        found |= _agreement(candidate, parent, asked, max_tokens)
    found["load_average"] = os.getloadavg()[0]
    return found


def innermost(answering: Generate) -> Generate:
    """The runner under all that is around it; what asks several models stands for itself."""
    while isinstance(answering, Wrapped) and answering.is_one_model:
        answering = answering.inner
    return answering


def _cost(candidate: Generate, asked: Sequence[Messages], max_tokens: int) -> dict[str, float]:
    sampling = Sampling(max_tokens=max_tokens)
    candidate.generate(asked[:1], Sampling(max_tokens=2))  # first calls allocate and compile; not measured
    before = peak_rss(reset=True)
    with metered() as spent:
        answers = [candidate.generate([prompt], sampling)[0] for prompt in asked]
    peak = peak_rss()
    good = [answer for answer in answers if answer.error is None]
    found = {
        "errors": 1 - len(good) / len(answers),
        "peak_rss_bytes": float(peak),
        "rss_growth_bytes": float(max(0, peak - before)),
    }
    found |= _medians(good)
    tokens = sum(answer.output_tokens or 0 for answer in good)
    if tokens:
        found["cpu_ms_per_token"] = 1000 * spent.cpu_seconds / tokens
        found["joules_per_token"] = spent.joules / tokens
        found["joules_estimated"] = float(spent.estimated)
    return found


def _medians(good: Sequence[Completion]) -> dict[str, float]:
    first = [answer.ttft_ms for answer in good if answer.ttft_ms]
    prefill = [1000 * a.input_tokens / a.ttft_ms for a in good if a.ttft_ms and a.input_tokens]
    decode = [
        1000 * (a.output_tokens - 1) / (a.latency_ms - a.ttft_ms)
        for a in good
        if a.ttft_ms and a.output_tokens and a.output_tokens > 1 and a.latency_ms > a.ttft_ms
    ]
    whole = [answer.latency_ms for answer in good]
    named = {"answer_ms": whole, "ttft_ms": first, "prefill_tokens_per_s": prefill, "decode_tokens_per_s": decode}
    return {name: median(values) for name, values in named.items() if values}


def _distance(candidate: Distributions, parent: Generate | None, texts: Sequence[str]) -> dict[str, float]:
    lost = kl = same = 0.0
    tokens = compared = 0
    for text in texts:
        ids, own = candidate.distributions(text, TOKENS_PER_TEXT)
        lost -= float(own[range(len(ids) - 1), ids[1:]].sum())
        tokens += len(ids) - 1
        if isinstance(parent, Distributions):
            theirs_ids, theirs = parent.distributions(text, TOKENS_PER_TEXT)
            if theirs_ids == ids and theirs.shape == own.shape:  # else another vocabulary: no distance is defined
                kl += float((theirs.exp() * (theirs - own)).sum())
                same += float((theirs.argmax(-1) == own.argmax(-1)).sum())
                compared += len(ids) - 1
    found = {"perplexity": math.exp(min(lost / tokens, 700.0))} if tokens else {}
    if compared:
        found |= {"kl_to_parent": max(0.0, kl / compared), "top1_agreement": same / compared}
    return found


def _agreement(candidate: LogProbs, parent: Generate, asked: Sequence[Messages], max_tokens: int) -> dict[str, float]:
    said = parent.generate(asked, Sampling(max_tokens=max_tokens))
    pairs = [(prompt, answer.text) for prompt, answer in zip(asked, said, strict=True) if answer.text]
    weighed = candidate.log_probs(pairs)
    logprobs = [logprob for one in weighed for logprob in one.logprobs]
    if not logprobs:
        return {}
    return {
        "answer_agreement": sum(first for one in weighed for first in one.top1) / len(logprobs),
        "answer_perplexity": math.exp(min(-sum(logprobs) / len(logprobs), 700.0)),
    }


def peak_rss(reset: bool = False) -> int:
    """Most memory, in bytes, that this process has held since it began or since the last `reset` (Linux only).

    With `reset`, the memory used now.
    """
    status = Path("/proc/self/status")
    if reset:
        hand_back()
        with suppress(OSError):  # where refused, the peak reaches back to the start of the process
            Path("/proc/self/clear_refs").write_text("5")
    if status.exists():
        lines = dict(line.split(":", 1) for line in status.read_text().splitlines() if ":" in line)
        return int(lines["VmHWM"].split()[0]) * 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
