"""From a span, whatever its convention, to a record."""

from collections.abc import Iterable
from contextlib import suppress
from functools import lru_cache
from typing import Any, NamedTuple

from msgspec import Struct

from collector import conventions
from collector.contents import Attributes, Event, content_of, opened
from collector.messages import text_of
from collector.record import BadRecord, Record, Scalar
from collector.usage import cost_of, number_of, tokens_of, usage_in
from driftline.moment import parse

_MAX_TAGS = 64
_MAX_TAG = 256


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

    Where a log at the end of a call stands for its span, the span's start is set back to the call's.

    Raises:
        BadRecord: The span cannot be true; says why.
    """
    attributes = span.attributes
    details = [event.attributes for event in span.events if event.name in conventions.DETAILS_EVENTS]
    if details:
        attributes = _named_by(details) | attributes
    if not conventions.is_model_call(attributes, span.loose):
        return None
    if details:  # an event may name anything, and what is worked out for names is remembered
        attributes = {name: value for name, value in attributes.items() if name in conventions.NAMES}
    if span.start <= 0:
        raise BadRecord("the span has no start time")
    if 0 < span.end < span.start:
        raise BadRecord("the span ends before it starts")
    best, tags = _sorted_out(attributes, span.loose, resource)
    if "logfire_type" in best:
        if _opens_stream(span, best, tags):
            return None
        _set_back(span, best)
    prompt, answer = content_of(best, span.loose, span.events)
    error, status = _failure(span, best)
    rate = number_of(best.get("sample_rate"))
    used = _used(best, tags)
    return Record(
        id=id_of(span.trace_id, span.span_id),
        started_at=span.start / 1e9,
        variant=_name(best.get("variant")),
        model=_name(best.get("model")),
        input=prompt or None,
        output=answer,
        latency_ms=(span.end - span.start) / 1e6 if span.end else None,
        ttft_ms=_ttft_ms(span, best),
        input_tokens=used["input_tokens"],
        output_tokens=used["output_tokens"],
        cost_usd=_cost(best),
        status=status,
        error=error,
        session_id=_name(best.get("session_id")),
        user_id=_name(best.get("user_id")),
        tags=tags,
        sample_rate=1.0 if rate is None else rate,
    )


def _named_by(details: list[Attributes]) -> Attributes:
    # What events name that says something, the first of each name.
    named: Attributes = {}
    for told in details:
        for name, value in told.items():
            if name in conventions.NAMES or name.startswith(conventions.MARKS):
                named.setdefault(name, value)
    return named


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
        if value is not None and value != "" and value != 0:
            tags[tag] = value[:_MAX_TAG] if type(value) is str and value[:1] not in '["' else _tag_value(opened(value))
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


def _opens_stream(span: SpanParts, best: Attributes, tags: dict[str, Scalar]) -> bool:
    # Logfire tells a streamed call by two spans: one of the request, and a log of all when the stream has ended.
    if "logfire_tags" not in best or best["logfire_type"] != "span" or span.failed:
        return False
    return not ("output" in best or "output_tokens" in best or "response_id" in tags)


def _set_back(span: SpanParts, best: Attributes) -> None:
    # A log at the end of a call says how long it took.
    seconds = number_of(best.get("took_s")) if best["logfire_type"] == "log" else None
    if seconds is not None and 0 <= seconds < span.start / 1e9:
        span.start -= int(seconds * 1e9)


def _ttft_ms(span: SpanParts, best: Attributes) -> float | None:
    told = best.get("ttft_s")
    seconds = number_of(told)
    if seconds is not None:
        # Strands says whole milliseconds where all others say seconds; no first token comes after the last
        return seconds if type(told) is int and seconds * 1e9 > span.end - span.start > 0 else seconds * 1000
    if "ttft_ms" in best:
        return number_of(best["ttft_ms"])
    starts = [
        event.at for event in span.events if event.at and conventions.is_first_token(event.name, event.attributes)
    ]
    if "first_token_at" in best:
        with suppress(ValueError):
            starts.append(parse(str(opened(best["first_token_at"]))) * 1000)
    return max(min(starts) - span.start, 0) / 1e6 if starts else None


def _used(best: Attributes, tags: dict[str, Scalar]) -> dict[str, int | None]:
    # Tokens by attributes of their own, else by an object of usage, also the one within a whole response.
    used = {field: _tokens(best.get(field)) for field in ("input_tokens", "output_tokens")}
    if "usage" in best or used["output_tokens"] is None:
        told = tokens_of(opened(best["usage"]) if "usage" in best else usage_in(opened(best.get("output"))))
        for name, n in told.items():
            if name not in used:
                tags.setdefault(name, str(n))
            elif used[name] is None:
                used[name] = n
    return used


def _tokens(given: Any) -> int | None:
    if type(given) is int:
        return given
    value = number_of(given)
    return None if value is None or value != value or abs(value) > 1e15 else int(value)


def _cost(best: Attributes) -> float | None:
    value = number_of(best.get("cost_usd"))
    return cost_of(opened(best["cost"])) if value is None and "cost" in best else value


def _name(value: Any) -> str | None:
    if isinstance(value, str):
        return value if value[:1] != '"' else text_of(opened(value))  # MLflow writes every value in JSON
    return None if value is None else text_of(value)


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
