"""Answers one prompt after the other, for engines that keep one sequence of tokens in memory."""

import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from driftline.errors import BadInput
from driftline.protocols import AnswerLogProbs, Completion, Messages, Sampling
from variants.runners.chat_tokens import ChatTokens, Drawn
from variants.runners.constrained import Held
from variants.runners.decoding import choose, luck_of
from variants.runners.local_model import LocalModel
from variants.runners.prefix import shared_length

if TYPE_CHECKING:
    import torch

Read = Callable[[int, list[int], int], "torch.Tensor"]
"""`read(known, ids, last)` keeps the first `known` tokens in memory, reads `ids` after them, and gives float32 logits
(last, vocabulary) after each of the `last` last of them."""


class OneByOne:
    """Generate and LogProbs over an engine; reads again only what differs from the sequence before.

    Times of a Completion run from when its own prompt was taken up.
    """

    def __init__(
        self,
        read: Read,
        tokens: ChatTokens,
        ends: frozenset[int],
        source: LocalModel,
        run_by: Mapping[str, Any],
        weights: int,
    ) -> None:
        self.tokens = tokens
        self.bytes_in_memory = weights
        self._read, self._ends, self._source, self._run_by = read, ends, source, run_by
        self._held: list[int] = []  # the tokens whose keys and values the engine holds

    @property
    def fingerprint(self) -> str:
        """sha256 of the file, tokenizer, recipes, runner config and versions."""
        return self._source.fingerprint(self._run_by)

    def generate(self, prompts: Sequence[Messages], sampling: Sampling) -> list[Completion]:
        """One Completion per prompt, in order; `output_tokens` includes the end token."""
        return [self._answer(prompt, sampling) for prompt in prompts]

    def log_probs(self, pairs: Sequence[tuple[Messages, str]]) -> list[AnswerLogProbs]:
        """One AnswerLogProbs per (prompt, answer), in order; the answer's own tokens only, no end token.

        Raises:
            BadInput: A prompt that cannot be put into the chat template, or an answer beyond the context.
        """
        import torch

        weighed = []
        for prompt, answer in [self.tokens.pair_ids(*pair) for pair in pairs]:
            if not answer:
                weighed.append(AnswerLogProbs((), ()))
                continue
            own = torch.log_softmax(self._logits([*prompt, *answer[:-1]], last=len(answer)), dim=-1)
            wanted = torch.tensor(answer)
            given = own.gather(1, wanted[:, None])[:, 0]
            weighed.append(AnswerLogProbs(tuple(given.tolist()), tuple((own.argmax(-1) == wanted).tolist())))
        return weighed

    def distributions(self, text: str, tokens: int) -> "tuple[list[int], torch.Tensor]":
        """The first `tokens` token ids of `text`, and float32 natural log-probabilities (ids - 1, vocabulary)."""
        import torch

        ids = self.tokens.text_ids(text, tokens)
        return ids, torch.log_softmax(self._logits(ids[:-1], last=len(ids) - 1), dim=-1)

    def _answer(self, prompt: Messages, sampling: Sampling) -> Completion:
        began = time.perf_counter()
        try:
            room = self.tokens.room(sampling)
            ids = self.tokens.prompt_ids(prompt)
        except BadInput as wrong:
            return Completion("", (time.perf_counter() - began) * 1000, error=wrong.message)
        drawn = self._draw(ids[-room:], sampling, began)
        return self.tokens.completion(drawn, len(ids), room, sampling.stop)

    def _draw(self, ids: list[int], sampling: Sampling, began: float) -> Drawn:
        luck = luck_of([ids], sampling)
        held = Held(self.tokens.tokenizer, sampling.constraint, 1, self._ends)
        drawn: list[int] = []
        total = ttft = 0.0
        ended = False
        for step in range(sampling.max_tokens):
            logits = held.allowed(self._logits([*ids, *drawn], last=1), [0])
            token = int(choose(logits, sampling, luck[:, step] if luck is not None else None)[0])
            total += float(logits[0, token] - logits[0].logsumexp(-1))
            drawn.append(token)
            held.took(0, token)
            ttft = ttft or (time.perf_counter() - began) * 1000
            ended = token in self._ends or held.complete(0) or self.tokens.holds(drawn, sampling.stop)
            if ended:
                break
        latency = (time.perf_counter() - began) * 1000
        return Drawn(tuple(drawn), ttft, latency, total / len(drawn), "stop" if ended else "length")

    def _logits(self, ids: list[int], last: int) -> "torch.Tensor":
        known = shared_length([ids, self._held], most=min(len(self._held), len(ids) - last))
        self._held = []  # should the engine fail half-way, nothing is taken as known
        logits = self._read(known, ids[known:], last)
        self._held = ids
        return logits
