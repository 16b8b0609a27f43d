"""Spans of OTLP requests as rows, read one by one: one that is broken never takes the others with it."""

from collections.abc import Callable, Iterable
from itertools import islice
from typing import Any

import msgspec
from google.protobuf.message import DecodeError
from msgspec import Struct

from collector import wire
from collector.contents import Attributes, Event
from collector.conventions import says_something
from collector.items import Refused, items_of
from collector.meaning import NOTHING_TOLD, SpanParts, Told, record_of, told_by
from collector.record import BadRecord, check_moment
from collector.rows import Row, row_of
from collector.sender import Sender
from collector.values import (
    MAX_PARTS,
    JsonPair,
    Known,
    Nanoseconds,
    each_of,
    hexadecimal,
    json_attributes,
    known_of,
    parted,
    proto_attributes_all,
    split,
    whole,
)

_TOGETHER = 64  # spans that go through each step together: a step is a quarter faster where it follows itself
_REFUSALS = (BadRecord, DecodeError, msgspec.ValidationError, RecursionError)
_FAILED = 2  # STATUS_CODE_ERROR


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


_KNOWN: dict[bytes, Known | None] = {}  # an attribute as it was sent → what it says
_MOST_KNOWN = 4_096
_LONGEST_KNOWN = 128  # bytes; prompts and answers are new each time
_NEW: Any = object()


def _span_attributes(sent: Iterable[bytes]) -> tuple[Attributes, Attributes]:
    # As `proto_attributes`. Model, provider, finish reason and the like are the same bytes in most spans, and finding
    # them again costs a tenth of reading them.
    return parted(map(_known_again, sent))


def _known_again(raw: bytes) -> Known | None:
    if len(raw) > _LONGEST_KNOWN:
        return known_of(wire.KeyValue.FromString(raw))
    found: Known | None = _KNOWN.get(raw, _NEW)
    if found is _NEW:
        found = known_of(wire.KeyValue.FromString(raw))
        if len(_KNOWN) >= _MOST_KNOWN:
            _KNOWN.clear()
        _KNOWN[raw] = found
    return found


def _proto_span(item: bytes) -> SpanParts:
    span = wire.Span.FromString(item)
    if len(span.attributes) > MAX_PARTS:
        raise BadRecord(f"the span has more than {MAX_PARTS} attributes")
    named, loose = _span_attributes(span.attributes)
    sent = each_of(span.events, wire.Event) if span.events else ()
    events = [Event(e.time, e.name, proto_attributes_all(e.attributes)) for e in sent if says_something(e.name)]
    failed, message = False, ""
    if span.HasField("status"):
        failed, message = span.status.code == _FAILED, span.status.message
    return SpanParts(
        span.trace_id.hex(), span.span_id.hex(), span.start, span.end, named, loose, events, failed, message
    )


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


def _json_span(item: Any) -> SpanParts:
    span = msgspec.convert(item, _JsonSpan)
    named, loose = split(json_attributes(span.attributes))
    sent = [e for e in span.events or () if says_something(e.name or "")]
    events = [Event(whole(e.time_unix_nano), e.name or "", json_attributes(e.attributes)) for e in sent]
    status = span.status or _JsonStatus()
    return SpanParts(
        hexadecimal(span.trace_id), hexadecimal(span.span_id), whole(span.start_time_unix_nano),
        whole(span.end_time_unix_nano), named, loose, events,
        status.code in (_FAILED, "STATUS_CODE_ERROR"), status.message or "",
    )  # fmt: skip
