"""A GGUF file run in this process by llama.cpp: quantized kernels that are fast on CPUs."""

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from pydantic import Field
from pydantic.dataclasses import dataclass

from driftline.errors import BadInput
from driftline.protocols import AnswerLogProbs, Completion, Messages, Sampling
from variants.loading import load_tokenizer, quietly
from variants.lookup import need, versions
from variants.method import STRICT
from variants.runners.chat_tokens import Chat, ChatTokens, Drawn
from variants.runners.decoding import choose, luck_of
from variants.runners.local_model import LocalModel
from variants.runners.prefix import shared_length

if TYPE_CHECKING:
    import torch

FILE = "model.gguf"


@dataclass(frozen=True, config=STRICT)
class LlamaCppRunner:
    """Answers one prompt after the other, reading again only what differs from the prompt before.

    `context` tokens hold prompt and answer. Prompts are put together and split into tokens as by the transformers
    runner, with the tokenizer that lies beside the GGUF file, so that only the arithmetic differs. The package's
    installation compiles llama.cpp (several minutes).
    """

    context: Annotated[int, Field(ge=16)] = 2048
    max_prompt_tokens: Annotated[int, Field(ge=1)] | None = None
    chat: Chat = "auto"
    takes: ClassVar[str | None] = "gguf"

    def open(self, source: LocalModel | None, threads: int | None) -> "LlamaCppGenerate":
        """The file mapped into memory and ready."""
        need("llama-cpp-python", "The llama_cpp runner", "pip install llama-cpp-python==0.3.36", module="llama_cpp")
        if source is None or not (source.directory / FILE).is_file():
            raise BadInput(f"The llama_cpp runner needs a directory with {FILE}, as the method gguf makes it.")
        tokenizer = load_tokenizer(source.directory)
        with quietly():
            import llama_cpp

            try:
                model = llama_cpp.Llama(
                    str(source.directory / FILE),
                    n_ctx=self.context,
                    n_threads=threads,
                    n_threads_batch=threads,
                    verbose=False,
                )
            except (ValueError, RuntimeError) as wrong:
                raise BadInput(f"llama.cpp cannot load {source.directory / FILE}: {wrong}") from wrong
        context = min(self.context, model.n_ctx())
        return LlamaCppGenerate(model, ChatTokens(tokenizer, self.chat, context, self.max_prompt_tokens), self, source)


class LlamaCppGenerate:
    """Generate and LogProbs over one GGUF file. Times run from when the prompt was taken up, one at a time."""

    def __init__(self, model: Any, tokens: ChatTokens, config: LlamaCppRunner, source: LocalModel) -> None:
        self.tokens = tokens
        self._model, self._config, self._source = model, config, source
        self._read: list[int] = []  # the tokens whose keys and values the context holds
        self._ends = frozenset({tokens.tokenizer.eos_token_id, model.token_eos()})

    @property
    def fingerprint(self) -> str:
        """sha256 of the file, tokenizer, recipes, runner config and versions."""
        run_by = {"runner": "llama_cpp", "context": self._config.context, "chat": self._config.chat}
        run_by["max_prompt_tokens"] = self._config.max_prompt_tokens
        return self._source.fingerprint({**run_by, **versions("llama-cpp-python", "transformers")})

    @property
    def bytes_in_memory(self) -> int:
        """Size of the weights: the file is mapped as it is."""
        return (self._source.directory / FILE).stat().st_size

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
        drawn: list[int] = []
        total = ttft = 0.0
        ended = False
        for step in range(sampling.max_tokens):
            logits = self._logits([*ids, *drawn], last=1)
            token = int(choose(logits, sampling, luck[:, step] if luck is not None else None)[0])
            total += float(logits[0, token] - logits[0].logsumexp(-1))
            drawn.append(token)
            ttft = ttft or (time.perf_counter() - began) * 1000
            ended = token in self._ends or self.tokens.holds(drawn, sampling.stop)
            if ended:
                break
        latency = (time.perf_counter() - began) * 1000
        return Drawn(tuple(drawn), ttft, latency, total / len(drawn), "stop" if ended else "length")

    def _logits(self, ids: list[int], last: int) -> "torch.Tensor":
        """float32 logits (last, vocabulary) after each of the `last` last of `ids`, reading only what is new."""
        import llama_cpp
        import numpy as np
        import torch

        model = self._model
        known = shared_length([ids, self._read], most=min(len(self._read), len(ids) - last))
        model._ctx.kv_cache_seq_rm(-1, known, -1)
        rows = []
        for first in range(known, len(ids), model.n_batch):
            part = ids[first : first + model.n_batch]
            model._batch.set_batch(batch=part, n_past=first, logits_all=True)
            model._ctx.decode(model._batch)
            wanted = max(0, first + len(part) - (len(ids) - last))
            for place in range(max(0, len(part) - wanted), len(part)):
                pointer = llama_cpp.llama_get_logits_ith(model._ctx.ctx, place)
                rows.append(np.ctypeslib.as_array(pointer, (model.n_vocab(),)).copy())
        self._read = list(ids)
        return torch.from_numpy(np.stack(rows[-last:]))
