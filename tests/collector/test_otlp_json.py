"""OTLP over HTTP as JSON, and what is refused before a span is read."""

import base64
import gzip
import json
import secrets

import pytest

from collector.wire import RpcStatus
from tests.collector.spans import JSON, PROTOBUF, START, rows


def json_span(**more):
    return {
        "traceId": secrets.token_hex(16), "spanId": secrets.token_hex(8), "startTimeUnixNano": str(START),
        "endTimeUnixNano": str(START + 10**9), "kind": 3, "status": {"code": 0},
        "attributes": [
            {"key": "gen_ai.operation.name", "value": {"stringValue": "chat"}},
            {"key": "gen_ai.usage.input_tokens", "value": {"intValue": "12"}},
            {"key": "gen_ai.usage.output_tokens", "value": {"intValue": 3}},
            {"key": "gen_ai.response.finish_reasons", "value": {"arrayValue": {"values": [{"stringValue": "stop"}]}}},
            {"key": "gen_ai.response.time_to_first_chunk", "value": {"doubleValue": 0.1}},
            {"key": "gen_ai.completion", "value": {"stringValue": "Berlin"}},
        ],
    } | more  # fmt: skip


def send_json(client, *spans, **more):
    body = {"resourceSpans": [{"resource": {}, "scopeSpans": [{"scope": {}, "spans": list(spans)}]}]} | more
    return client.post("/v1/traces", content=json.dumps(body), headers=JSON)


def test_json_ids_are_hexadecimal_and_big_numbers_texts(client):
    one = json_span(someNewField={"a": [1]})
    answer = send_json(client, one, someNewField=1)
    assert (answer.status_code, answer.json(), answer.headers["content-type"]) == (200, {}, "application/json")
    (row,) = rows()
    assert row.id == one["traceId"] + one["spanId"]
    assert (row.input_tokens, row.output_tokens, row.output, row.latency_ms) == (12, 3, "Berlin", 1000)
    assert row.ttft_ms == pytest.approx(100)
    assert row.tags["finish_reason"] == "stop"


def test_bad_spans_in_json_are_refused_alone(sqlite_client):
    broken = [
        json_span(traceId=base64.b64encode(secrets.token_bytes(16)).decode()),
        json_span(traceId=5),
        json_span(startTimeUnixNano="soon"),
        json_span(startTimeUnixNano=str(2**70)),
        json_span(attributes={"a": 1}),
        json_span(attributes=[{"key": "gen_ai.completion", "value": {"intValue": "x"}}]),
        json_span(attributes=[{"key": "gen_ai.completion", "value": {"intValue": 1.5}}]),
        json_span(attributes=[{"key": "gen_ai.completion", "value": {"intValue": 1e300}}]),
        json_span(attributes=[{"key": "gen_ai.completion", "value": {"doubleValue": "x"}}]),
        "no span",
        None,
    ]
    answer = send_json(sqlite_client, *broken, json_span())
    assert answer.status_code == 200
    assert answer.json()["partialSuccess"]["rejectedSpans"] == str(len(broken))
    assert len(rows()) == 1


@pytest.mark.parametrize(
    "body",
    [
        b"", b"[]", b"{", b"\xff", b'{"resourceSpans": 5}', b'{"resourceSpans": [5]}', b"[" * 10**5,
        *(b'{"resourceSpans": [{"resource": {"attributes": [{"key": "a", "value": {%s}}]}}]}' % value
          for value in (b'"intValue": "x"', b'"doubleValue": "x"', b'"intValue": "' + b"9" * 5000 + b'"')),
    ],
)  # fmt: skip
def test_what_cannot_be_decoded_is_400_with_a_status_in_json(sqlite_client, body):
    answer = sqlite_client.post("/v1/traces", content=body, headers=JSON)
    assert answer.status_code == 400
    assert answer.headers["content-type"] == "application/json"
    assert answer.json()["code"] == 3


def test_too_large_an_export_is_413_with_a_status(sqlite_client):
    bomb = gzip.compress(b"\0" * 50_000_000)
    answer = sqlite_client.post("/v1/traces", content=bomb, headers=PROTOBUF | {"content-encoding": "gzip"})
    assert answer.status_code == 413
    assert "20 MiB" in RpcStatus.FromString(answer.content).message


def test_another_content_type_is_refused_in_words(sqlite_client):
    answer = sqlite_client.post("/v1/traces", content=b"x", headers={"content-type": "text/csv"})
    assert answer.status_code == 415
    assert "text/csv" in RpcStatus.FromString(answer.content).message


@pytest.mark.parametrize(
    ("path", "counted", "n"), [("/v1/logs", "rejectedLogRecords", "1"), ("/v1/metrics", "rejectedDataPoints", "2")]
)
def test_numbers_that_are_none_are_refused_with_their_item_alone(sqlite_client, path, counted, n):
    attributes = [{"key": "gen_ai.evaluation.score.value", "value": {"doubleValue": "x"}}]
    record = {"eventName": "gen_ai.evaluation.result", "attributes": attributes}
    points = [{"timeUnixNano": START, "sum": "x"}, {"timeUnixNano": START, "count": 1, "attributes": attributes}]
    metric = {"name": "gen_ai.client.token.usage", "histogram": {"aggregationTemporality": 1, "dataPoints": points}}
    sent = {"resourceLogs": [{"scopeLogs": [{"logRecords": [record]}]}],
            "resourceMetrics": [{"scopeMetrics": [{"metrics": [metric]}]}]}  # fmt: skip
    answer = sqlite_client.post(path, content=json.dumps(sent), headers=JSON)
    assert answer.json()["partialSuccess"] == {counted: n, "errorMessage": "'x' is no number"}


def test_whole_numbers_may_be_written_as_fractions(sqlite_client):
    attributes = [{"key": "gen_ai.usage.input_tokens", "value": {"intValue": 12.0}}]
    send_json(sqlite_client, json_span(attributes=attributes, endTimeUnixNano=float(START + 10**9)))
    assert rows()[0].input_tokens == 12
