"""LlamaIndex: a callback handler for its LLMs."""

from __future__ import annotations

from contextvars import ContextVar
from importlib import import_module
from typing import Any
from weakref import WeakValueDictionary

from driftline_sdk.calls import taker
from driftline_sdk.faults import quietly
from driftline_sdk.generation import Generation
from driftline_sdk.libraries import openai


def watch(target: Any) -> Any:
    """Watches an LLM, or whatever else has a `callback_manager`; a CallbackManager itself will do too."""
    manager = getattr(target, "callback_manager", target)
    if not any(isinstance(known, Events) for known in manager.handlers):
        manager.add_handler(handler())
    quietly(_listen_to_pieces, "llama_index")
    return target


def handler() -> Any:
    """A handler that records every call of an LLM that it hears of."""
    base: Any = import_module("llama_index.core.callbacks.base_handler").BaseCallbackHandler

    class DriftlineHandler(Events, base):  # type: ignore[misc]
        def __init__(self) -> None:
            Events.__init__(self)
            base.__init__(self, event_starts_to_ignore=[], event_ends_to_ignore=[])

    return DriftlineHandler()


class Events:
    """What LlamaIndex tells a handler, kept by event until it ends."""

    def __init__(self) -> None:
        self._open: dict[str, Generation] = {}

    def on_event_start(
        self, event_type: Any, payload: Any = None, event_id: str = "", parent_id: str = "", **_: Any
    ) -> str:
        """An LLM is asked."""
        if getattr(event_type, "value", event_type) == "llm":
            quietly(lambda: self._begin(event_id, payload or {}), "llama_index")
        return event_id

    def on_event_end(self, event_type: Any, payload: Any = None, event_id: str = "", **_: Any) -> None:
        """The answer is whole, or the call failed."""
        generation = self._open.pop(event_id, None)
        if generation is None:
            return
        said = _by_name(payload or {})
        if isinstance(said.get("exception"), BaseException):
            generation.fail(said["exception"])
            return
        quietly(lambda: _read(generation, said), "llama_index")
        generation.end()

    def start_trace(self, trace_id: str | None = None) -> None:
        """Traces are nothing to us."""

    def end_trace(self, trace_id: str | None = None, trace_map: Any = None) -> None:
        """Traces are nothing to us."""

    def _begin(self, event_id: str, payload: Any) -> None:
        outer = taker()
        if outer is None:
            return
        said = _by_name(payload)
        asked = said.get("formatted_prompt")
        if said.get("messages") is not None:
            asked = [_message(message) for message in said["messages"]]
        model = (said.get("serialized") or {}).get("model")
        around = _asking.get()
        if around is not None and around[0].is_open and around[1] in _gist(asked):
            outer = around[0]  # chat() asks complete(), acomplete() asks complete(): one question, told of twice
        self._open[event_id] = generation = Generation(outer, None, asked, model)
        _asking.set((generation, _gist(asked)))
        span_id = import_module("llama_index.core.instrumentation.span").active_span_id.get()
        if span_id is not None:
            _by_span[span_id] = generation


_by_span: WeakValueDictionary[str, Generation] = WeakValueDictionary()


def _listen_to_pieces() -> None:
    """Callbacks tell of a stream when it has ended; its pieces are events of the library's instrumentation."""
    dispatcher: Any = import_module("llama_index.core.instrumentation").get_dispatcher()
    base: Any = import_module("llama_index.core.instrumentation.event_handlers").BaseEventHandler

    class DriftlinePieces(base):  # type: ignore[misc]
        @classmethod
        def class_name(cls) -> str:
            return "DriftlinePieces"

        def handle(self, event: Any, **_: Any) -> None:
            if type(event).__name__.endswith("InProgressEvent"):
                quietly(lambda: _see_piece(event), "llama_index")

    if not any(type(known).__name__ == DriftlinePieces.__name__ for known in dispatcher.event_handlers):
        dispatcher.add_event_handler(DriftlinePieces())


def _see_piece(event: Any) -> None:
    generation = _by_span.get(event.span_id)
    response = getattr(event, "response", None)
    if generation is not None and generation.ttft_ms is None and response is not None:
        message = getattr(response, "message", None)
        if response.delta or (getattr(response, "text", None) if message is None else message.content):
            generation.first_token()


_asking: ContextVar[tuple[Generation, str] | None] = ContextVar("driftline_llama_index", default=None)


def _gist(asked: Any) -> str:
    return str(asked[-1]["content"] if isinstance(asked, list) and asked else asked)


def _by_name(payload: Any) -> dict[str, Any]:
    """The payload by the names of its keys, which are members of an enumeration."""
    return {str(getattr(key, "value", key)): value for key, value in payload.items()}


def _message(message: Any) -> dict[str, Any]:
    return {"role": str(getattr(message.role, "value", message.role)), "content": message.content}


def _read(generation: Generation, said: dict[str, Any]) -> None:
    response = said.get("response")
    completion = said.get("completion")
    if response is not None:
        message = getattr(response, "message", None)
        generation.output = message.content or "" if message is not None else str(response)
        for block in getattr(message, "blocks", None) or ():
            if getattr(block, "block_type", None) == "tool_call":
                generation.tool_call(block.tool_name, block.tool_kwargs)
        if generation.calls is None:
            openai.calls(generation, (getattr(message, "additional_kwargs", None) or {}).get("tool_calls") or ())
    else:
        generation.output = str(completion)
    raw = getattr(response if response is not None else completion, "raw", None)
    usage = raw.get("usage") if isinstance(raw, dict) else getattr(raw, "usage", None)
    if usage is not None:
        generation.usage(*(_either(usage, *names) for names in _TOKENS))


def _either(usage: Any, *names: str) -> Any:
    found = [usage.get(name) if isinstance(usage, dict) else getattr(usage, name, None) for name in names]
    return next((number for number in found if number is not None), None)


_TOKENS = (("prompt_tokens", "input_tokens"), ("completion_tokens", "output_tokens"))
