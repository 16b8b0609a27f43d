"""A model directory run in this process with transformers, on the CPU."""

import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, ClassVar

from pydantic import Field
from pydantic.dataclasses import dataclass

from driftline.errors import BadInput
from driftline.protocols import AnswerLogProbs, Completion, Messages, Sampling
from variants.loading import load_model, load_tokenizer, resident_bytes
from variants.lookup import versions
from variants.method import STRICT
from variants.runners.chat_tokens import Chat, ChatTokens, Drawn
from variants.runners.decoding import draw, passes, weigh
from variants.runners.local_model import LocalModel
from variants.runners.prefix import Reader

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


@dataclass(frozen=True, config=STRICT)
class TransformersRunner:
    """Answers in batches of `batch_size` prompts, in the order given.

    So `generate(a + b)` gives what `generate(a)` and `generate(b)` give when `a` fills its batches: a replay can
    be resumed at a multiple of `batch_size` without an answer changing. (In bf16 and with dynamic int8, answers do
    depend on who shares a batch.)

    `chat` "template" needs the tokenizer's chat template, "plain" joins the messages' contents by newlines, "auto"
    takes the template where there is one. A prompt longer than `max_prompt_tokens` (the model's context less the
    answer, where not given) loses its beginning, and its `finish_reason` says so: "stop, prompt truncated".

    What all prompts of a batch begin with (a system message, examples) is read once; with `prefix_cache`, so many of
    these beginnings are kept from batch to batch, and read only once as long as they are used.
    """

    batch_size: Annotated[int, Field(ge=1, le=1024)] = 8
    max_prompt_tokens: Annotated[int, Field(ge=1)] | None = None
    chat: Chat = "auto"
    prefix_cache: Annotated[int, Field(ge=0, le=64)] = 0
    takes: ClassVar[str | None] = "hf"

    def open(self, source: LocalModel | None, threads: int | None) -> "TransformersGenerate":
        """The model loaded and ready."""
        if source is None:
            raise BadInput("The transformers runner needs a model directory.")
        tokenizer = load_tokenizer(source.directory)
        model = load_model(source.directory)
        for step in source.runtime:
            model = step.apply(model)
        model.train(False)
        return TransformersGenerate(model, tokenizer, self, source, threads)


class TransformersGenerate:
    """Generate and LogProbs over one loaded model.

    Times of a Completion: `ttft_ms` and `latency_ms` run from the moment its batch was taken up (tokenizing
    included) to its own first and last token: what a caller waits who shares the machine with the rest of the batch.
    """

    def __init__(
        self,
        model: "PreTrainedModel",
        tokenizer: "PreTrainedTokenizerBase",
        config: TransformersRunner,
        source: LocalModel,
        threads: int | None,
    ) -> None:
        self.model = model
        self._config, self._source, self._threads = config, source, threads
        context = int(getattr(model.config.get_text_config(), "max_position_embeddings", 0) or 1 << 30)
        self.tokens = ChatTokens(tokenizer, config.chat, context, config.max_prompt_tokens)
        ends = model.generation_config.eos_token_id if model.generation_config else None
        ends = tokenizer.eos_token_id if ends is None else ends
        self._reader = Reader(config.prefix_cache)
        self.ends = frozenset(ends if isinstance(ends, list) else [ends])

    @property
    def fingerprint(self) -> str:
        """sha256 of weights, configs and tokenizer files, recipes, runner config, number type and versions."""
        run_by = {"dtype": str(self.model.dtype), "chat": self._config.chat, "batch_size": self._config.batch_size}
        run_by["max_prompt_tokens"] = self._config.max_prompt_tokens
        return self._source.fingerprint({**run_by, **versions("torch", "transformers", "torchao")})

    def generate(self, prompts: Sequence[Messages], sampling: Sampling) -> list[Completion]:
        """One Completion per prompt, in order; `output_tokens` includes the end token."""
        self._set_threads()
        answers: list[Completion] = []
        for first in range(0, len(prompts), self._config.batch_size):
            answers += self._batch(prompts[first : first + self._config.batch_size], sampling)
        return answers

    def log_probs(self, pairs: Sequence[tuple[Messages, str]]) -> list[AnswerLogProbs]:
        """One AnswerLogProbs per (prompt, answer), in order; the answer's own tokens only, no end token.

        Prompt and answer are tokenized apart and joined, as when the model itself had drawn the answer.

        Raises:
            BadInput: A prompt that cannot be put into the chat template, or an answer beyond the context.
        """
        self._set_threads()
        vocabulary = int(self.model.config.get_text_config().vocab_size)
        weighed: list[AnswerLogProbs] = []
        for first in range(0, len(pairs), self._config.batch_size):
            batch = [self.tokens.pair_ids(*pair) for pair in pairs[first : first + self._config.batch_size]]
            for part in passes([len(answer) for _, answer in batch], vocabulary):
                weighed += weigh(self.model, batch[part], self._reader)
        return weighed

    @property
    def bytes_in_memory(self) -> int:
        """Size of the weights as they lie in memory."""
        return resident_bytes(self.model)

    def distributions(self, text: str, tokens: int) -> "tuple[list[int], torch.Tensor]":
        """The first `tokens` token ids of `text`, and float32 natural log-probabilities (ids - 1, vocabulary)."""
        import torch

        self._set_threads()
        ids = self.tokens.text_ids(text, tokens)
        with torch.inference_mode():
            logits = self.model(input_ids=torch.tensor([ids]), use_cache=False).logits[0, :-1]
            return ids, torch.log_softmax(logits.float(), dim=-1)

    def counts(self) -> Mapping[str, float]:
        """What steps of the model count (early exits), and tokens of prompts read and found in the prefix cache."""
        return {**getattr(self.model, "counts", {}), **self._reader.prefixes.counted}

    def answer_one(
        self, prompt: Messages, sampling: Sampling, draw_one: Callable[[list[int], Sampling, float], Drawn]
    ) -> Completion:
        """One answer, drawn by another way than this runner's batches (as with a draft)."""
        self._set_threads()
        began = time.perf_counter()
        try:
            room, ids = self.tokens.room(sampling), self.tokens.prompt_ids(prompt)
        except BadInput as wrong:
            return Completion("", (time.perf_counter() - began) * 1000, error=wrong.message)
        return self.tokens.completion(draw_one(ids[-room:], sampling, began), len(ids), room, sampling.stop)

    def _batch(self, prompts: Sequence[Messages], sampling: Sampling) -> list[Completion]:
        began = time.perf_counter()
        answers: dict[int, Completion] = {}
        asked: dict[int, list[int]] = {}
        for place, prompt in enumerate(prompts):
            try:
                room = self.tokens.room(sampling)
                asked[place] = self.tokens.prompt_ids(prompt)
            except BadInput as wrong:
                answers[place] = Completion("", (time.perf_counter() - began) * 1000, error=wrong.message)
        if asked:
            ids = [prompt[-room:] for prompt in asked.values()]
            drawn = draw(self.model, ids, sampling, self.ends, self.tokens, began, self._reader)
            for (place, whole), one in zip(asked.items(), drawn, strict=True):
                answers[place] = self.tokens.completion(one, len(whole), room, sampling.stop)
        return [answers[place] for place in range(len(prompts))]

    def _set_threads(self) -> None:
        if self._threads is not None:
            import torch

            torch.set_num_threads(self._threads)
