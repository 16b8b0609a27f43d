"""OpenAI and Azure OpenAI, synchronous and asynchronous: chat completions, responses, completions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from driftline_sdk.calls import Question
from driftline_sdk.generation import Generation
from driftline_sdk.libraries.stainless import watch_client


def watch(client: Any) -> Any:
    """Watches an OpenAI, AsyncOpenAI, AzureOpenAI or AsyncAzureOpenAI client."""
    return watch_client(client, ENDPOINTS)


def chat(body: Mapping[str, Any]) -> Question:
    """A chat completion's question."""
    return Question(body.get("messages"), body.get("model"), chat_answered, chat_streamed)


def chat_answered(generation: Generation, answer: Any) -> None:
    """Reads a chat completion: the first choice's text, else its refusal, else its tool calls."""
    generation.model = getattr(answer, "model", None) or generation.model
    choice = answer.choices[0].message
    calls = getattr(choice, "tool_calls", None)
    generation.output = (
        getattr(choice, "content", None) or getattr(choice, "refusal", None) or (_calls(calls) if calls else "")
    )
    chat_usage(generation, answer)


def chat_streamed(generation: Generation, chunk: Any) -> None:
    """Reads one chunk; the last one with content says why the answer ends."""
    if getattr(chunk, "usage", None) is not None:
        chat_usage(generation, chunk)
    if not chunk.choices:
        return
    choice = chunk.choices[0]
    if getattr(choice, "index", 0) != 0:
        return
    delta = choice.delta
    text = getattr(delta, "content", None) or getattr(delta, "refusal", None)
    if text:
        generation.model = getattr(chunk, "model", None) or generation.model
        generation.piece(text)
    if getattr(delta, "tool_calls", None):
        generation.first_token()
        _add_call_pieces(generation, delta.tool_calls)
    if getattr(choice, "finish_reason", None):
        generation.status = "ok"
        if generation.scratch is not None and generation.pieces is None:
            generation.output = list(generation.scratch.values())


def chat_usage(generation: Generation, answer: Any) -> None:
    """Reads the tokens of a chat completion or of its last chunk."""
    usage = getattr(answer, "usage", None)
    if usage is not None:
        generation.usage(getattr(usage, "prompt_tokens", None), getattr(usage, "completion_tokens", None))


def responses(body: Mapping[str, Any]) -> Question:
    """A response's question; instructions come first, as the system's message."""
    asked = body.get("input")
    instructions = body.get("instructions")
    if instructions:
        rest = [{"role": "user", "content": asked}] if isinstance(asked, str) else list(asked or ())
        asked = [{"role": "system", "content": instructions}, *rest]
    return Question(asked, body.get("model"), response_answered, response_streamed)


def response_answered(generation: Generation, answer: Any) -> None:
    """Reads a response: its texts joined, else its other items (function calls) as they are."""
    generation.model = answer.model
    texts = [
        part.text
        for item in answer.output
        if item.type == "message"
        for part in item.content
        if part.type == "output_text"
    ]
    generation.output = "".join(texts) if texts else [item for item in answer.output if item.type != "reasoning"]
    if getattr(answer, "usage", None) is not None:
        generation.usage(answer.usage.input_tokens, answer.usage.output_tokens)
    if getattr(answer, "error", None) is not None:
        generation.error = str(answer.error.message)


def response_streamed(generation: Generation, event: Any) -> None:
    """Reads one event of a streamed response."""
    kind = getattr(event, "type", None)
    if kind == "response.output_text.delta":
        generation.piece(event.delta)
    elif kind == "response.function_call_arguments.delta":
        generation.first_token()
    elif kind in ("response.completed", "response.incomplete", "response.failed"):
        response_answered(generation, event.response)
        generation.pieces = None
        generation.status = "error" if kind == "response.failed" else "ok"
    elif kind == "error":
        generation.error = str(event.message)
        generation.status = "error"


def completions(body: Mapping[str, Any]) -> Question:
    """A plain completion's question."""
    return Question(body.get("prompt"), body.get("model"), completion_answered, completion_streamed)


def completion_answered(generation: Generation, answer: Any) -> None:
    """Reads a plain completion."""
    generation.model = getattr(answer, "model", None) or generation.model
    generation.output = answer.choices[0].text
    chat_usage(generation, answer)


def completion_streamed(generation: Generation, chunk: Any) -> None:
    """Reads one chunk of a plain completion."""
    chat_usage(generation, chunk)
    choice = chunk.choices[0] if chunk.choices else None
    if choice is not None and getattr(choice, "index", 0) == 0:
        if choice.text:
            generation.model = getattr(chunk, "model", None) or generation.model
            generation.piece(choice.text)
        if getattr(choice, "finish_reason", None):
            generation.status = "ok"


ENDPOINTS = {"/chat/completions": chat, "/responses": responses, "/completions": completions}


def _calls(calls: Any) -> list[dict[str, Any]]:
    plain = []
    for call in calls:
        function = getattr(call, "function", None) or getattr(call, "custom", call)
        arguments = getattr(function, "arguments", None) or getattr(function, "input", "")
        plain.append({"name": function.name, "arguments": arguments})
    return plain


def _add_call_pieces(generation: Generation, pieces: Any) -> None:
    if generation.scratch is None:
        generation.scratch = {}
    for piece in pieces:
        call = generation.scratch.setdefault(piece.index, {"name": "", "arguments": ""})
        if piece.function is not None:
            call["name"] += getattr(piece.function, "name", None) or ""
            call["arguments"] += getattr(piece.function, "arguments", None) or ""
