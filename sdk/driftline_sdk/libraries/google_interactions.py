"""Google GenAI's interactions: `client.interactions.create` and its stream, also of `client.aio`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from driftline_sdk.calls import Question, watch_method
from driftline_sdk.faults import quietly
from driftline_sdk.generation import Generation

_MARK = "_driftline_watched"


def watch(client: Any) -> None:
    """Watches the interactions of one side of a client, once they are used: making them takes the library a second."""
    kind = type(client)
    if not hasattr(kind, "interactions") or getattr(kind, _MARK, False):
        return

    def interactions(self: Any) -> Any:
        made = kind.interactions.__get__(self)
        quietly(lambda: watch_method(made, "create", ask), "watching interactions")
        return made

    # A property is found in the class only, so this one object gets a class of its own.
    own = {"interactions": property(interactions), "__module__": kind.__module__, _MARK: True}
    client.__class__ = type(kind.__name__, (kind,), own)


def ask(_: tuple[Any, ...], kwargs: dict[str, Any]) -> Question:
    """The question of an interaction; the system instruction comes first, as the system's message."""
    body = kwargs.get("request")
    body = {**body, **kwargs} if isinstance(body, Mapping) else kwargs
    asked = body.get("input")
    system = body.get("system_instruction")
    if system:
        rest = [{"role": "user", "content": asked}] if isinstance(asked, str) else list(asked or ())
        asked = [{"role": "system", "content": system}, *rest]
    return Question(asked, body.get("model"), answered, streamed)


def answered(generation: Generation, answer: Any) -> None:
    """Reads an interaction: the texts of its answers, thoughts left out, and its function calls."""
    generation.model = getattr(answer, "model", None) or generation.model
    texts = []
    generation.calls = None
    for step in getattr(answer, "steps", None) or ():
        if step.type == "model_output":
            texts += [part.text for part in step.content or () if part.type == "text"]
        elif step.type == "function_call":
            generation.tool_call(step.name, step.arguments)
    generation.output = "".join(texts)
    _end(generation, answer)


def streamed(generation: Generation, event: Any) -> None:
    """Reads one event of a streamed interaction."""
    kind = event.event_type
    if kind == "step.delta":
        if event.delta.type == "text":
            generation.piece(event.delta.text)
        elif event.delta.type == "arguments_delta":
            generation.tool_call("", event.delta.arguments or "", event.index)
    elif kind == "step.start" and event.step.type == "function_call":
        generation.first_token()
        generation.tool_call(event.step.name, event.step.arguments or "", event.index)
    elif kind == "interaction.completed":
        generation.model = getattr(event.interaction, "model", None) or generation.model
        generation.status = "ok"
        _end(generation, event.interaction)
    elif kind == "error":
        generation.error = str(getattr(event.error, "message", None) or event.error)
        generation.status = "error"


def _end(generation: Generation, answer: Any) -> None:
    if getattr(answer, "status", None) == "failed":
        generation.error = "; ".join(str(one.message) for one in getattr(answer, "errors", None) or ()) or "failed"
        generation.status = "error"
    usage = getattr(answer, "usage", None)
    if usage is not None:
        written, thought = usage.total_output_tokens, usage.total_thought_tokens
        if thought is not None:
            written = (written or 0) + thought
        generation.usage(usage.total_input_tokens, written)
