"""Anthropic, also through Bedrock and Vertex, synchronous and asynchronous: messages."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from driftline_sdk.calls import Question
from driftline_sdk.generation import Generation
from driftline_sdk.libraries.stainless import watch_client


def watch(client: Any) -> Any:
    """Watches an Anthropic client of any kind; `messages.create`, `messages.stream` and their beta forms."""
    return watch_client(client, ENDPOINTS)


def messages(body: Mapping[str, Any]) -> Question:
    """The question of a message; the system prompt comes first, as the system's message."""
    asked = body.get("messages")
    if body.get("system"):
        asked = [{"role": "system", "content": body["system"]}, *(asked or ())]
    return Question(asked, body.get("model"), answered, streamed)


def answered(generation: Generation, answer: Any) -> None:
    """Reads a message: its texts joined, and its tool calls."""
    generation.model = answer.model
    generation.output = "".join(block.text for block in answer.content if block.type == "text")
    for block in answer.content:
        if block.type.endswith("tool_use"):
            generation.tool_call(block.name, block.input)
    usage(generation, answer.usage)


def streamed(generation: Generation, event: Any) -> None:
    """Reads one event of a streamed message."""
    kind = event.type
    if kind == "content_block_delta":
        if event.delta.type == "text_delta":
            generation.piece(event.delta.text)
        elif event.delta.type == "input_json_delta":
            generation.tool_call("", event.delta.partial_json, event.index)
    elif kind == "content_block_start" and event.content_block.type.endswith("tool_use"):
        generation.first_token()
        generation.tool_call(event.content_block.name, "", event.index)
    elif kind == "message_start":
        generation.model = event.message.model
        usage(generation, event.message.usage)
    elif kind == "message_delta":
        usage(generation, event.usage)
    elif kind == "message_stop":
        generation.status = "ok"
    elif kind == "error":
        generation.error = str(event.error.message)
        generation.status = "error"


def usage(generation: Generation, tokens: Any) -> None:
    """Reads tokens; those that came from or went into the cache were read too."""
    read = [getattr(tokens, name, None) for name in _READ]
    if read[0] is not None:
        generation.input_tokens = sum(number for number in read if number)
    if getattr(tokens, "output_tokens", None) is not None:
        generation.output_tokens = tokens.output_tokens


_READ = ("input_tokens", "cache_creation_input_tokens", "cache_read_input_tokens")
ENDPOINTS = {"/v1/messages": messages, "/v1/messages?beta=true": messages}
