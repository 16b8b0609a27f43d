"""LangChain: a callback handler for chat models and completion models."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from driftline_sdk.calls import taker
from driftline_sdk.faults import quietly
from driftline_sdk.generation import Generation

_ROLES = {"human": "user", "ai": "assistant", "AIMessageChunk": "assistant"}


def watch(model: Any) -> Any:
    """Watches a model by adding the handler to its callbacks.

    A chain or graph has no place for it: what is answered is the chain with the handler bound to it. It can also be
    given to a single call: `config={"callbacks": [handler()]}`.
    """
    if not hasattr(model, "callbacks") and hasattr(model, "with_config"):
        return model.with_config(callbacks=[handler()])
    callbacks: Any = getattr(model, "callbacks", None)
    if hasattr(callbacks, "add_handler"):
        if not any(isinstance(known, Runs) for known in callbacks.handlers):
            callbacks.add_handler(handler(), inherit=True)
    elif not any(isinstance(known, Runs) for known in callbacks or ()):
        model.callbacks = [*(callbacks or ()), handler()]
    return model


def handler() -> Any:
    """A handler that records every call of a model that it hears of."""
    base: Any = import_module("langchain_core.callbacks").BaseCallbackHandler

    class DriftlineHandler(Runs, base):  # type: ignore[misc]
        run_inline = True  # in the caller's task, where the context is

        def __init__(self) -> None:
            Runs.__init__(self)

    return DriftlineHandler()


class Runs:
    """What LangChain tells a handler, kept by run until it ends."""

    def __init__(self) -> None:
        self._open: dict[Any, Generation] = {}

    def on_chat_model_start(self, serialized: Any, messages: Any, *, run_id: Any, **kwargs: Any) -> None:
        """A chat model is asked."""
        quietly(lambda: self._begin(run_id, [_message(one) for one in messages[0]], kwargs), "langchain")

    def on_llm_start(self, serialized: Any, prompts: Any, *, run_id: Any, **kwargs: Any) -> None:
        """A completion model is asked."""
        quietly(lambda: self._begin(run_id, prompts[0], kwargs), "langchain")

    def on_llm_new_token(self, token: Any, *, run_id: Any, chunk: Any = None, **_: Any) -> None:
        """A piece of a streamed answer; the first may be empty and does not count."""
        generation = self._open.get(run_id)
        if generation is None:
            return
        if token and isinstance(token, str):
            generation.piece(token)
        calls = getattr(getattr(chunk, "message", None), "tool_call_chunks", None)
        if calls:
            quietly(lambda: _add_call_pieces(generation, calls), "langchain")

    def on_llm_end(self, response: Any, *, run_id: Any, **_: Any) -> None:
        """The answer is whole."""
        generation = self._open.pop(run_id, None)
        if generation is not None:
            quietly(lambda: _read(generation, response), "langchain")
            generation.end()

    def on_llm_error(self, error: BaseException, *, run_id: Any, **_: Any) -> None:
        """The call failed, or its stream was left."""
        generation = self._open.pop(run_id, None)
        if generation is not None:
            generation.fail(error)

    def _begin(self, run_id: Any, asked: Any, told: dict[str, Any]) -> None:
        outer = taker()
        if outer is None:
            return
        settings = told.get("invocation_params") or {}
        known = told.get("metadata") or {}
        model = settings.get("model") or settings.get("model_name") or known.get("ls_model_name")
        self._open[run_id] = Generation(outer, None, asked, model)


def _message(message: Any) -> dict[str, Any]:
    kind = getattr(message, "type", "user")
    shown = {"role": getattr(message, "role", None) or _ROLES.get(kind, kind), "content": message.content}
    if getattr(message, "tool_calls", None):
        shown["tool_calls"] = message.tool_calls
    return shown


def _add_call_pieces(generation: Generation, pieces: Any) -> None:
    generation.first_token()
    for piece in pieces:
        generation.tool_call(piece.get("name") or "", piece.get("args") or "", piece.get("index"))


def _read(generation: Generation, response: Any) -> None:
    answer = response.generations[0][0]
    message = getattr(answer, "message", None)
    generation.output = answer.text
    if generation.calls is None:
        for call in getattr(message, "tool_calls", None) or ():
            generation.tool_call(call["name"], call["args"])
    told = getattr(message, "response_metadata", None) or {}
    generation.model = told.get("model_name") or told.get("model") or generation.model
    usage = getattr(message, "usage_metadata", None)
    if usage:
        generation.usage(usage["input_tokens"], usage["output_tokens"])
    elif (response.llm_output or {}).get("token_usage"):
        tokens = response.llm_output["token_usage"]
        generation.usage(tokens.get("prompt_tokens"), tokens.get("completion_tokens"))
