"""OTLP metrics: points of `gen_ai.*` are kept as series beside the calls, all others are refused in words.

A metric does not say which calls it stands for, so nothing of it is ever counted as calls, tokens or latency of calls.
"""

import hashlib
from collections.abc import Iterator
from typing import Any

import msgspec
from google.protobuf.message import DecodeError
from msgspec import Struct

from collector import wire
from collector.contents import Attributes
from collector.items import MAX_ITEMS, Refused, items_of
from collector.record import BadRecord, check_moment
from collector.sender import Sender
from collector.values import JsonPair, Nanoseconds, fraction, json_attributes, proto_attributes_all, whole
from driftline.errors import TooLarge

TAKEN = "gen_ai."
_MAX_LABELS = 16
_MAX_LABEL = 200
_CUMULATIVE = 2  # AggregationTemporality
_ENCODE = msgspec.json.Encoder()
_COUNTED = {
    "histogram": wire.HistogramPoint,
    "exponential_histogram": wire.ExponentialPoint,
    "summary": wire.SummaryPoint,
}


class MetricRow(Struct):
    """A MetricPoint to be stored; the fields are the table's columns."""

    project_id: int
    name: str
    unit: str
    stream: str
    labels: dict[str, str]
    is_cumulative: bool
    start_at: int
    at: int
    n: int
    total: float


class _Point(Struct):
    start: int  # nanoseconds
    at: int
    n: int
    total: float
    attributes: Attributes


class _Kept(Struct):
    name: str
    unit: str
    is_cumulative: bool


def read_points(body: bytes, sender: Sender, now: int, *, as_json: bool) -> tuple[list[MetricRow], Refused]:
    """The points of a metrics request that are kept, and what is refused.

    Raises:
        Undecodable: The body is no OTLP metrics request.
        TooLarge: It holds too many points.
    """
    rows: list[MetricRow] = []
    refused = Refused()
    seen = 0
    read = _json_points if as_json else _proto_points
    for resource, item in items_of(body, "resourceMetrics", "scopeMetrics", "metrics", as_json=as_json):
        for kept, point in read(item):
            seen += 1
            if seen > MAX_ITEMS:
                raise TooLarge(f"The request holds more than {MAX_ITEMS} points. Send smaller batches.")
            try:
                if isinstance(point, Exception):
                    raise point
                rows.append(_row(kept, point, resource, sender, now))
            except (BadRecord, DecodeError, msgspec.ValidationError) as error:
                refused.add(str(error))
    return rows, refused


def _row(kept: _Kept, point: _Point, resource: Attributes, sender: Sender, now: int) -> MetricRow:
    if not kept.name.startswith(TAKEN):
        raise BadRecord(
            f"of metrics only {TAKEN}* are kept; send others ({kept.name[:80] or 'without a name'}) to a metrics store"
        )
    at = point.at // 1000
    check_moment(at, now)
    if not abs(point.total) <= 1e300 or not 0 <= point.n < 2**63:
        raise BadRecord(f"a point of {kept.name[:80]} is no finite number")
    said = {**resource, **point.attributes}
    start = min(point.start // 1000, at) if point.start else at
    # streams of two processes have the same attributes, but do not start at the same moment
    parts = [kept.name, sorted((k, str(v)) for k, v in said.items()), start if kept.is_cumulative else point.start]
    stream = hashlib.blake2b(_ENCODE.encode(parts), digest_size=16).hexdigest()
    name = sender.privacy.name
    labels = {
        name(key)[:_MAX_LABEL]: name(_text(value))[:_MAX_LABEL]
        for key, value in sorted(point.attributes.items())[:_MAX_LABELS]
    }
    return MetricRow(
        sender.project_id, name(kept.name)[:128], name(kept.unit)[:32], stream, labels, kept.is_cumulative, start, at,
        point.n, point.total,
    )  # fmt: skip


def _text(value: Any) -> str:
    return value if isinstance(value, str) else _ENCODE.encode(value).decode()


def _proto_points(item: bytes) -> Iterator[tuple[_Kept, _Point | Exception]]:
    try:
        metric = wire.Metric.FromString(item)
    except DecodeError as error:
        yield _Kept("", "", False), error
        return
    for kind in wire.METRIC_KINDS:
        points = getattr(metric, kind)
        summed = kind == "sum"
        grows = points.temporality == _CUMULATIVE if kind != "summary" else True
        kept = _Kept(metric.name, metric.unit, grows and (points.is_monotonic or not summed) and kind != "gauge")
        for packed in points.data_points:
            try:
                if kind in _COUNTED:
                    found = _COUNTED[kind].FromString(packed)
                    n, total = found.count, found.sum
                else:
                    found = wire.NumberPoint.FromString(packed)
                    n = 0 if kept.is_cumulative else 1
                    total = float(found.as_int) if found.WhichOneof("value") == "as_int" else found.as_double
                yield kept, _Point(found.start, found.time, n, total, proto_attributes_all(found.attributes))
            except (BadRecord, DecodeError) as error:
                yield kept, error


class _JsonPoint(Struct, rename="camel"):
    start_time_unix_nano: Nanoseconds = None
    time_unix_nano: Nanoseconds = None
    count: int | float | str | None = None
    sum: float | str | None = None
    as_double: float | str | None = None
    as_int: int | float | str | None = None
    attributes: list[JsonPair] | None = None


_JSON_KINDS = {"gauge": "gauge", "sum": "sum", "histogram": "histogram", "exponentialHistogram": "histogram",
               "summary": "summary"}  # fmt: skip


def _json_points(item: Any) -> Iterator[tuple[_Kept, _Point | Exception]]:
    if not isinstance(item, dict):
        yield _Kept("", "", False), BadRecord("a metric must be an object")
        return
    name, unit = (item[key] if isinstance(item.get(key), str) else "" for key in ("name", "unit"))
    for field, kind in _JSON_KINDS.items():
        points = item.get(field)
        listed = points.get("dataPoints") if isinstance(points, dict) else None
        if not isinstance(points, dict) or not isinstance(listed, list):
            continue
        grows = kind == "summary" or points.get("aggregationTemporality") == _CUMULATIVE
        kept = _Kept(name, unit, grows and kind != "gauge" and (kind != "sum" or points.get("isMonotonic") is True))
        for given in listed:
            try:
                yield kept, _json_point(kept, kind, given)
            except (msgspec.ValidationError, BadRecord, ValueError) as error:
                yield kept, BadRecord(str(error))


def _json_point(kept: _Kept, kind: str, given: Any) -> _Point:
    found = msgspec.convert(given, _JsonPoint)
    if kind in ("histogram", "summary"):
        n, total = whole(found.count), fraction(found.sum)
    else:
        n = 0 if kept.is_cumulative else 1
        total = float(whole(found.as_int)) if found.as_int is not None else fraction(found.as_double)
    start, at = whole(found.start_time_unix_nano), whole(found.time_unix_nano)
    return _Point(start, at, n, total, json_attributes(found.attributes))
