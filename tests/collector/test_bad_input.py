"""What goes wrong out there, on every way in: refused in words or mended, never a 500, and nothing half stored."""

import gzip
import json
import math
import resource
import time
import zlib

import pytest
from fastapi.testclient import TestClient

from collector.core import Collector
from collector.messages import MAX_CHARS
from driftline.store.tables import Feedback, Generation, Rollup, SpanMessage
from tests.collector.spans import JSON, PROTOBUF, START, any_value, request, rows, send, span

PATHS = {
    "/v1/records": JSON, "/v1/feedback": JSON, "/v1/traces": PROTOBUF, "/v1/logs": PROTOBUF, "/v1/metrics": PROTOBUF,
    "/api/public/otel/v1/traces": PROTOBUF, "/api/public/scores": JSON, "/api/public/ingestion": JSON,
}  # fmt: skip
CHAT = {"gen_ai.operation.name": "chat", "gen_ai.request.model": "llama", "gen_ai.completion": "Berlin"}
YEAR_NS = 365 * 86_400 * 10**9
NASTY = "a\x00b\ud800c\udfffd"


def peak_mib() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("encoding", ["gzip", "deflate"])
def test_a_compressed_bomb_is_refused_before_it_is_inflated(sqlite_client, path, encoding):
    plain = b" " * (96 * 2**20)
    bomb = gzip.compress(plain, 1) if encoding == "gzip" else zlib.compress(plain, 1)
    del plain
    before = peak_mib()
    answer = sqlite_client.post(path, content=bomb, headers=PATHS[path] | {"content-encoding": encoding})
    assert answer.status_code == 413
    assert peak_mib() - before < 64


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("encoding", ["gzip", "deflate"])
def test_a_compressed_body_cut_off_is_refused_whole(sqlite_client, path, encoding):
    body = request(*(span(CHAT) for _ in range(20)))
    if PATHS[path] is JSON:
        record = {"id": "r", "started_at": time.time(), "output": "x" * 999}
        body = json.dumps({"records": [record], "feedback": [], "batch": []}).encode()
    packed = gzip.compress(body) if encoding == "gzip" else zlib.compress(body)
    answer = sqlite_client.post(
        path, content=packed[: len(packed) // 2], headers=PATHS[path] | {"content-encoding": encoding}
    )
    assert answer.status_code == 400
    assert rows() == rows(Feedback) == []


def test_an_archive_of_nothing_is_refused_before_it_fills_the_memory(sqlite_client):
    empty = gzip.compress(b"") * 2_000_000  # parts that never come to anything
    before = peak_mib()
    answer = sqlite_client.post("/v1/traces", content=empty, headers=PROTOBUF | {"content-encoding": "gzip"})
    assert answer.status_code == 413
    assert peak_mib() - before < 150  # the client holds it, too


@pytest.mark.parametrize("pack", [gzip.compress, zlib.compress, lambda body: zlib.compress(body)[2:-4]])
def test_a_compressed_body_may_come_byte_by_byte(sqlite_client, pack):
    packed = pack(request(span(CHAT)))
    encoding = {"content-encoding": "gzip" if pack is gzip.compress else "deflate"}
    pieces = (packed[place : place + 1] for place in range(len(packed)))
    assert sqlite_client.post("/v1/traces", content=pieces, headers=PROTOBUF | encoding).status_code == 200
    assert len(rows()) == 1
    one = sqlite_client.post("/v1/traces", content=packed[:1], headers=PROTOBUF | encoding)
    assert one.status_code == 400


@pytest.mark.parametrize("path", PATHS)
def test_json_of_millions_of_objects_is_refused_before_it_is_read(sqlite_client, path):
    body = b'{"records": [{"id": "a", "started_at": 1, "output": "", "input": [' + b"{}," * 2_000_000 + b"{}]}]}"
    before = peak_mib()
    answer = sqlite_client.post(path, content=body, headers=JSON)
    assert answer.status_code == 413
    assert "objects" in answer.text
    assert peak_mib() - before < 64


@pytest.mark.parametrize("odd", [["x"], {}, None, 5, [], [[]]])
def test_a_message_of_any_shape_is_stored(sqlite_client, odd):
    items = [{"type": odd}, {"lc": odd, "id": odd, "kwargs": odd}, {"lc": 1, "id": [odd], "kwargs": {"content": odd}},
             {"role": odd, "content": odd}, {"type": "ai", "content": odd, "tool_calls": odd}, {"toolUse": odd},
             {"type": "tool_call", "name": odd, "arguments": odd}, {"type": "tool_result", "output": odd}]  # fmt: skip
    record = {"id": "r", "started_at": time.time(), "output": "x", "input": items}
    assert sqlite_client.post("/v1/records", json={"records": [record]}).json()["accepted"] == 1
    texts = {name: json.dumps(items) for name in ("gen_ai.prompt", "gen_ai.completion", "events", "mlflow.spanInputs")}
    told = json.dumps([{"event.name": odd, "content": odd}, {"event.name": "gen_ai.choice", "message": odd}])
    sent = (span(CHAT | {name: text}) for name, text in [*texts.items(), ("events", told)])
    assert not send(sqlite_client, *sent).partial_success.rejected_spans


@pytest.mark.parametrize("share", [0.3, 0.6, 0.95])
def test_an_export_cut_off_is_refused_whole(sqlite_client, share):
    body = request(*(span(CHAT) for _ in range(20)))
    assert sqlite_client.post("/v1/traces", content=body[: int(len(body) * share)], headers=PROTOBUF).status_code == 400
    assert rows() == []


@pytest.mark.parametrize(
    ("attributes", "more", "word"),
    [
        ({"gen_ai.response.time_to_first_chunk": math.nan}, {}, "ttft_ms"),
        ({"gen_ai.response.time_to_first_chunk": -0.2}, {}, "ttft_ms"),
        ({"gen_ai.response.time_to_first_chunk": math.inf}, {}, "ttft_ms"),
        ({"ai.response.msToFirstChunk": -5.0}, {}, "ttft_ms"),
        ({}, {"end_time_unix_nano": START - 1}, "before it starts"),
        ({}, {"end_time_unix_nano": START + 8 * 86_400 * 10**9}, "latency_ms"),
        ({"gen_ai.usage.cost": math.nan}, {}, "cost_usd"),
        ({"driftline.sample_rate": math.nan}, {}, "sample_rate"),
        ({"gen_ai.usage.input_tokens": -1}, {}, "input_tokens"),
    ],
)
def test_latencies_and_counts_that_cannot_be_cost_their_span_alone(sqlite_client, attributes, more, word):
    answer = send(sqlite_client, span(CHAT), span(CHAT | attributes, **more))
    assert answer.partial_success.rejected_spans == 1
    assert word in answer.partial_success.error_message
    assert len(rows()) == 1
    assert sum(r.n for r in rows(Rollup)) == 1


@pytest.mark.parametrize("years", [-30, -3, 1, 40, 500])
def test_clocks_years_off_are_refused_with_both_times(sqlite_client, years):
    off = max(START + years * YEAR_NS, 1)
    answer = send(sqlite_client, span(CHAT), span(CHAT, start_time_unix_nano=off, end_time_unix_nano=off + 1))
    assert answer.partial_success.rejected_spans == 1
    assert "clock" in answer.partial_success.error_message
    sent = {"records": [{"id": "a", "started_at": off / 1e9, "output": "x"}]}
    (refused,) = sqlite_client.post("/v1/records", json=sent).json()["rejected"]
    assert "clock" in refused["reason"]
    assert len(rows()) == 1


def test_nul_bytes_and_lone_surrogates_of_spans_are_replaced(client: TestClient):
    names = ("gen_ai.request.model", "session.id", "user.id", "gen_ai.prompt", "gen_ai.completion", "error.type",
             "driftline.variant", "driftline.route", "driftline.tag.x", "service.name")  # fmt: skip
    made = {
        "traceId": "1" * 32, "spanId": "2" * 16, "startTimeUnixNano": str(START), "endTimeUnixNano": str(START + 10**6),
        "status": {"code": 2, "message": NASTY},
        "attributes": [{"key": name, "value": {"stringValue": NASTY}} for name in names],
    }  # fmt: skip
    body = json.dumps({"resourceSpans": [{"scopeSpans": [{"spans": [made]}]}]})
    assert client.post("/v1/traces", content=body, headers=JSON).json() == {}
    in_protobuf = span(dict.fromkeys(names, "a\x00b") | {"driftline.tag.a\x00b": "a\x00b"}, status=(2, "a\x00b"))
    assert not send(client, in_protobuf).partial_success.rejected_spans
    for row in rows():
        kept = (
            row.input,
            row.output,
            row.error,
            row.model,
            row.session_id,
            row.user_id,
            row.route,
            *row.tags,
            *row.tags.values(),
        )
        assert all("\x00" not in text for text in kept)
        json.dumps(kept, ensure_ascii=False).encode()
        assert "\ufffd" in row.output


def test_nul_bytes_and_lone_surrogates_of_feedback_scores_and_messages_are_replaced(client: TestClient):
    said = [{"generation_id": "g", "name": "expected", "value": NASTY, "comment": NASTY}]
    assert client.post("/v1/feedback", content=json.dumps({"feedback": said})).json()["accepted"] == 1
    scored = {"traceId": "g", "name": "tone", "value": "a\x00b", "comment": "a\x00b"}
    assert client.post("/api/public/scores", json=[scored]).status_code == 202
    event = {"timeUnixNano": str(START), "traceId": "1" * 32, "spanId": "2" * 16, "eventName": "gen_ai.user.message",
             "body": {"kvlistValue": {"values": [{"key": "content", "value": {"stringValue": NASTY}}]}}}  # fmt: skip
    body = json.dumps({"resourceLogs": [{"scopeLogs": [{"logRecords": [event]}]}]})
    assert client.post("/v1/logs", content=body, headers=JSON).json() == {}
    texts = [t for f in rows(Feedback) for t in (f.label, f.comment)] + [m.content for m in rows(SpanMessage)]
    assert len(texts) == 5
    assert all("\ufffd" in text and "\x00" not in text for text in texts)


def test_a_prompt_of_ten_megabytes_in_a_span_is_cut_with_a_mark(client: TestClient):
    megabyte = "word " * 200_000
    history = [{"role": "user", "content": megabyte} for _ in range(10)]
    assert not send(client, span(CHAT | {"gen_ai.input.messages": json.dumps(history)})).partial_success.rejected_spans
    (row,) = rows()
    assert row.input_chars == 10 * len(megabyte)
    assert MAX_CHARS <= len(row.input) < MAX_CHARS + 2000
    assert row.input.count("more characters]") == 10


def test_the_same_id_twice_in_a_batch_of_anything_is_stored_once(client: TestClient):
    ids = {"trace_id": b"\x01" * 16, "span_id": b"\x02" * 8}
    send(client, span(CHAT, **ids), span(CHAT | {"gen_ai.completion": "other"}, **ids))
    record = {"id": "a", "started_at": time.time(), "output": "first"}
    answer = client.post("/v1/records", json={"records": [record, record | {"output": "second"}]}).json()
    assert (answer["accepted"], answer["duplicates"]) == (1, 1)
    said = {"generation_id": "a", "name": "thumbs", "value": True}
    assert client.post("/v1/feedback", json={"feedback": [said, said]}).json()["accepted"] == 1
    score = {"traceId": "t", "name": "n", "value": 1, "id": "s"}
    assert client.post("/api/public/scores", json=[score, score]).status_code == 202
    assert sorted(row.output for row in rows()) == ["Berlin", "first"]
    assert sum(r.n for r in rows(Rollup)) == 2
    assert len(rows(Feedback)) == 2


@pytest.mark.parametrize("depth", [40, 5_000])
def test_attributes_nested_without_end_cost_nothing(sqlite_client, depth):
    value = any_value("x")
    for _ in range(40):  # more cannot be written in Protocol Buffers
        outer = any_value([])
        outer.array_value.values.append(value)
        value = outer
    deep = span(CHAT)
    deep.attributes.add(key="gen_ai.prompt", value=value)
    assert sqlite_client.post("/v1/traces", content=request(deep), headers=PROTOBUF).status_code in (200, 400)
    nested = "[" * depth + "]" * depth
    told = span(CHAT | {"gen_ai.prompt": nested, "gen_ai.output.messages": nested})
    assert not send(sqlite_client, told).partial_success.rejected_spans
    assert len(rows(Generation)) >= 1


def test_events_with_ever_new_names_cost_no_more_than_their_size(sqlite_client):
    details = "gen_ai.client.inference.operation.details"
    events = [(details, 0.1, {f"app.{n}.{m}": 1 for m in range(20)}) for n in range(6_000)]
    start = time.process_time()
    send(sqlite_client, span(CHAT | {"gen_ai.prompt": "Hi"}, events=events))
    assert time.process_time() - start < 4  # where each event copies all before it, this takes more
    assert rows()[0].output == "Berlin"


def field(number: int, *values: bytes) -> bytes:
    """A field of Protocol Buffers with each of the values."""
    made = []
    for value in values:
        length, size = len(value), bytearray()
        while length > 127:
            size.append(length & 127 | 128)
            length >>= 7
        made.append(bytes([number << 3 | 2]) + bytes([*size, length]) + value)
    return b"".join(made)


def with_prompt(value: bytes) -> bytes:
    return field(9, field(1, b"gen_ai.prompt") + field(2, value))


EMPTY = b"\x0a\x00" * 5_000_000  # the first field, empty, again and again
DENSE = {
    "elements of a value": ("/v1/traces", with_prompt(field(5, EMPTY))),
    "pairs of a value": ("/v1/traces", with_prompt(field(6, EMPTY))),
    "events": ("/v1/traces", b"\x5a\x00" * 5_000_000),
    "attributes of a span": ("/v1/traces", b"\x4a\x00" * 5_000_000),
    "attributes of an event": ("/v1/traces", field(11, field(2, b"gen_ai.choice") + b"\x1a\x00" * 5_000_000)),
    "attributes of a log record": ("/v1/logs", b"\x32\x00" * 5_000_000),
    "attributes of a point": ("/v1/metrics", field(1, b"gen_ai.x") + field(5, field(1, b"\x3a\x00" * 5_000_000))),
}


@pytest.mark.parametrize("kind", DENSE)
def test_millions_of_empty_parts_are_refused_before_they_fill_the_memory(sqlite_store, app_of, kind):
    path, more = DENSE[kind]
    body = field(1, field(2, field(2, span(CHAT).SerializeToString() + more if path == "/v1/traces" else more)))
    with TestClient(app_of(Collector(decoders=0))) as client:
        before, start = peak_mib(), time.process_time()
        answer = client.post(path, content=body, headers=PROTOBUF)
    assert answer.status_code == 200
    assert b"more than 100000" in answer.content
    assert rows() == []
    assert time.process_time() - start < 3
    assert peak_mib() - before < 300


def test_a_resource_of_millions_of_empty_attributes_is_refused(sqlite_store, app_of):
    body = field(1, field(1, EMPTY) + field(2, field(2, span(CHAT).SerializeToString())))
    with TestClient(app_of(Collector(decoders=0))) as client:
        before = peak_mib()
        answer = client.post("/v1/traces", content=body, headers=PROTOBUF)
    assert answer.status_code == 400
    assert peak_mib() - before < 300
