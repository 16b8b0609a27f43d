"""From messages to token ids and from drawn ids to an answer, the same for every runner of a local model."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from driftline.errors import BadInput
from driftline.protocols import Completion, Messages, Sampling

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

Chat = Literal["auto", "template", "plain"]


@dataclass(frozen=True)
class Drawn:
    """One drawn answer. `ids` include the end token where one was drawn; times are ms since its batch began."""

    ids: tuple[int, ...]
    ttft_ms: float
    latency_ms: float
    mean_logprob: float
    finish_reason: str


class ChatTokens:
    """A tokenizer with its chat template, and a context of `context` tokens that prompt and answer share."""

    def __init__(
        self, tokenizer: "PreTrainedTokenizerBase", chat: Chat, context: int, max_prompt_tokens: int | None
    ) -> None:
        if chat == "template" and not tokenizer.chat_template:
            raise BadInput("The tokenizer has no chat template. Use chat='plain'.")
        self.tokenizer, self.context = tokenizer, context
        self._templated = bool(tokenizer.chat_template) and chat != "plain"
        self._most = max_prompt_tokens or context

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
        except (TemplateError, TypeError, ValueError) as wrong:
            raise BadInput(f"The prompt does not fit the chat template: {wrong}") from wrong
        if not ids:
            raise BadInput("The prompt is empty.")
        return ids

    def pair_ids(self, messages: Messages, answer: str) -> tuple[list[int], list[int]]:
        """Ids of a prompt and of an answer to it, tokenized apart; a prompt that is too long keeps its end.

        Raises:
            BadInput: As `prompt_ids`, or the answer alone does not fit the context.
        """
        ids: list[int] = self.tokenizer(answer, add_special_tokens=False)["input_ids"]
        room = min(self.context - len(ids), self._most)
        if room < 1:
            raise BadInput(f"An answer of {len(ids)} tokens does not fit the context of {self.context}.")
        return self.prompt_ids(messages)[-room:], ids

    def text_ids(self, text: str, tokens: int) -> list[int]:
        """The first `tokens` ids of a bare text, at most as many as the context holds."""
        ids: list[int] = self.tokenizer(text, add_special_tokens=False)["input_ids"]
        return ids[: min(tokens, self.context)]

    def room(self, sampling: Sampling) -> int:
        """How many prompt tokens leave space for the answer.

        Raises:
            BadInput: None do, or no answer is wanted.
        """
        room = min(self.context - sampling.max_tokens, self._most)
        if sampling.max_tokens < 1 or room < 1:
            raise BadInput(f"max_tokens is {sampling.max_tokens}; the context is {self.context} tokens.")
        return room

    def completion(self, drawn: Drawn, prompt_tokens: int, room: int, stop: tuple[str, ...]) -> Completion:
        """What a caller sees of `drawn`; `finish_reason` tells when the prompt lost its beginning."""
        text = str(self.tokenizer.decode(list(drawn.ids), skip_special_tokens=True))
        cuts = [text.index(mark) for mark in stop if mark in text]
        return Completion(
            text=text[: min(cuts)] if cuts else text,
            latency_ms=drawn.latency_ms,
            ttft_ms=drawn.ttft_ms,
            input_tokens=min(prompt_tokens, room),
            output_tokens=len(drawn.ids),
            mean_logprob=drawn.mean_logprob,
            finish_reason=drawn.finish_reason + (", prompt truncated" if prompt_tokens > room else ""),
        )

    def holds(self, ids: Sequence[int], stop: tuple[str, ...]) -> bool:
        """Whether drawn `ids` hold one of the texts in `stop`."""
        if not stop:
            return False
        text = str(self.tokenizer.decode(list(ids), skip_special_tokens=True))
        return any(mark in text for mark in stop)
