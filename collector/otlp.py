"""OTLP requests, in Protocol Buffers or JSON, read item by item: one that is broken never takes the others with it."""

import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

import msgspec
from google.protobuf.message import DecodeError
from msgspec import Struct

from collector import wire
from collector.admission import Sender
from collector.body import TooLarge
from collector.conventions import NAMES, PREFIXES
from collector.meaning import NOTHING_TOLD, Attributes, Event, SpanParts, Told, record_of, told_by
from collector.record import BadRecord, check_moment
from collector.rows import Row, row_of
from driftline.errors import DriftlineError

MAX_OBJECTS = 1_000_000  # of a JSON body: empty ones take twenty times more memory than bytes
MAX_ITEMS = 100_000  # of one request: empty ones cost more time than bytes
_SCALARS = frozenset({"string_value", "int_value", "double_value", "bool_value"})
_DEPTH = 16  # how deep a structured attribute may nest
_TOGETHER = 64  # spans that go through each step together: a step is a quarter faster where it follows itself
_REFUSALS = (BadRecord, DecodeError, msgspec.ValidationError)


class Undecodable(DriftlineError):
    """The body as a whole is no OTLP request. Sending it again will not help."""


@dataclass(slots=True)
class Refused:
    """Items that were not stored, and the first reasons."""

    n: int = 0
    reasons: list[str] = field(default_factory=list)

    def add(self, reason: str) -> None:
        """Counts one; keeps the first few reasons."""
        self.n += 1
        if len(self.reasons) < 5 and reason not in self.reasons:
            self.reasons.append(reason)

    def __str__(self) -> str:
        return "; ".join(self.reasons)


def read_spans(body: bytes, sender: Sender, now: int, *, as_json: bool) -> tuple[list[Row], Refused, int]:
    """The rows of a trace request, the spans refused, and how many spans are no call of a model.

    Raises:
        Undecodable: The body is no OTLP trace request.
    """
    rows: list[Row] = []
    refused = Refused()
    others = 0
    read: Callable[[Any], SpanParts] = _json_span if as_json else _proto_span
    told_by_resource = _Told()
    items = items_of(body, "resourceSpans", "scopeSpans", "spans", as_json=as_json)
    while some := list(islice(items, _TOGETHER)):
        spans = []
        for resource, item in some:
            try:
                spans.append((read(item), told_by_resource(resource)))
            except _REFUSALS as error:
                refused.add(str(error))
        records = []
        for span, told in spans:
            try:
                record = record_of(span, told)
                if record is None:
                    others += 1
                else:
                    check_moment(span.start // 1000, now)
                    records.append((record, span.start // 1000))
            except _REFUSALS as error:
                refused.add(str(error))
        for record, started in records:
            try:
                rows.append(row_of(record, started, sender.project_id, sender.privacy, now))
            except _REFUSALS as error:
                refused.add(str(error))
    return rows, refused, others


class _Told:
    # What the attributes of a resource tell, worked out once for all of its spans.
    def __init__(self) -> None:
        self._resource: Attributes | None = None
        self._told = NOTHING_TOLD

    def __call__(self, resource: Attributes) -> Told:
        if resource is not self._resource:
            self._resource, self._told = resource, told_by(resource)
        return self._told


def items_of(body: bytes, *names: str, as_json: bool) -> Iterator[tuple[Attributes, Any]]:
    """The items of a request (spans, log records) still undecoded, each with its resource's attributes.

    Raises:
        Undecodable: The body cannot be read as a whole; what was yielded before must not be used.
        TooLarge: It holds more than MAX_ITEMS.
    """
    seen = 0
    for resource, scopes in _json_scopes(body, *names) if as_json else _proto_scopes(body):
        seen = _count_up(seen)
        for items in scopes:
            seen = _count_up(seen, 1 + len(items))
            for item in items:
                yield resource, item


def _count_up(seen: int, more: int = 1) -> int:
    if seen + more > MAX_ITEMS:
        raise TooLarge(f"The request holds more than {MAX_ITEMS} items. Send smaller batches.")
    return seen + more


def _proto_scopes(body: bytes) -> Iterable[tuple[Attributes, Iterable[Any]]]:
    try:
        for resource in wire.Request.FromString(body).resources:
            group = wire.ResourceItems.FromString(resource)
            attributes, _ = proto_attributes(group.resource.attributes)
            yield attributes, (scope.items for scope in group.scopes)
    except DecodeError:
        raise Undecodable("The body is not an OTLP request in Protocol Buffers, or is cut off.") from None


def proto_attributes(pairs: Any) -> tuple[Attributes, Attributes]:
    """Of a list of KeyValue those with a meaning: by their name, and by the beginning of it."""
    named: Attributes = {}
    loose: Attributes = {}
    for pair in pairs:
        key = pair.key
        if key in NAMES:
            value = pair.value
            named[key] = value.string_value or plain(value)
        elif key.startswith(PREFIXES):
            loose[key] = plain(pair.value)
    return named, loose


def plain(value: Any, depth: int = 0) -> Any:
    """The Python value of a protobuf AnyValue; None where it is empty, or nests too deep."""
    kind = value.WhichOneof("value")
    if kind in _SCALARS:
        return getattr(value, kind)
    if kind is None or depth > _DEPTH:
        return None
    if kind == "array_value":
        return [plain(item, depth + 1) for item in value.array_value.values]
    if kind == "kvlist_value":
        return {pair.key: plain(pair.value, depth + 1) for pair in value.kvlist_value.values}
    return f"[{len(value.bytes_value)} bytes]"


# An attribute as it was sent → its name, value and whether the name has a meaning of its own; None where it has none.
_Known = tuple[str, Any, bool] | None
_KNOWN: dict[bytes, _Known] = {}
_MOST_KNOWN = 4_096
_LONGEST_KNOWN = 128  # bytes; prompts and answers are new each time
_NEW: Any = object()


def _span_attributes(sent: Iterable[bytes]) -> tuple[Attributes, Attributes]:
    # As `proto_attributes`. Model, provider, finish reason and the like are the same bytes in most spans, and finding
    # them again costs a tenth of reading them.
    named: Attributes = {}
    loose: Attributes = {}
    known = _KNOWN.get
    for raw in sent:
        found = known(raw, _NEW) if len(raw) <= _LONGEST_KNOWN else _NEW
        if found is _NEW:
            found = _read_attribute(raw)
        if found is not None:
            if found[2]:
                named[found[0]] = found[1]
            else:
                loose[found[0]] = found[1]
    return named, loose


def _read_attribute(raw: bytes) -> _Known:
    pair = wire.KeyValue.FromString(raw)
    key = pair.key
    found: _Known = None
    if key in NAMES:
        value = pair.value
        found = key, value.string_value or plain(value), True
    elif key.startswith(PREFIXES):
        found = key, plain(pair.value), False
    if len(raw) <= _LONGEST_KNOWN:
        if len(_KNOWN) >= _MOST_KNOWN:
            _KNOWN.clear()
        _KNOWN[raw] = found
    return found


def _proto_span(item: bytes) -> SpanParts:
    span = wire.Span.FromString(item)
    named, loose = _span_attributes(span.attributes)
    events = [Event(e.time, e.name, proto_attributes_all(e.attributes)) for e in span.events] if span.events else []
    failed, message = False, ""
    if span.HasField("status"):
        failed, message = span.status.code == _FAILED, span.status.message
    return SpanParts(
        span.trace_id.hex(), span.span_id.hex(), span.start, span.end, named, loose, events, failed, message
    )


def proto_attributes_all(pairs: Any) -> Attributes:
    """All attributes of an event."""
    return {pair.key: plain(pair.value) for pair in pairs}


_FAILED = 2  # STATUS_CODE_ERROR


class JsonValue(Struct, rename="camel"):
    """An AnyValue in JSON."""

    string_value: str | None = None
    bool_value: bool | None = None
    int_value: int | str | None = None
    double_value: float | str | None = None
    array_value: "JsonArray | None" = None
    kvlist_value: "JsonPairs | None" = None
    bytes_value: str | None = None


class JsonArray(Struct):
    """A list of AnyValue in JSON."""

    values: list[JsonValue] | None = None


class JsonPair(Struct):
    """A KeyValue in JSON."""

    key: str = ""
    value: JsonValue | None = None


class JsonPairs(Struct):
    """A list of KeyValue in JSON."""

    values: list[JsonPair] | None = None


Nanoseconds = int | str | None


class _JsonEvent(Struct, rename="camel"):
    time_unix_nano: Nanoseconds = None
    name: str | None = None
    attributes: list[JsonPair] | None = None


class _JsonStatus(Struct):
    code: int | str | None = None
    message: str | None = None


class _JsonSpan(Struct, rename="camel"):
    trace_id: str = ""
    span_id: str = ""
    start_time_unix_nano: Nanoseconds = None
    end_time_unix_nano: Nanoseconds = None
    attributes: list[JsonPair] | None = None
    events: list[_JsonEvent] | None = None
    status: _JsonStatus | None = None


class _JsonResource(Struct):
    attributes: list[JsonPair] | None = None


def _json_scopes(body: bytes, *names: str) -> Iterable[tuple[Attributes, Iterable[Any]]]:
    for resource in _listed(_json_body(body), names[0]):
        try:
            described = msgspec.convert(_named(resource, "resource"), _JsonResource)
        except msgspec.ValidationError as error:
            raise Undecodable(f"A resource cannot be read: {error}.") from None
        attributes, _ = _split(json_attributes(described.attributes))
        yield attributes, (_listed(scope, names[2]) for scope in _listed(resource, names[1]))


def _json_body(body: bytes) -> Any:
    if body.count(b"{") + body.count(b"[") > MAX_OBJECTS:
        raise Undecodable(f"The body holds more than {MAX_OBJECTS} objects and lists. Send smaller batches.")
    try:
        return msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        try:
            return json.loads(body)  # reads lone surrogates too
        except (ValueError, RecursionError) as error:
            raise Undecodable(f"The body is not JSON in UTF-8: {error}.") from None


def _named(value: Any, name: str) -> Any:
    if not isinstance(value, dict):
        raise Undecodable(f'The body is not an OTLP request in JSON: there must be an object with "{name}".')
    return value.get(name) or {}


def _listed(value: Any, name: str) -> list[Any]:
    items = _named(value, name) or []
    if not isinstance(items, list):
        raise Undecodable(f'The body is not an OTLP request in JSON: "{name}" must be a list.')
    return items


def json_attributes(pairs: list[JsonPair] | None) -> Attributes:
    """All attributes of an item in JSON."""
    return {pair.key: json_plain(pair.value) for pair in pairs or ()}


def _split(attributes: Attributes) -> tuple[Attributes, Attributes]:
    named = {key: value for key, value in attributes.items() if key in NAMES}
    return named, {k: v for k, v in attributes.items() if k not in named and k.startswith(PREFIXES)}


def json_plain(value: JsonValue | None) -> Any:
    """The Python value of an AnyValue in JSON."""
    if value is None:
        return None
    if value.string_value is not None:
        return value.string_value
    if value.int_value is not None:
        return whole(value.int_value)
    if value.double_value is not None:
        return float(value.double_value)
    if value.array_value is not None:
        return [json_plain(item) for item in value.array_value.values or ()]
    if value.kvlist_value is not None:
        return json_attributes(value.kvlist_value.values)
    return value.bool_value if value.bool_value is not None else value.bytes_value


def whole(value: int | str | None) -> int:
    """A 64-bit number, which JSON may carry as a text.

    Raises:
        BadRecord: It is no whole number, or has more than 64 bits.
    """
    try:
        number = int(value or 0)
    except ValueError:
        raise BadRecord(f"{str(value)[:40]!r} is no whole number") from None
    if not -(2**63) <= number < 2**64:
        raise BadRecord("a number has more than 64 bits")
    return number


def _json_span(item: Any) -> SpanParts:
    span = msgspec.convert(item, _JsonSpan)
    named, loose = _split(json_attributes(span.attributes))
    events = [Event(whole(e.time_unix_nano), e.name or "", json_attributes(e.attributes)) for e in span.events or ()]
    status = span.status or _JsonStatus()
    return SpanParts(
        hexadecimal(span.trace_id), hexadecimal(span.span_id), whole(span.start_time_unix_nano),
        whole(span.end_time_unix_nano), named, loose, events,
        status.code in (_FAILED, "STATUS_CODE_ERROR"), status.message or "",
    )  # fmt: skip


def hexadecimal(text: str) -> str:
    """An id in hexadecimal digits, in lower case.

    Raises:
        BadRecord: It is something else, as base64.
    """
    try:
        return bytes.fromhex(text).hex()
    except ValueError:
        raise BadRecord(f"{text[:40]!r} must be an id in hexadecimal digits") from None
