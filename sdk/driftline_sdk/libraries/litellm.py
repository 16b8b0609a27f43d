"""LiteLLM: the module's `completion` and `acompletion`, or a Router's."""

from __future__ import annotations

from typing import Any

from driftline_sdk.calls import Question, watch_method
from driftline_sdk.libraries import openai


def watch(target: Any) -> Any:
    """Watches the module `litellm` or a `litellm.Router`.

    Answers have OpenAI's shape, streamed or not. A name taken out before (`from litellm import completion`) stays as it
    was: watch first.
    """
    for name in ("completion", "acompletion"):
        watch_method(target, name, ask)
    return target


def ask(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Question:
    """The question of a completion: `model` and `messages`, by place or by name."""
    model, messages, *_ = (*args, None, None)
    body = {"model": model, "messages": messages, **kwargs}
    return openai.chat(body)
