"""Spans and exports as exporters send them, and the rows they become."""

import secrets
import time
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.common.v1.common_pb2 import AnyValue
from sqlmodel import select

from driftline.store.engine import reading
from driftline.store.tables import Generation

PROTOBUF = {"content-type": "application/x-protobuf"}
JSON = {"content-type": "application/json"}
START = time.time_ns() - 60 * 10**9


def rows(table=Generation):
    with reading() as session:
        return session.exec(select(table)).all()


def any_value(value: Any) -> AnyValue:
    made = AnyValue()
    if isinstance(value, bool):
        made.bool_value = value
    elif isinstance(value, int):
        made.int_value = value
    elif isinstance(value, float):
        made.double_value = value
    elif isinstance(value, str):
        made.string_value = value
    elif isinstance(value, list):
        made.array_value.values.extend(any_value(item) for item in value)
    else:
        for key, item in value.items():
            made.kvlist_value.values.add(key=key, value=any_value(item))
    return made


def span(attributes: dict[str, Any], *, events=(), seconds=1.5, name="chat", status=None, **more):
    fields = {
        "trace_id": secrets.token_bytes(16), "span_id": secrets.token_bytes(8), "name": name,
        "start_time_unix_nano": START, "end_time_unix_nano": START + int(seconds * 1e9),
    } | more  # fmt: skip
    made = ExportTraceServiceRequest().resource_spans.add().scope_spans.add().spans.add(**fields)
    for key, value in attributes.items():
        made.attributes.add(key=key, value=any_value(value))
    for event, at, said in events:
        added = made.events.add(name=event, time_unix_nano=START + int(at * 1e9))
        for key, value in said.items():
            added.attributes.add(key=key, value=any_value(value))
    if status:
        made.status.code, made.status.message = status
    return made


def request(*spans, described: dict[str, Any] | None = None) -> bytes:
    made = ExportTraceServiceRequest()
    group = made.resource_spans.add()
    for key, value in (described or {}).items():
        group.resource.attributes.add(key=key, value=any_value(value))
    group.scope_spans.add().spans.extend(spans)
    return made.SerializeToString()


def send(client, *spans, described=None):
    answer = client.post("/v1/traces", content=request(*spans, described=described), headers=PROTOBUF)
    assert answer.status_code == 200, answer.content
    return ExportTraceServiceResponse.FromString(answer.content)
