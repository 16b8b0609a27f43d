"""LiteLLM: the module's completions and responses, or a Router's."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any, Callable

from driftline_sdk.calls import Question, watch_method
from driftline_sdk.libraries import openai

Read = Callable[[Mapping[str, Any]], Question]
FUNCTIONS: dict[str, tuple[Read, tuple[str, ...]]] = {
    "completion": (openai.chat, ("model", "messages")),
    "acompletion": (openai.chat, ("model", "messages")),
    "text_completion": (openai.completions, ("prompt", "model")),
    "atext_completion": (openai.completions, ("prompt", "model")),
    "responses": (openai.responses, ("input", "model")),
    "aresponses": (openai.responses, ("input", "model")),
}


def watch(target: Any) -> Any:
    """Watches the module `litellm` or a `litellm.Router`: completions and responses, awaited or not.

    Answers have OpenAI's shape, streamed or not. A name taken out before (`from litellm import completion`) stays as it
    was: watch first.
    """
    router = not hasattr(target, "__path__")
    for name, (read, places) in FUNCTIONS.items():
        if hasattr(target, name):
            order = ("model", *(place for place in places if place != "model")) if router else places
            watch_method(target, name, functools.partial(ask, read, order))
    return target


def ask(read: Read, places: tuple[str, ...], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Question:
    """The question of a call, its first two arguments by place or by name."""
    return read({**dict(zip(places, args)), **kwargs})
