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
    """Reads a chat completion: the first choice's text, else its refusal, and its tool calls."""
    generation.model = getattr(answer, "model", None) or generation.model
    choice = answer.choices[0].message
    generation.output = getattr(choice, "content", None) or getattr(choice, "refusal", None) or ""
    made = getattr(choice, "tool_calls", None)
    if made:
        calls(generation, made)
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
        calls(generation, delta.tool_calls)
    if getattr(choice, "finish_reason", None):
        generation.status = "ok"


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
    """Reads a response: its texts joined, or its refusal, and its tool calls."""
    generation.model = answer.model
    texts = []
    generation.calls = None
    for item in answer.output:
        if item.type == "message":
            texts += [getattr(part, "text", None) or getattr(part, "refusal", None) or "" for part in item.content]
        elif item.type in _ARGUMENTS:
            generation.tool_call(item.name, getattr(item, _ARGUMENTS[item.type]))
    generation.output = "".join(texts)
    if getattr(answer, "usage", None) is not None:
        generation.usage(answer.usage.input_tokens, answer.usage.output_tokens)
    if getattr(answer, "error", None) is not None:
        generation.error = str(answer.error.message)


_ARGUMENTS = {"function_call": "arguments", "custom_tool_call": "input", "mcp_call": "arguments"}


def response_streamed(generation: Generation, event: Any) -> None:
    """Reads one event of a streamed response."""
    kind = getattr(event, "type", None)
    if kind in ("response.output_text.delta", "response.refusal.delta"):
        generation.piece(event.delta)
    elif kind in _CALL_PIECES:
        generation.first_token()
        generation.tool_call("", event.delta, event.output_index)
    elif kind == "response.output_item.added" and event.item.type in _ARGUMENTS:
        generation.first_token()
        generation.tool_call(event.item.name, "", event.output_index)
    elif kind in ("response.completed", "response.incomplete", "response.failed"):
        response_answered(generation, event.response)
        generation.pieces = None
        generation.status = "error" if kind == "response.failed" else "ok"
    elif kind == "error":
        generation.error = str(event.message)
        generation.status = "error"


_CALL_PIECES = (
    "response.function_call_arguments.delta",
    "response.custom_tool_call_input.delta",
    "response.mcp_call_arguments.delta",
)


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


def calls(generation: Generation, made: Any) -> None:
    """Reads tool calls, or the pieces of some that a chunk holds."""
    for call in made:
        function = getattr(call, "function", None) or getattr(call, "custom", None)
        if function is not None:
            arguments = getattr(function, "arguments", None) or getattr(function, "input", None) or ""
            generation.tool_call(getattr(function, "name", None) or "", arguments, getattr(call, "index", None))
