"""What OpenAI's API answers, for a local server to say."""

from __future__ import annotations

from typing import Any

CALLED = '[tool call weather({"city": "Ulm"})]'
USAGE = {"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10}
MESSAGES = [{"role": "user", "content": "Hello?"}]


def completion(**message: Any) -> dict[str, Any]:
    choice = {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": None, **message}}
    return {
        "id": "c1",
        "object": "chat.completion",
        "created": 1,
        "model": "gpt-2026-01",
        "choices": [choice],
        "usage": USAGE,
    }


def chunk(delta: dict[str, Any] | None = None, finish: str | None = None, **fields: Any) -> tuple[None, Any]:
    choices = [] if delta is None else [{"index": 0, "delta": delta, "finish_reason": finish}]
    shared = {"id": "c1", "object": "chat.completion.chunk", "created": 1, "model": "gpt-2026-01"}
    return None, {**shared, "choices": choices, **fields}


STREAM: list[Any] = [
    chunk({"role": "assistant", "content": ""}),
    0.05,
    chunk({"content": "Hel"}),
    0.05,
    chunk({"content": "lo!"}),
    chunk({}, "stop"),
    chunk(usage=USAGE),
    (None, "[DONE]"),
]


def response(**fields: Any) -> dict[str, Any]:
    text = {"type": "output_text", "text": "Hello!", "annotations": []}
    message = {"id": "m1", "type": "message", "role": "assistant", "status": "completed", "content": [text]}
    usage = {"input_tokens": 7, "output_tokens": 3, "total_tokens": 10, "input_tokens_details": {"cached_tokens": 0}}
    usage["output_tokens_details"] = {"reasoning_tokens": 0}
    shared = {"id": "r1", "object": "response", "created_at": 1, "model": "gpt-2026-01", "status": "completed"}
    settings = {"parallel_tool_calls": True, "tool_choice": "auto", "tools": []}
    return {**shared, **settings, "output": [message], "usage": usage, **fields}


def called(**fields: Any) -> dict[str, Any]:
    return {"id": "f1", "call_id": "t1", "type": "function_call", "name": "weather", "status": "completed", **fields}
