"""A model directory run in this process with transformers, on the CPU."""

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from pydantic import Field
from pydantic.dataclasses import dataclass

from driftline.errors import BadInput
from driftline.protocols import AnswerLogProbs, Completion, Messages, Sampling
from variants.loading import load_model, load_tokenizer, resident_bytes
from variants.lookup import versions
from variants.method import STRICT
from variants.runners.decoding import Drawn, draw, passes, weigh
from variants.runners.local_model import LocalModel

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
    """

    batch_size: Annotated[int, Field(ge=1, le=1024)] = 8
    max_prompt_tokens: Annotated[int, Field(ge=1)] | None = None
    chat: Literal["auto", "template", "plain"] = "auto"
    takes: ClassVar[str | None] = "hf"

    def open(self, source: LocalModel | None, threads: int | None) -> "TransformersGenerate":
        """The model loaded and ready."""
        if source is None:
            raise BadInput("The transformers runner needs a model directory.")
        tokenizer = load_tokenizer(source.directory)
        if self.chat == "template" and not tokenizer.chat_template:
            raise BadInput(f"The tokenizer in {source.directory} has no chat template. Use chat='plain'.")
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
        self.model, self.tokenizer = model, tokenizer
        self._config, self._source, self._threads = config, source, threads
        self._context = int(getattr(model.config.get_text_config(), "max_position_embeddings", 0) or 1 << 30)
        ends = model.generation_config.eos_token_id if model.generation_config else None
        ends = tokenizer.eos_token_id if ends is None else ends
        self._ends = frozenset(ends if isinstance(ends, list) else [ends])
        self._templated = bool(tokenizer.chat_template) and config.chat != "plain"

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
            batch = [self._pair_ids(*pair) for pair in pairs[first : first + self._config.batch_size]]
            for part in passes([len(answer) for _, answer in batch], vocabulary):
                weighed += weigh(self.model, batch[part])
        return weighed

    @property
    def bytes_in_memory(self) -> int:
        """Size of the weights as they lie in memory."""
        return resident_bytes(self.model)

    def distributions(self, text: str, tokens: int) -> "tuple[list[int], torch.Tensor]":
        """The first `tokens` token ids of `text`, and float32 natural log-probabilities (ids - 1, vocabulary)."""
        import torch

        self._set_threads()
        ids: list[int] = self.tokenizer(text, add_special_tokens=False)["input_ids"][: min(tokens, self._context)]
        with torch.inference_mode():
            logits = self.model(input_ids=torch.tensor([ids]), use_cache=False).logits[0, :-1]
            return ids, torch.log_softmax(logits.float(), dim=-1)

    def prompt_ids(self, messages: Messages) -> list[int]:
        """The token ids that the model is asked with.

        Raises:
            BadInput: No messages, or the chat template refuses them.
        """
        from jinja2 import TemplateError

        try:
            if not messages or not all(isinstance(m["content"], str) and isinstance(m["role"], str) for m in messages):
                raise BadInput("A prompt needs at least one message, each with a role and text as its content.")
            if self._templated:
                text = self.tokenizer.apply_chat_template(
                    [dict(message) for message in messages], tokenize=False, add_generation_prompt=True
                )
                ids: list[int] = self.tokenizer(text, add_special_tokens=False)["input_ids"]
            else:
                ids = self.tokenizer("\n".join(message["content"] for message in messages))["input_ids"]
        except KeyError as missing:
            raise BadInput(f"A message of the prompt has no {missing}.") from missing
        except (TemplateError, TypeError) as wrong:
            raise BadInput(f"The prompt does not fit the chat template: {wrong}") from wrong
        if not ids:
            raise BadInput("The prompt is empty.")
        return ids

    def _pair_ids(self, messages: Messages, answer: str) -> tuple[list[int], list[int]]:
        answer_ids: list[int] = self.tokenizer(answer, add_special_tokens=False)["input_ids"]
        room = self._context - len(answer_ids)
        if room < 1:
            raise BadInput(f"An answer of {len(answer_ids)} tokens does not fit the context of {self._context}.")
        return self.prompt_ids(messages)[-self._room(room) :], answer_ids

    def _room(self, left: int) -> int:
        return min(left, self._config.max_prompt_tokens or left)

    def _batch(self, prompts: Sequence[Messages], sampling: Sampling) -> list[Completion]:
        began = time.perf_counter()
        answers: dict[int, Completion] = {}
        asked: dict[int, list[int]] = {}
        room = self._room(self._context - sampling.max_tokens)
        for place, prompt in enumerate(prompts):
            try:
                if sampling.max_tokens < 1 or room < 1:
                    raise BadInput(f"max_tokens is {sampling.max_tokens}; the context is {self._context} tokens.")
                asked[place] = self.prompt_ids(prompt)
            except BadInput as wrong:
                answers[place] = Completion("", (time.perf_counter() - began) * 1000, error=wrong.message)
        if asked:
            ids = [prompt[-room:] for prompt in asked.values()]
            drawn = draw(self.model, ids, sampling, self._ends, self._stopped(sampling.stop), began)
            for (place, whole), one in zip(asked.items(), drawn, strict=True):
                answers[place] = self._completion(one, len(whole), room, sampling.stop)
        return [answers[place] for place in range(len(prompts))]

    def _completion(self, one: Drawn, prompt_tokens: int, room: int, stop: tuple[str, ...]) -> Completion:
        text = str(self.tokenizer.decode(list(one.ids), skip_special_tokens=True))
        cuts = [text.index(mark) for mark in stop if mark in text]
        reason = one.finish_reason + (", prompt truncated" if prompt_tokens > room else "")
        return Completion(
            text=text[: min(cuts)] if cuts else text,
            latency_ms=one.latency_ms,
            ttft_ms=one.ttft_ms,
            input_tokens=min(prompt_tokens, room),
            output_tokens=len(one.ids),
            mean_logprob=one.mean_logprob,
            finish_reason=reason,
        )

    def _stopped(self, stop: tuple[str, ...]) -> "StopTest":
        return StopTest(self.tokenizer, stop)

    def _set_threads(self) -> None:
        if self._threads is not None:
            import torch

            torch.set_num_threads(self._threads)


class StopTest:
    """Whether drawn token ids hold one of the texts in `stop`."""

    def __init__(self, tokenizer: "PreTrainedTokenizerBase", stop: tuple[str, ...]) -> None:
        self._tokenizer, self._stop = tokenizer, stop

    def __call__(self, ids: list[int]) -> bool:
        if not self._stop:
            return False
        text = self._tokenizer.decode(ids, skip_special_tokens=True)
        return any(mark in text for mark in self._stop)
