"""Prompts and answers as attributes and events carry them, whatever shape that is."""

from collections.abc import Iterable
from typing import Any, Literal

import msgspec
from msgspec import Struct

from collector import conventions
from collector.messages import Message, messages_of, speaks, text_of

Attributes = dict[str, Any]

_DECODE = msgspec.json.Decoder()


class Event(Struct):
    """Something that happened during a span; `at` in nanoseconds since the epoch."""

    at: int
    name: str
    attributes: Attributes


def content_of(best: Attributes, loose: Attributes, events: list[Event]) -> tuple[list[Message], str | None]:
    """The prompt and the answer of a span, by what its attributes say best; None where no answer is told."""
    flattened = _flattened(loose) if loose else _NONE_FLATTENED
    if "events" in best:
        events = [*events, *_listed(opened(best["events"]))]
    asked, answered = _told(events) if events else ([], [])
    prompt = flattened["input"] or _plain(best.get("input")) or asked_of(opened(best.get("input"))) or asked
    if "system" in best:
        prompt = [{"role": "system", "content": text_of(opened(best["system"]))}, *prompt]
    if flattened["output"]:
        return prompt, "\n".join(m["content"] for m in flattened["output"])
    plain = _plain(best.get("output"))
    if plain:
        return prompt, "\n".join([m["content"] for m in plain if m["content"]])
    if "answer" in best or "called" in best:
        called = text_of(opened(best.get("called")))
        return prompt, "\n".join(filter(None, (text_of(best.get("answer")), called)))
    told = opened(best.get("output"))
    if told:
        return prompt, answer_of(told)
    return prompt, "\n".join(answered) if answered else None


class _TextPart(Struct, forbid_unknown_fields=True):
    type: Literal["text"]
    content: str


class _TextMessage(Struct, forbid_unknown_fields=True):
    role: str
    parts: list[_TextPart]
    finish_reason: str | None = None


_TEXT_MESSAGES = msgspec.json.Decoder(list[_TextMessage])


def _plain(value: Any) -> list[Message] | None:
    # Messages of nothing but text in OpenTelemetry's own form, which most are; None where there is more to it.
    if type(value) is not str or not value.startswith('[{"role":'):
        return None
    try:
        messages = _TEXT_MESSAGES.decode(value)
    except (msgspec.DecodeError, RecursionError):
        return None
    return [{"role": m.role[:64] or "user", "content": _joined(m.parts)} for m in messages]


def _joined(parts: list[_TextPart]) -> str:
    return parts[0].content if len(parts) == 1 else "\n".join([part.content for part in parts if part.content])


def opened(value: Any) -> Any:
    """The value of a JSON text, any other value as it is."""
    if isinstance(value, str) and value[:1] in ("[", "{", '"'):
        try:
            return _DECODE.decode(value)
        except (msgspec.DecodeError, RecursionError):
            return value
    return value


def asked_of(value: Any) -> list[Message]:
    """The messages of a prompt, or of a whole request, which some put where the prompt belongs."""
    if isinstance(value, dict) and "role" not in value:
        for name in ("messages", "contents", "prompt", "input", "query", "question"):
            if value.get(name):
                messages = messages_of(value[name])
                system = _instructions(value)
                return messages if system is None else [{"role": "system", "content": system}, *messages]
    return messages_of(value)


def _instructions(request: dict[str, Any]) -> str | None:
    config = request.get("config")
    for place in (request, config if isinstance(config, dict) else {}):
        for name in ("instructions", "system", "system_instruction", "systemInstruction"):
            if place.get(name):
                return text_of(place[name])
    return None


_ANSWERS = ("choices", "candidates", "generations", "message", "output")


def answer_of(value: Any) -> str:
    """The readable text of an answer: a message, several, or a provider's whole response."""
    if isinstance(value, list):
        return answer_of(value[0]) if len(value) == 1 else "\n".join(filter(None, map(answer_of, value)))
    if isinstance(value, dict):
        if "tool_calls" in value or speaks(value):
            return "\n".join(m["content"] for m in messages_of(value))
        for name in _ANSWERS:
            if isinstance(value.get(name), dict | list):
                return answer_of(value[name])
    return text_of(value)


_NONE_FLATTENED: dict[str, list[Message]] = {"input": [], "output": []}


def _flattened(loose: Attributes) -> dict[str, list[Message]]:
    found: dict[str, dict[int, Attributes]] = {"input": {}, "output": {}}
    for name, value in loose.items():
        for prefix, side in conventions.FLATTENED.items():
            if name.startswith(prefix):
                index, _, path = name[len(prefix) :].partition(".")
                place = _place(index)
                if place is not None:
                    found[side].setdefault(place, {})[path.removeprefix("message.")] = value
    return {side: [_rebuilt(paths, side) for _, paths in sorted(items.items())] for side, items in found.items()}


def _place(index: str) -> int | None:
    # Of an item in a flattened list; None where an attribute names one that no list has.
    place = int(index) if index.isdecimal() and len(index) < 5 else conventions.MAX_INDEX
    return place if place < conventions.MAX_INDEX else None


def _rebuilt(paths: Attributes, side: str) -> Message:
    lists: dict[str, dict[int, Attributes]] = {"contents": {}, "tool_calls": {}}
    for path, value in paths.items():
        name, _, rest = path.partition(".")
        if name in lists:
            index, _, leaf = rest.partition(".")
            place = _place(index)
            if place is not None:
                lists[name].setdefault(place, {})[leaf.rpartition(".")[2]] = value
        elif name == "function_call":
            lists["tool_calls"].setdefault(0, {})[rest] = value
    message = {
        "role": paths.get("role") or ("user" if side == "input" else "assistant"),
        "content": _parts(paths.get("content")) or [lists["contents"][k] for k in sorted(lists["contents"])],
        "tool_calls": [lists["tool_calls"][k] for k in sorted(lists["tool_calls"])],
    }
    return messages_of(message)[0]


def _parts(content: Any) -> Any:
    # Parts as a JSON text are opened. Any other JSON is what somebody said, as a model that was asked for JSON does.
    if isinstance(content, str) and content[:1] == "[":
        found = opened(content)
        if isinstance(found, list) and found and all(isinstance(part, dict) for part in found):
            return found
    return content


def _listed(value: Any) -> Iterable[Event]:
    # Message events that are listed in an attribute.
    known = [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []
    for place, item in enumerate(known):
        name = str(item.get("event.name"))
        if name in conventions.MESSAGE_EVENTS:
            answers = name == "gen_ai.assistant.message" and place == len(known) - 1  # nothing was asked after it
            yield Event(0, "gen_ai.choice" if answers else name, item)


def _told(events: list[Event]) -> tuple[list[Message], list[str]]:
    asked: list[Message] = []
    answered: list[str] = []
    for event in events:
        if event.name in conventions.MESSAGE_EVENTS:
            message = message_of(event.name, event.attributes)
            if conventions.MESSAGE_EVENTS[event.name] is None:
                answered.append(message["content"])
            else:
                asked.append(message)
    return asked, answered


def message_of(name: str, body: Any) -> Message:
    """The message that an event carries, its body or attributes handed in."""
    role = conventions.MESSAGE_EVENTS[name] or "assistant"
    if isinstance(body, dict) and "gen_ai.event.content" in body:  # Azure's and Semantic Kernel's
        body = opened(body["gen_ai.event.content"])
    if not isinstance(body, dict):
        return {"role": role, "content": text_of(body)}
    inner = opened(body.get("message", body))
    if not isinstance(inner, dict):
        return {"role": role, "content": text_of(inner)}
    shaped = {"role": inner.get("role") or role, "content": _parts(inner.get("content", inner.get("text")))}
    return messages_of(shaped | {"tool_calls": opened(inner.get("tool_calls"))})[0]
