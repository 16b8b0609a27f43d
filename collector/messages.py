"""Prompts as they are stored: a list of messages with a role and one text, whatever shape they arrived in.

Providers write content as a string, as parts (text, image, tool call) or not at all; a reader wants one string.
"""

from collections.abc import Iterable
from typing import Any

import msgspec

Message = dict[str, str]  # {"role": …, "content": …}

MAX_CHARS = 262_144  # of one prompt and of one answer; what is longer is cut, and says so
MAX_MESSAGES = 1_000
_DEPTH = 8  # how deep parts may nest before they are kept as JSON
_ENCODE = msgspec.json.Encoder()


def is_clean(text: str) -> bool:
    """Whether every database takes the text as it is: no NUL, no lone surrogates."""
    if "\x00" in text:
        return False
    if text.isascii():
        return True
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def clean(text: str) -> str:
    """The text with U+FFFD in the place of what no database takes.

    >>> clean("a\\x00b")
    'a\\ufffdb'
    """
    if is_clean(text):
        return text
    return text.replace("\x00", "\ufffd").encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def shorten(text: str, limit: int = MAX_CHARS) -> str:
    """The text, cut to `limit` characters with a mark that says how many are gone.

    >>> shorten("abcdef", 4)
    'abcd…[2 more characters]'
    """
    return text if len(text) <= limit else f"{text[:limit]}…[{len(text) - limit} more characters]"


# what says who speaks where an item names no role: LangChain's messages, and items of OpenAI's responses
_SPEAKERS = {
    "human": "user", "ai": "assistant", "system": "system", "tool": "tool", "HumanMessage": "user",
    "AIMessage": "assistant", "SystemMessage": "system", "ToolMessage": "tool", "HumanMessageChunk": "user",
    "AIMessageChunk": "assistant", "function_call": "assistant", "custom_tool_call": "assistant",
    "mcp_call": "assistant", "function_call_output": "tool", "custom_tool_call_output": "tool",
}  # fmt: skip
_CALLS = frozenset(
    {"tool_call", "function_call", "custom_tool_call", "mcp_call", "tool_use", "toolUse", "functionCall"}
)
_RESULTS = frozenset({"tool_call_response", "tool_result", "toolResult", "functionResponse", "function_response",
                      "function_call_output", "custom_tool_call_output"})  # fmt: skip
_WRAPPED = ("toolUse", "toolResult", "functionCall", "function_call", "functionResponse", "function_response")
_THOUGHTS = frozenset({"reasoning", "thinking", "redacted_thinking"})  # is no part of what was said


def messages_of(value: Any) -> list[Message]:
    """Messages from a string (one user message), a message, or a list of either."""
    if value is None:
        return []
    if isinstance(value, str):
        return [{"role": "user", "content": value}]
    if isinstance(value, dict):
        return [] if "role" not in value and str(value.get("type")) in _THOUGHTS else [_message(value)]
    if isinstance(value, list):
        if len(value) == 1 and isinstance(value[0], dict) and "role" in value[0]:
            return [_message(value[0])]
        if value and all(map(_is_part, value)):
            return [{"role": "user", "content": text_of(value)}]  # parts without a message around them
        return [m for item in value for m in messages_of(item)]
    return [{"role": "user", "content": text_of(value)}]


def _is_part(item: Any) -> bool:
    return isinstance(item, dict) and "role" not in item and "type" in item and not speaks(item)


def speaks(item: dict[str, Any]) -> bool:
    """Whether a JSON object is a message: names a role, or is one in LangChain's or OpenAI's responses' way."""
    return "role" in item or "lc" in item or (isinstance(kind := item.get("type"), str) and kind in _SPEAKERS)


def _message(value: dict[str, Any]) -> Message:
    role = value.get("role")
    content = value.get("content")
    if type(content) is str and len(value) == 2 and role is not None:  # the common case
        return {"role": role if type(role) is str else "user", "content": content}
    if "lc" in value and isinstance(value.get("kwargs"), dict):  # LangChain's objects as they are serialized
        named = value["id"][-1] if isinstance(value.get("id"), list) and value["id"] else None
        value = {"type": named, **value["kwargs"]}
        content = value.get("content")
    if role is None and isinstance(kind := value.get("type"), str) and kind in _SPEAKERS:
        role = _SPEAKERS[kind]
        content = content if "content" in value else [value]
    body = content if content is not None else value.get("parts", value.get("text"))
    calls = value.get("tool_calls")
    if body is None and role is None and not calls and "content" not in value:
        body = _json(value)  # arguments of a function, say
    text = body if type(body) is str else text_of(body)
    if isinstance(calls, list) and calls:
        text = "\n".join(filter(None, (text, *(_tool_call(call) for call in calls))))
    return {"role": role[:64] if isinstance(role, str) and role else "user", "content": text}


def text_of(value: Any, depth: int = 0) -> str:
    """The readable text of a content: parts are joined by line breaks, what is no text is named in brackets.

    What a model thought before it answered is left out.

    >>> text_of([{"type": "text", "text": "Look:"}, {"type": "image_url", "image_url": {"url": "…"}}])
    'Look:\\n[image_url]'
    """
    if value is None:
        return ""
    if isinstance(value, str):
        return value
    if depth > _DEPTH:
        return _json(value)
    if isinstance(value, dict):
        return _part(value, depth + 1)
    if isinstance(value, list):
        if len(value) == 1:
            return text_of(value[0], depth + 1)
        return "\n".join(filter(None, (text_of(item, depth + 1) for item in value)))
    return _json(value)


def _part(part: dict[str, Any], depth: int) -> str:
    kind = part.get("type")
    if kind == "text":
        text = part.get("text") or part.get("content")
        if type(text) is str:
            return text
    if kind is None:
        for name in _WRAPPED:  # Bedrock's and Gemini's parts are named by their only key
            if isinstance(part.get(name), dict):
                kind, part = name, part[name]
    kind = kind.replace("-", "_") if isinstance(kind, str) else None
    if kind in _THOUGHTS:
        return ""
    if kind in _CALLS or "function" in part or ("toolName" in part and kind not in _RESULTS):
        return _tool_call(part)
    if kind in _RESULTS:
        names = ("result", "response", "output", "content")
        return text_of(next((part[name] for name in names if part.get(name) is not None), None), depth)
    for name in ("text", "content", "refusal"):
        if part.get(name) is not None:
            return text_of(part[name], depth)
    if part.get("value") is not None and (kind is not None or part.keys() <= {"value", "annotations"}):
        return text_of(part["value"], depth)
    if "parts" in part:
        return text_of(part["parts"], depth)
    return f"[{kind[:64]}]" if kind is not None else _json(part)


def _tool_call(call: Any) -> str:
    if not isinstance(call, dict):
        return text_of(call, _DEPTH)
    function = call.get("function")
    inner: dict[str, Any] = function if isinstance(function, dict) else call
    name = inner.get("name") or inner.get("toolName") or ""
    arguments = next((inner[key] for key in ("arguments", "input", "args") if inner.get(key) is not None), "")
    return f"[tool call {name}({arguments if isinstance(arguments, str) else _json(arguments)})]"


def _json(value: Any) -> str:
    try:
        return _ENCODE.encode(value).decode()
    except (TypeError, ValueError, RecursionError):
        return "[unreadable]"


def bounded(messages: list[Message], chars: int) -> list[Message]:
    """The messages, cut to MAX_CHARS in all where they have more `chars`.

    The longest give way first; of more than MAX_MESSAGES the oldest after the first.
    """
    if len(messages) > MAX_MESSAGES:
        gone = len(messages) - MAX_MESSAGES + 2
        note = {"role": "system", "content": f"[{gone} messages left out]"}
        messages = [messages[0], note, *messages[gone + 1 :]]
    if chars <= MAX_CHARS:
        return messages
    limit = _water_line(sorted(len(m["content"]) for m in messages))
    return [{"role": m["role"], "content": shorten(m["content"], limit)} for m in messages]


def _water_line(lengths: list[int]) -> int:
    # The largest limit such that cutting every message to it leaves MAX_CHARS in all (water filling).
    left = MAX_CHARS
    for place, length in enumerate(lengths):
        share = left // (len(lengths) - place)
        if length > share:
            return share
        left -= length
    return MAX_CHARS


def total_chars(messages: Iterable[Message]) -> int:
    """Characters of all contents."""
    return sum(len(m["content"]) for m in messages)
