import json
import secrets
import time

import pytest
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest, ExportLogsServiceResponse
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue
from sqlmodel import select

from driftline.store.engine import reading
from driftline.store.tables import Feedback, Generation, Intake

PROTOBUF = {"content-type": "application/x-protobuf"}
NOW = time.time_ns()
TRACE, SPAN = secrets.token_bytes(16), secrets.token_bytes(8)


def rows(table=Generation):
    with reading() as session:
        return session.exec(select(table)).all()


def any_value(value) -> AnyValue:
    made = AnyValue()
    if isinstance(value, str):
        made.string_value = value
    elif isinstance(value, float):
        made.double_value = value
    elif isinstance(value, int):
        made.int_value = value
    else:
        for key, item in value.items():
            made.kvlist_value.values.add(key=key, value=any_value(item))
    return made


def log(name, body=None, *, at=0, old=False, attributes=None, trace=TRACE, span=SPAN):
    made = ExportLogsServiceRequest().resource_logs.add().scope_logs.add().log_records.add()
    made.time_unix_nano, made.trace_id, made.span_id = NOW + at * 10**6, trace, span
    said = dict(attributes or {})
    if old:
        said["event.name"] = name
    else:
        made.event_name = name
    for key, value in said.items():
        made.attributes.add(key=key, value=any_value(value))
    if body is not None:
        made.body.CopyFrom(any_value(body))
    return made


def send_logs(client, *records):
    request = ExportLogsServiceRequest()
    request.resource_logs.add().scope_logs.add().log_records.extend(records)
    answer = client.post("/v1/logs", content=request.SerializeToString(), headers=PROTOBUF)
    assert answer.status_code == 200, answer.content
    return ExportLogsServiceResponse.FromString(answer.content)


def send_span(client, trace=TRACE, span=SPAN, **attributes):
    request = ExportTraceServiceRequest()
    made = request.resource_spans.add().scope_spans.add().spans.add(
        trace_id=trace, span_id=span, name="chat", start_time_unix_nano=NOW, end_time_unix_nano=NOW + 10**9
    )  # fmt: skip
    for key, value in ({"gen_ai.operation.name": "chat"} | attributes).items():
        made.attributes.add(key=key, value=any_value(value))
    answer = client.post("/v1/traces", content=request.SerializeToString(), headers=PROTOBUF)
    assert answer.status_code == 200


CHOICE = {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "Berlin"}}
EVENTS = [
    log("gen_ai.system.message", {"content": "Be brief."}, at=1),
    log("gen_ai.user.message", {"content": "Capital of Germany?"}, at=2),
    log("gen_ai.choice", CHOICE, at=3),
]
WHOLE = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Capital of Germany?"}]


@pytest.mark.parametrize("order", ["before", "after", "around", "one by one", "twice"])
def test_messages_join_their_span_whichever_comes_first(client, order):
    if order == "before":
        send_logs(client, *EVENTS)
        send_span(client)
    elif order == "after":
        send_span(client)
        send_logs(client, *EVENTS)
    elif order == "around":
        send_logs(client, EVENTS[0])
        send_span(client)
        send_logs(client, *EVENTS[1:])
    elif order == "one by one":
        for event in EVENTS:
            send_logs(client, event)
        send_span(client)
    else:
        send_logs(client, *EVENTS)
        send_span(client)
        send_logs(client, *EVENTS)
        send_span(client)
    (row,) = rows()
    assert json.loads(row.input) == WHOLE
    assert row.output == "Berlin"
    assert (row.input_chars, row.output_chars) == (28, 6)


def test_a_span_that_carries_its_content_keeps_it(sqlite_client):
    send_logs(sqlite_client, *EVENTS)
    send_span(sqlite_client, **{"gen_ai.completion": "Bonn", "gen_ai.prompt": "Capital?"})
    send_logs(sqlite_client, log("gen_ai.user.message", {"content": "again"}, at=9))
    (row,) = rows()
    assert row.output == "Bonn"
    assert json.loads(row.input) == [{"role": "user", "content": "Capital?"}]


def test_events_of_older_kind_and_the_details_event_are_read(sqlite_client):
    other = secrets.token_bytes(8)
    send_logs(
        sqlite_client, log("gen_ai.user.message", {"content": "Hi"}, old=True), log("gen_ai.choice", CHOICE, old=True)
    )
    details = {
        "gen_ai.input.messages": json.dumps([{"role": "user", "parts": [{"type": "text", "content": "Hi"}]}]),
        "gen_ai.output.messages": json.dumps([{"role": "assistant", "parts": [{"type": "text", "content": "Berlin"}]}]),
    }
    send_logs(sqlite_client, log("gen_ai.client.inference.operation.details", attributes=details, span=other))
    send_span(sqlite_client)
    send_span(sqlite_client, span=other)
    assert {(row.input, row.output) for row in rows()} == {('[{"role":"user","content":"Hi"}]', "Berlin")}


def test_evaluations_become_feedback(client):
    evaluation = {
        "gen_ai.evaluation.name": "relevance", "gen_ai.evaluation.score.value": 0.9,
        "gen_ai.evaluation.score.label": "good", "gen_ai.evaluation.explanation": "on topic",
    }  # fmt: skip
    by_response = {
        "gen_ai.evaluation.name": "tone", "gen_ai.evaluation.score.label": "calm", "gen_ai.response.id": "chatcmpl-1"
    }  # fmt: skip
    records = [
        log("gen_ai.evaluation.result", attributes=evaluation),
        log("gen_ai.evaluation.result", attributes=by_response, trace=b"", span=b""),
    ]
    assert not send_logs(client, *records).HasField("partial_success")
    send_logs(client, *records)
    stored = {f.name: (f.generation_id, f.value, f.label, f.comment) for f in rows(Feedback)}
    assert stored == {
        "relevance": ((TRACE + SPAN).hex(), 0.9, "good", "on topic"),
        "tone": ("chatcmpl-1", None, "calm", None),
    }
    assert len(rows(Feedback)) == 2


def test_what_is_not_taken_of_logs_is_refused_in_words(client):
    named = {"gen_ai.evaluation.name": "x"}
    answer = send_logs(
        client,
        log("", "plain line"),
        log("app.started"),
        log("gen_ai.user.message", {"content": "no span"}, span=b""),
        log("gen_ai.evaluation.result", attributes=named),
        log("gen_ai.evaluation.result", attributes=named | {"gen_ai.evaluation.score.value": float("nan")}),
        *EVENTS,
    )  # fmt: skip
    assert answer.partial_success.rejected_log_records == 5
    assert "log store" in answer.partial_success.error_message
    assert [(i.reason, i.n) for i in rows(Intake)] == [("other_logs", 5)]


def test_logs_in_json_are_read_alike(sqlite_client):
    record = {
        "timeUnixNano": str(NOW), "traceId": TRACE.hex(), "spanId": SPAN.hex(), "eventName": "gen_ai.choice",
        "body": {"kvlistValue": {"values": [{"key": "message", "value": {"kvlistValue": {"values": [
            {"key": "content", "value": {"stringValue": "Berlin"}}]}}}]}},
    }  # fmt: skip
    body = {"resourceLogs": [{"scopeLogs": [{"logRecords": [record, {"body": {"stringValue": "line"}}]}]}]}
    answer = sqlite_client.post("/v1/logs", json=body)
    assert answer.json()["partialSuccess"]["rejectedLogRecords"] == "1"
    send_span(sqlite_client)
    assert rows()[0].output == "Berlin"
