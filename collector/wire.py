"""The OTLP messages as far as they are read, in Protocol Buffers.

In the wire format a nested message has the encoding of bytes. Spans and log records are declared as bytes here and read
when their turn comes: a batch of millions of empty ones costs little memory, and a broken one is refused alone instead
of with all others. So are events, attributes and the elements of values; a span's attributes, most of which are the
same from span to span, are known again by their bytes.
Fields that are not listed are skipped.
"""

from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

_F = descriptor_pb2.FieldDescriptorProto
_KINDS = {
    "string": _F.TYPE_STRING, "bytes": _F.TYPE_BYTES, "bool": _F.TYPE_BOOL, "int64": _F.TYPE_INT64,
    "int32": _F.TYPE_INT32, "double": _F.TYPE_DOUBLE, "fixed64": _F.TYPE_FIXED64, "sfixed64": _F.TYPE_SFIXED64,
}  # fmt: skip
_PACKAGE = "driftline.otlp"

METRIC_KINDS = {"gauge": 5, "sum": 7, "histogram": 9, "exponential_histogram": 10, "summary": 11}

# message → field → (number, kind); "*" before a kind is repeated, "?" one of several
_MESSAGES: dict[str, dict[str, tuple[int, str]]] = {
    "AnyValue": {
        "string_value": (1, "?string"), "bool_value": (2, "?bool"), "int_value": (3, "?int64"),
        "double_value": (4, "?double"), "array_value": (5, "?ArrayValue"), "kvlist_value": (6, "?KeyValueList"),
        "bytes_value": (7, "?bytes"),
    },
    "KeyValue": {"key": (1, "string"), "value": (2, "AnyValue")},
    "ArrayValue": {"values": (1, "*bytes")},
    "KeyValueList": {"values": (1, "*bytes")},
    "Request": {"resources": (1, "*bytes")},  # of traces, logs or metrics
    "ResourceItems": {"resource": (1, "Resource"), "scopes": (2, "*ScopeItems")},
    "Resource": {"attributes": (1, "*bytes")},
    "ScopeItems": {"items": (2, "*bytes")},
    "Span": {
        "trace_id": (1, "bytes"), "span_id": (2, "bytes"), "name": (5, "string"), "start": (7, "fixed64"),
        "end": (8, "fixed64"), "attributes": (9, "*bytes"), "events": (11, "*bytes"), "status": (15, "Status"),
    },
    "Event": {"time": (1, "fixed64"), "name": (2, "string"), "attributes": (3, "*bytes")},
    "Status": {"message": (2, "string"), "code": (3, "int32")},
    "LogRecord": {
        "time": (1, "fixed64"), "body": (5, "AnyValue"), "attributes": (6, "*bytes"), "trace_id": (9, "bytes"),
        "span_id": (10, "bytes"), "observed": (11, "fixed64"), "event_name": (12, "string"),
    },
    "Metric": {
        "name": (1, "string"), "unit": (3, "string"),
        **{kind: (number, "DataPoints") for kind, number in METRIC_KINDS.items()},
    },
    "DataPoints": {"data_points": (1, "*bytes"), "temporality": (2, "int32"), "is_monotonic": (3, "bool")},
    "NumberPoint": {
        "start": (2, "fixed64"), "time": (3, "fixed64"), "as_double": (4, "?double"), "as_int": (6, "?sfixed64"),
        "attributes": (7, "*bytes"),
    },
    "HistogramPoint": {
        "start": (2, "fixed64"), "time": (3, "fixed64"), "count": (4, "fixed64"), "sum": (5, "double"),
        "attributes": (9, "*bytes"),
    },
    "SummaryPoint": {
        "start": (2, "fixed64"), "time": (3, "fixed64"), "count": (4, "fixed64"), "sum": (5, "double"),
        "attributes": (7, "*bytes"),
    },
    "ExponentialPoint": {
        "attributes": (1, "*bytes"), "start": (2, "fixed64"), "time": (3, "fixed64"), "count": (4, "fixed64"),
        "sum": (5, "double"),
    },
    "ExportResponse": {"partial_success": (1, "PartialSuccess")},
    "PartialSuccess": {"rejected": (1, "int64"), "error_message": (2, "string")},
    "RpcStatus": {"code": (1, "int32"), "message": (2, "string"), "details": (3, "*Any")},
    "Any": {"type_url": (1, "string"), "value": (2, "bytes")},
    "RetryInfo": {"retry_delay": (1, "Duration")},
    "Duration": {"seconds": (1, "int64")},
}  # fmt: skip


def _describe(name: str, fields: dict[str, tuple[int, str]]) -> descriptor_pb2.DescriptorProto:
    message = descriptor_pb2.DescriptorProto(name=name)
    for field, (number, kind) in fields.items():
        made = message.field.add(name=field, number=number, label=_F.LABEL_OPTIONAL)
        if kind[0] == "*":
            made.label = _F.LABEL_REPEATED
        elif kind[0] == "?":
            made.oneof_index = 0
        bare = kind.lstrip("*?")
        made.type = _KINDS.get(bare, _F.TYPE_MESSAGE)
        if made.type == _F.TYPE_MESSAGE:
            made.type_name = f".{_PACKAGE}.{bare}"
    if any(kind[0] == "?" for _, kind in fields.values()):
        message.oneof_decl.add(name="value")
    return message


def _build() -> dict[str, Any]:
    described = descriptor_pb2.FileDescriptorProto(name="driftline/otlp.proto", package=_PACKAGE, syntax="proto3")
    described.message_type.extend(_describe(name, fields) for name, fields in _MESSAGES.items())
    pool = descriptor_pool.DescriptorPool()
    pool.Add(described)
    return {
        name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{_PACKAGE}.{name}")) for name in _MESSAGES
    }


_BUILT = _build()

Request = _BUILT["Request"]
ResourceItems = _BUILT["ResourceItems"]
KeyValue = _BUILT["KeyValue"]
Span = _BUILT["Span"]
LogRecord = _BUILT["LogRecord"]
Metric = _BUILT["Metric"]
NumberPoint = _BUILT["NumberPoint"]
HistogramPoint = _BUILT["HistogramPoint"]
SummaryPoint = _BUILT["SummaryPoint"]
ExponentialPoint = _BUILT["ExponentialPoint"]
ExportResponse = _BUILT["ExportResponse"]
AnyValue = _BUILT["AnyValue"]
Event = _BUILT["Event"]
RpcStatus = _BUILT["RpcStatus"]
RetryInfo = _BUILT["RetryInfo"]
