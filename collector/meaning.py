"""From a span, whatever its convention, to a record."""

from collections.abc import Iterable
from contextlib import suppress
from functools import lru_cache
from typing import Any, Literal, NamedTuple

import msgspec
from msgspec import Struct

from collector import conventions
from collector.messages import Message, messages_of, text_of
from collector.record import BadRecord, Record, Scalar
from driftline.moment import parse

Attributes = dict[str, Any]

_DECODE = msgspec.json.Decoder()
_MAX_TAGS = 64
_MAX_TAG = 256


class Event(Struct):
    """Something that happened during a span; `at` in nanoseconds since the epoch."""

    at: int
    name: str
    attributes: Attributes


class SpanParts(Struct):
    """A span as it was sent, its attributes reduced to those with a meaning; times in nanoseconds since the epoch.

    `loose` are the attributes that are known by the beginning of their name.
    """

    trace_id: str
    span_id: str
    start: int
    end: int
    attributes: Attributes
    loose: Attributes
    events: list[Event]
    failed: bool
    status_message: str


class Told(NamedTuple):
    """What attributes say: the value of each field they give, and tags."""

    best: Attributes
    tags: dict[str, Scalar]


NOTHING_TOLD = Told({}, {})


def record_of(span: SpanParts, resource: Told) -> Record | None:
    """The record of a span, with what its resource tells; None where it is no call of a model.

    Raises:
        BadRecord: The span cannot be true; says why.
    """
    attributes = span.attributes
    details = [event.attributes for event in span.events if event.name in conventions.DETAILS_EVENTS]
    for told in details:
        attributes = told | attributes
    if not conventions.is_model_call(attributes, span.loose):
        return None
    if details:  # an event may name anything, and what is worked out for names is remembered
        attributes = {name: value for name, value in attributes.items() if name in conventions.NAMES}
    if span.start <= 0:
        raise BadRecord("the span has no start time")
    if 0 < span.end < span.start:
        raise BadRecord("the span ends before it starts")
    best, tags = _sorted_out(attributes, span.loose, resource)
    prompt, answer = _content(best, span)
    error, status = _failure(span, best)
    rate = _number(best.get("sample_rate"))
    return Record(
        id=id_of(span.trace_id, span.span_id),
        started_at=span.start / 1e9,
        variant=_name(best.get("variant")),
        model=_name(best.get("model")),
        input=prompt or None,
        output=answer,
        latency_ms=(span.end - span.start) / 1e6 if span.end else None,
        ttft_ms=_ttft_ms(span, best),
        input_tokens=_tokens(best, "input_tokens"),
        output_tokens=_tokens(best, "output_tokens"),
        cost_usd=_cost(best),
        status=status,
        error=error,
        session_id=_name(best.get("session_id")),
        user_id=_name(best.get("user_id")),
        tags=tags,
        sample_rate=1.0 if rate is None else rate,
    )


def id_of(trace_id: str, span_id: str) -> str:
    """A Generation's id: the trace's and the span's in hexadecimal digits, one after the other.

    Raises:
        BadRecord: One is missing, all zero or of a wrong length.
    """
    if len(trace_id) != 32 or not trace_id.strip("0") or len(span_id) != 16 or not span_id.strip("0"):
        raise BadRecord("trace id and span id must be 16 and 8 bytes, not all zero")
    return trace_id + span_id


def told_by(resource: Attributes) -> Told:
    """What the attributes of a resource say about each of its spans."""
    return _sorted_out(resource, {}, NOTHING_TOLD)


def _sorted_out(attributes: Attributes, loose: Attributes, resource: Told) -> Told:
    # Of the attributes that give the same field the most telling, the resource's where the span has none; and tags.
    plan = plan_of(tuple(attributes))
    best = resource.best.copy()
    tags = resource.tags.copy()
    for field, names in plan.fields:
        for name in names:
            value = attributes[name]
            if value is not None and value != "":
                best[field] = value
                break
    for name in plan.documents:
        if attributes[name]:
            _add_document(tags, opened(attributes[name]))
    for tag, name in plan.tags:
        value = attributes[name]
        if value is not None and value != "":
            tags[tag] = value[:_MAX_TAG] if type(value) is str else _tag_value(value)
    if loose:
        for prefix in conventions.TAG_PREFIXES:
            _add_tags(tags, ((k.removeprefix(prefix), v) for k, v in loose.items() if k.startswith(prefix)))
    if "route" in best:
        tags["route"] = _tag_value(best["route"])
    return Told(best, tags)


class _Plan(Struct):
    # What to look for in spans that carry the same attributes: those of one application nearly all do.
    fields: list[tuple[str, list[str]]]  # field → attributes that give it, the most telling first
    tags: list[tuple[str, str]]  # tag, attribute
    documents: list[str]


@lru_cache(maxsize=1_024)
def plan_of(names: tuple[str, ...]) -> _Plan:
    """Which of so named attributes give which field and which tag of a record."""
    fields: dict[str, list[str]] = {}
    for name in sorted((name for name in names if name in conventions.RANKS), key=lambda n: conventions.RANKS[n][1]):
        fields.setdefault(conventions.RANKS[name][0], []).append(name)
    tags = [(conventions.TAGS[name], name) for name in names if name in conventions.TAGS]
    return _Plan(list(fields.items()), tags, [name for name in names if name in conventions.TAG_DOCUMENTS])


def _content(best: Attributes, span: SpanParts) -> tuple[list[Message], str | None]:
    flattened = _flattened(span.loose) if span.loose else _NONE_FLATTENED
    asked, answered = _told(span.events) if span.events else ([], [])
    prompt = (
        flattened["input"] or _plain(best.get("input")) or messages_of(_request(opened(best.get("input")))) or asked
    )
    if "system" in best:
        prompt = [{"role": "system", "content": text_of(opened(best["system"]))}, *prompt]
    if flattened["output"]:
        return prompt, "\n".join(m["content"] for m in flattened["output"])
    plain = _plain(best.get("output"))
    if plain:
        return prompt, "\n".join([m["content"] for m in plain if m["content"]])
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


def _request(value: Any) -> Any:
    # Some put the whole request where the prompt belongs.
    if isinstance(value, dict) and "role" not in value:
        for name in ("messages", "contents", "prompt", "input", "query", "question"):
            if value.get(name):
                return value[name]
    return value


def answer_of(value: Any) -> str:
    """The readable text of an answer: a message, several, or a provider's whole response."""
    if isinstance(value, list):
        return answer_of(value[0]) if len(value) == 1 else "\n".join(filter(None, map(answer_of, value)))
    if isinstance(value, dict):
        if "role" in value or "tool_calls" in value:
            return messages_of(value)[0]["content"]
        for name in ("choices", "candidates", "generations", "message", "output"):
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
                if index.isdecimal() and len(index) < 5 and int(index) < conventions.MAX_INDEX:
                    found[side].setdefault(int(index), {})[path.removeprefix("message.")] = value
    return {side: [_rebuilt(paths, side) for _, paths in sorted(items.items())] for side, items in found.items()}


def _rebuilt(paths: Attributes, side: str) -> Message:
    lists: dict[str, dict[str, Attributes]] = {"contents": {}, "tool_calls": {}}
    for path, value in sorted(paths.items()):
        name, _, rest = path.partition(".")
        if name in lists:
            index, _, leaf = rest.partition(".")
            lists[name].setdefault(index, {})[leaf.rpartition(".")[2]] = value
    message = {
        "role": paths.get("role") or ("user" if side == "input" else "assistant"),
        "content": opened(paths.get("content")) or [lists["contents"][k] for k in sorted(lists["contents"])],
        "tool_calls": [lists["tool_calls"][k] for k in sorted(lists["tool_calls"])],
    }
    return messages_of(message)[0]


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
    if not isinstance(body, dict):
        return {"role": role, "content": text_of(body)}
    inner = opened(body.get("message", body))
    if not isinstance(inner, dict):
        return {"role": role, "content": text_of(inner)}
    shaped = {"role": inner.get("role") or role, "content": opened(inner.get("content"))}
    return messages_of(shaped | {"tool_calls": opened(inner.get("tool_calls"))})[0]


def _failure(span: SpanParts, best: Attributes) -> tuple[str | None, Any]:
    if not (span.failed or span.events or "status" in best or "error_type" in best or "level" in best):
        return None, "ok"
    raised = [e.attributes for e in span.events if e.name in conventions.EXCEPTION_EVENTS]
    kind = best.get("error_type") or next((a.get("exception.type") for a in raised if a.get("exception.type")), None)
    failed = span.failed or kind is not None or best.get("level") == "ERROR"
    status = best.get("status")
    if status not in ("ok", "error", "aborted"):
        status = ("aborted" if str(kind) in conventions.ABORTED else "error") if failed else "ok"
    if status == "ok":
        return None, status
    said = span.status_message or best.get("error") or next((a.get("exception.message") for a in raised), None)
    return str(said or kind or status), status


def _ttft_ms(span: SpanParts, best: Attributes) -> float | None:
    seconds = _number(best.get("ttft_s"))
    if seconds is not None:
        return seconds * 1000
    if "ttft_ms" in best:
        return _number(best["ttft_ms"])
    starts = [event.at for event in span.events if event.name in conventions.FIRST_TOKEN_EVENTS and event.at]
    if "first_token_at" in best:
        with suppress(ValueError):
            starts.append(parse(str(opened(best["first_token_at"]))) * 1000)
    return max(min(starts) - span.start, 0) / 1e6 if starts else None


def _tokens(best: Attributes, field: str) -> int | None:
    given = best.get(field)
    if type(given) is int:
        return given
    value = _number(given)
    if value is None and "usage" in best:
        usage = opened(best["usage"])
        names = conventions.USAGE[field]
        said = (
            next((usage[name] for name in names if usage.get(name) is not None), None)
            if isinstance(usage, dict)
            else None
        )
        value = _number(said)
    return None if value is None or value != value or abs(value) > 1e15 else int(value)


def _cost(best: Attributes) -> float | None:
    value = _number(best.get("cost_usd"))
    if value is None and "cost" in best:
        cost = opened(best["cost"])
        if isinstance(cost, dict):
            parts = [n for n in map(_number, cost.values()) if n is not None]
            value = _number(cost["total"]) if "total" in cost else sum(parts) if parts else None
    return value


def _number(value: Any) -> float | None:
    if isinstance(value, bool) or value is None:
        return None
    try:
        return float(value)
    except (TypeError, ValueError, OverflowError):
        return None


def _name(value: Any) -> str | None:
    return None if value is None else value if isinstance(value, str) else text_of(value)


def _add_document(tags: dict[str, Scalar], document: Any) -> None:
    if isinstance(document, dict):
        _add_tags(tags, document.items())
    else:
        tags["tags"] = _tag_value(document)


def _add_tags(tags: dict[str, Scalar], pairs: Iterable[tuple[str, Any]]) -> None:
    for name, value in pairs:
        if name and len(tags) < _MAX_TAGS - 1:
            quoted = isinstance(value, str) and value[:1] == '"'  # Langfuse writes every value in JSON
            tags[name[:128]] = _tag_value(opened(value) if quoted else value)


def _tag_value(value: Any) -> str:
    if type(value) is list:
        return ",".join(map(text_of, value))[:_MAX_TAG]
    return (value if type(value) is str else text_of(value))[:_MAX_TAG]
