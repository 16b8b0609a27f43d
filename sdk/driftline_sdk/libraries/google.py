"""Google GenAI: `models.generate_content` and its stream, also by chats, synchronous and asynchronous; interactions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from driftline_sdk.calls import Question, watch_method
from driftline_sdk.generation import Generation
from driftline_sdk.libraries import google_interactions


def watch(client: Any) -> Any:
    """Watches a google.genai.Client, its `aio` side, the chats it makes and its interactions."""
    for models in (client.models, client.aio.models):
        for name in ("generate_content", "generate_content_stream"):
            watch_method(models, name, ask)
    for side in (client, client.aio):
        google_interactions.watch(side)
    return client


def ask(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Question:
    """The question of a content; the system instruction comes first, as the system's message."""
    asked = kwargs.get("contents")
    config = kwargs.get("config")
    system = config.get("system_instruction") if isinstance(config, Mapping) else _one(config, "system_instruction")
    if system or not isinstance(asked, str):
        parts = asked if isinstance(asked, (list, tuple)) else [asked]
        first = [{"role": "system", "content": _said(system)}] if system else []
        asked = [*first, *({"role": _role(part), "content": _said(part)} for part in parts)]
    return Question(asked, kwargs.get("model"), answered, streamed)


def answered(generation: Generation, answer: Any) -> None:
    """Reads a whole answer: the texts of its first candidate, thoughts left out, and its function calls."""
    parts = _parts(answer)
    generation.output = "".join(part.text for part in parts if _one(part, "text") and not _one(part, "thought"))
    for part in parts:
        _call(generation, part)
    _tokens(generation, answer)


def streamed(generation: Generation, chunk: Any) -> None:
    """Reads one chunk."""
    for part in _parts(chunk):
        if _one(part, "text") and not _one(part, "thought"):
            generation.piece(part.text)
        elif _call(generation, part):
            generation.first_token()
    _tokens(generation, chunk)
    candidates = _one(chunk, "candidates")
    if candidates and _one(candidates[0], "finish_reason", "finishReason"):
        generation.status = "ok"


def _parts(answer: Any) -> Any:
    candidates = _one(answer, "candidates")
    content = _one(candidates[0], "content") if candidates else None
    return _one(content, "parts") or ()


def _call(generation: Generation, part: Any) -> bool:
    call = _one(part, "function_call", "functionCall")
    if call is None:
        return False
    generation.tool_call(_one(call, "name") or "", _one(call, "args") or {})
    return True


def _tokens(generation: Generation, answer: Any) -> None:
    generation.model = _one(answer, "model_version", "modelVersion") or generation.model
    usage = _one(answer, "usage_metadata", "usageMetadata")
    if usage is not None:
        written = _one(usage, "candidates_token_count", "candidatesTokenCount")
        thought = _one(usage, "thoughts_token_count", "thoughtsTokenCount")  # written too, and paid for
        if thought is not None:
            written = (written or 0) + thought
        generation.usage(_one(usage, "prompt_token_count", "promptTokenCount"), written)


def _one(owner: Any, *names: str) -> Any:
    """The first of these attributes that is there: the library's spelling, or the wire's."""
    for name in names:
        value = getattr(owner, name, None)
        if value is not None:
            return value
    return None


def _role(part: Any) -> str:
    return str((part.get("role") if isinstance(part, Mapping) else _one(part, "role")) or "user")


def _said(part: Any) -> Any:
    """A text, or the parts as they are, without the objects around them."""
    parts = part.get("parts") if isinstance(part, Mapping) else _one(part, "parts")
    if parts is None:
        return part if isinstance(part, (str, Mapping)) else _one(part, "text") or part
    texts: list[Any] = [one.get("text") if isinstance(one, Mapping) else _one(one, "text") for one in parts]
    return "\n".join(texts) if all(isinstance(text, str) for text in texts) else list(parts)
