import gzip
import json
import math
import resource
import time
import zlib
from collections.abc import Callable
from typing import Any

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceResponse,
)

from collector.wire import RpcStatus
from driftline.store.tables import Intake, Rollup, Variant
from tests.collector.spans import JSON, PROTOBUF, START, request, rows, send, span

CHAT = {"gen_ai.operation.name": "chat", "gen_ai.request.model": "llama"}


MESSAGES = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "Capital of Germany?"},
]
PARTS = [{"role": m["role"], "parts": [{"type": "text", "content": m["content"]}]} for m in MESSAGES]
ANSWER = [{"role": "assistant", "parts": [{"type": "text", "content": "Berlin"}], "finish_reason": "stop"}]

OLD_GENAI = {
    "gen_ai.system": "openai", "gen_ai.operation.name": "chat", "gen_ai.request.model": "gpt",
    "gen_ai.response.model": "gpt-2024", "gen_ai.usage.prompt_tokens": 12, "gen_ai.usage.completion_tokens": 1,
}  # fmt: skip
GENAI = {
    "gen_ai.provider.name": "openai", "gen_ai.operation.name": "chat", "gen_ai.request.model": "gpt",
    "gen_ai.response.model": "gpt-2024", "gen_ai.usage.input_tokens": 12, "gen_ai.usage.output_tokens": 1,
    "gen_ai.conversation.id": "c1", "gen_ai.response.time_to_first_chunk": 0.25, "user.id": "u1",
}  # fmt: skip
OPENINFERENCE = {
    "openinference.span.kind": "LLM", "llm.model_name": "gpt-2024", "llm.provider": "openai",
    "llm.token_count.prompt": 12, "llm.token_count.completion": 1, "session.id": "c1", "user.id": "u1",
    "input.value": '{"messages": "the whole request"}', "output.value": "Berlin",
    "llm.input_messages.0.message.role": "system", "llm.input_messages.0.message.content": "Be brief.",
    "llm.input_messages.1.message.role": "user",
    "llm.input_messages.1.message.contents.0.message_content.type": "text",
    "llm.input_messages.1.message.contents.0.message_content.text": "Capital of Germany?",
    "llm.output_messages.0.message.role": "assistant", "llm.output_messages.0.message.content": "Berlin",
}  # fmt: skip
TRACELOOP = {
    "llm.request.type": "chat", "gen_ai.system": "OpenAI", "gen_ai.request.model": "gpt",
    "gen_ai.response.model": "gpt-2024", "gen_ai.usage.input_tokens": 12, "gen_ai.usage.output_tokens": 1,
    "gen_ai.prompt.0.role": "system", "gen_ai.prompt.0.content": "Be brief.", "gen_ai.prompt.1.role": "user",
    "gen_ai.prompt.1.content": '[{"type": "text", "text": "Capital of Germany?"}]',
    "gen_ai.completion.0.role": "assistant", "gen_ai.completion.0.content": "Berlin",
    "gen_ai.completion.0.finish_reason": "stop", "traceloop.association.properties.session_id": "c1",
    "traceloop.association.properties.user_id": "u1",
}  # fmt: skip
LANGFUSE = {
    "langfuse.observation.type": "generation", "langfuse.observation.model.name": "gpt-2024",
    "langfuse.observation.input": json.dumps(MESSAGES),
    "langfuse.observation.output": '{"role": "assistant", "content": "Berlin"}',
    "langfuse.observation.usage_details": '{"input": 12, "output": 1}',
    "langfuse.observation.cost_details": '{"input": 0.001, "output": 0.002}', "session.id": "c1", "user.id": "u1",
}  # fmt: skip
VERCEL = {
    "ai.model.id": "gpt-2024", "ai.prompt.messages": json.dumps(MESSAGES), "ai.response.text": "Berlin",
    "ai.usage.promptTokens": 12, "ai.usage.completionTokens": 1, "ai.response.msToFirstChunk": 250.0,
    "ai.telemetry.metadata.userId": "u1", "ai.telemetry.metadata.sessionId": "c1",
}  # fmt: skip

OLD_ANSWER = '[{"role": "assistant", "content": "Berlin"}]'
OLD_EVENTS = [
    ("gen_ai.system.message", 0, {"content": "Be brief."}),
    ("gen_ai.user.message", 0, {"content": "Capital of Germany?"}),
    (
        "gen_ai.choice",
        1,
        {"index": 0, "finish_reason": "stop", "message": '{"role": "assistant", "content": "Berlin"}'},
    ),
]
CONVENTIONS: dict[str, tuple[dict[str, Any], list[Any]]] = {
    "GenAI to 1.36, message events": (OLD_GENAI, OLD_EVENTS),
    "GenAI to 1.36, content attributes": (
        OLD_GENAI | {"gen_ai.prompt": json.dumps(MESSAGES), "gen_ai.completion": OLD_ANSWER},
        [],
    ),
    "GenAI to 1.36, content events": (
        OLD_GENAI,
        [
            ("gen_ai.content.prompt", 0, {"gen_ai.prompt": json.dumps(MESSAGES)}),
            ("gen_ai.content.completion", 1, {"gen_ai.completion": OLD_ANSWER}),
        ],
    ),
    "GenAI 1.37 to 1.41, JSON": (
        GENAI | {"gen_ai.input.messages": json.dumps(PARTS), "gen_ai.output.messages": json.dumps(ANSWER)}, []
    ),
    "GenAI 1.37 to 1.41, structured": (GENAI | {"gen_ai.input.messages": PARTS, "gen_ai.output.messages": ANSWER}, []),
    "GenAI, system instructions apart": (
        GENAI | {
            "gen_ai.system_instructions": '[{"type": "text", "content": "Be brief."}]',
            "gen_ai.input.messages": json.dumps(PARTS[1:]), "gen_ai.output.messages": json.dumps(ANSWER),
        },
        [],
    ),
    "GenAI, details event": (
        GENAI,
        [("gen_ai.client.inference.operation.details", 1,
          {"gen_ai.input.messages": json.dumps(PARTS), "gen_ai.output.messages": json.dumps(ANSWER)})],
    ),
    "OpenInference": (OPENINFERENCE, [("First Token Stream Event", 0.25, {})]),
    "Traceloop": (TRACELOOP, [("llm.content.completion.chunk", 0.25, {}), ("llm.content.completion.chunk", 0.5, {})]),
    "Langfuse": (
        LANGFUSE | {"langfuse.observation.completion_start_time": json.dumps(
            time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(START // 10**9)) + f".{START % 10**9 // 1000:06d}Z")},
        [],
    ),
    "Vercel AI SDK": (VERCEL, []),
}  # fmt: skip


@pytest.mark.parametrize("name", CONVENTIONS)
def test_every_convention_gives_the_whole_call(sqlite_client, name):
    attributes, events = CONVENTIONS[name]
    send(sqlite_client, span(attributes, events=events))
    (row,) = rows()
    assert json.loads(row.input) == MESSAGES
    assert row.output == "Berlin"
    assert (row.model, row.status, row.error) == ("gpt-2024", "ok", None)
    assert (row.input_tokens, row.output_tokens) == (12, 1)
    assert row.latency_ms == pytest.approx(1500)
    if "to 1.36" not in name:
        assert (row.session_id, row.user_id) == ("c1", "u1")
        assert row.ttft_ms == pytest.approx(0 if name == "Langfuse" else 250, abs=0.01)
    if name == "Langfuse":
        assert row.cost_nano == 3_000_000
    assert rows(Variant)[0].name == "gpt-2024"


def test_a_server_tells_when_its_first_token_was_there(sqlite_client):
    vllm = {
        "gen_ai.response.model": "llama", "gen_ai.request.id": "r1", "gen_ai.usage.prompt_tokens": 12,
        "gen_ai.usage.completion_tokens": 1, "gen_ai.latency.time_to_first_token": 0.25, "gen_ai.latency.e2e": 1.5,
    }  # fmt: skip
    send(sqlite_client, span(vllm, name="llm_request"))
    assert rows()[0].ttft_ms == pytest.approx(250)


def test_the_id_is_the_traces_and_the_spans(client):
    one = span(CHAT)
    send(client, one)
    assert rows()[0].id == one.trace_id.hex() + one.span_id.hex()


@pytest.mark.parametrize("place", ["span", "resource"])
def test_the_variant_may_be_named_on_the_span_or_the_resource(sqlite_client, place):
    named = {"driftline.variant": "llama-q4"}
    send(sqlite_client, span(CHAT | (named if place == "span" else {})), described=named if place == "resource" else {})
    assert rows(Variant)[0].name == "llama-q4"
    assert rows()[0].model == "llama"


def test_tags_come_from_known_attributes_alone(sqlite_client):
    attributes = CHAT | {
        "driftline.tag.tenant": "t1", "driftline.route": "qa", "metadata": '{"plan": "pro", "seats": 3}',
        "tag.tags": ["a", "b"],
        "gen_ai.response.finish_reasons": ["stop"], "http.request.header.authorization": "Bearer x",
    }  # fmt: skip
    send(sqlite_client, span(attributes), described={"service.name": "shop"})
    (row,) = rows()
    assert row.route == "qa"
    assert row.tags == {
        "tenant": "t1", "route": "qa", "plan": "pro", "seats": "3", "tags": "a,b", "finish_reason": "stop",
        "operation": "chat", "service": "shop",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("attributes", "status", "events", "expected"),
    [
        ({}, (2, "rate limited"), (), ("error", "rate limited")),
        ({"error.type": "TimeoutError"}, None, (), ("error", "TimeoutError")),
        (
            {},
            (2, ""),
            [("exception", 1, {"exception.type": "ValueError", "exception.message": "bad"})],
            ("error", "bad"),
        ),
        ({"error.type": "CancelledError"}, (2, ""), (), ("aborted", "CancelledError")),
        ({"driftline.status": "aborted"}, None, (), ("aborted", "aborted")),
        ({}, (1, "fine"), (), ("ok", None)),
    ],
)
def test_failed_and_aborted_calls_are_told_apart(sqlite_client, attributes, status, events, expected):
    send(sqlite_client, span(CHAT | attributes, status=status, events=events))
    (row,) = rows()
    assert (row.status, row.error) == expected


def test_spans_that_are_no_model_call_are_counted_and_not_stored(client):
    answer = send(
        client,
        span({"http.route": "/"}),
        span({"openinference.span.kind": "CHAIN", "input.value": "Hi", "output.value": "Ho"}),
        span({"gen_ai.operation.name": "execute_tool", "gen_ai.tool.name": "find"}),
        span({"langfuse.observation.type": "span", "langfuse.observation.input": "Hi"}),
        span({"traceloop.span.kind": "workflow"}),
        span({"input.value": "Hi", "output.value": "Ho"}),
    )
    assert not answer.HasField("partial_success")
    assert [row.output for row in rows()] == ["Ho"]
    assert [(i.reason, i.n) for i in rows(Intake)] == [("other_spans", 5)]


def test_tool_calls_can_be_read(sqlite_client):
    flattened = OPENINFERENCE | {
        "llm.output_messages.0.message.content": "",
        "llm.output_messages.0.message.tool_calls.0.tool_call.function.name": "find",
        "llm.output_messages.0.message.tool_calls.0.tool_call.function.arguments": '{"q": 1}',
    }
    part = {"type": "tool_call", "id": "1", "name": "find", "arguments": {"q": 1}}
    modern = GENAI | {"gen_ai.output.messages": json.dumps([{"role": "assistant", "parts": [part]}])}
    traceloop = {k: v for k, v in TRACELOOP.items() if k != "gen_ai.completion.0.content"} | {
        "gen_ai.completion.0.tool_calls.0.name": "find", "gen_ai.completion.0.tool_calls.0.arguments": '{"q": 1}',
    }  # fmt: skip
    send(sqlite_client, span(flattened), span(modern), span(traceloop))
    assert {row.output.replace(" ", "") for row in rows()} == {'[toolcallfind({"q":1})]'}


def test_content_may_be_absent(sqlite_client):
    send(sqlite_client, span(GENAI))
    (row,) = rows()
    assert (row.input, row.output, row.input_chars, row.output_chars) == (None, None, 0, 0)
    assert (row.input_tokens, row.status) == (12, "ok")


def test_a_huge_flattened_index_costs_nothing(sqlite_client):
    wild = OPENINFERENCE | {
        "llm.input_messages.999999999.message.content": "far",
        "llm.input_messages.-1.message.content": "negative",
        "llm.input_messages.99999999999999999999999999.message.content": "further",
        "llm.input_messages.message.content": "none",
        "llm.output_messages.0.message.tool_calls.999999999.tool_call.function.name": "x",
    }
    start = time.process_time()
    send(sqlite_client, span(wild))
    assert time.process_time() - start < 3
    assert json.loads(rows()[0].input) == MESSAGES


def test_flattened_parts_and_calls_are_in_their_order(sqlite_client):
    parts = {f"llm.input_messages.0.message.contents.{n}.message_content.text": str(n) for n in range(12)}
    calls = {f"gen_ai.completion.0.tool_calls.{n}.name": f"f{n}" for n in range(12)}
    wild = {"llm.input_messages.0.message.contents.5000.message_content.text": "far"}
    send(sqlite_client, span(CHAT | calls | parts | wild))
    (row,) = rows()
    assert json.loads(row.input)[0]["content"].split() == [str(n) for n in range(12)]
    assert row.output.split("\n") == [f"[tool call f{n}()]" for n in range(12)]


def test_one_bad_span_does_not_fail_the_export(client):
    broken = [
        span(CHAT, trace_id=b""),
        span(CHAT, span_id=b"\0" * 8),
        span(CHAT, start_time_unix_nano=0),
        span(CHAT, seconds=-1),
        span(CHAT, start_time_unix_nano=10**9, end_time_unix_nano=2 * 10**9),
        span(CHAT | {"gen_ai.usage.input_tokens": -5}),
        span(GENAI | {"gen_ai.response.time_to_first_chunk": math.nan}),
        span(GENAI | {"gen_ai.response.time_to_first_chunk": -1.0}),
    ]
    answer = send(client, span(CHAT), *broken, span(CHAT))
    assert answer.partial_success.rejected_spans == len(broken)
    assert "before it starts" in answer.partial_success.error_message
    assert len(rows()) == 2
    assert [(i.reason, i.n) for i in rows(Intake)] == [("rejected", len(broken))]


def test_a_span_that_cannot_be_decoded_is_refused_alone(sqlite_client):
    good = span(CHAT).SerializeToString()
    bad = b"\x0a\x7f"  # a trace id that is cut off
    scope = b"".join(
        b"\x12" + bytes([len(s)]) + s if len(s) < 128 else b"\x12" + varint(len(s)) + s for s in (good, bad)
    )
    body = field(1, field(2, scope))
    answer = sqlite_client.post("/v1/traces", content=body, headers=PROTOBUF)
    assert answer.status_code == 200
    assert ExportTraceServiceResponse.FromString(answer.content).partial_success.rejected_spans == 1
    assert len(rows()) == 1


def varint(number: int) -> bytes:
    made = b""
    while number > 127:
        made += bytes([number & 127 | 128])
        number >>= 7
    return made + bytes([number])


def field(number: int, value: bytes) -> bytes:
    return bytes([number << 3 | 2]) + varint(len(value)) + value


@pytest.mark.parametrize("level", ["resources", "scopes", "spans"])
def test_millions_of_empty_items_are_refused_in_bounded_time_and_memory(sqlite_client, level):
    many = b"\x12\x00" * 5_000_000
    body = {"spans": field(1, field(2, many)), "scopes": field(1, many), "resources": b"\x0a\x00" * 5_000_000}[level]
    before, start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.process_time()
    answer = sqlite_client.post("/v1/traces", content=body, headers=PROTOBUF)
    assert answer.status_code == 413
    assert "100000 items" in RpcStatus.FromString(answer.content).message
    assert time.process_time() - start < 10
    assert (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024 < 600
    assert rows() == []


def test_a_repeated_span_fills_only_what_was_empty(client):
    first = span(CHAT | {"gen_ai.usage.input_tokens": 5}, seconds=0, end_time_unix_nano=0)
    again = span(
        CHAT | {"gen_ai.usage.input_tokens": 99, "gen_ai.usage.output_tokens": 7, "gen_ai.completion": "Berlin",
                "gen_ai.usage.cost": 0.5},
        trace_id=first.trace_id, span_id=first.span_id,
    )  # fmt: skip
    send(client, first)
    send(client, again)
    send(client, again, again)
    (row,) = rows()
    assert (row.input_tokens, row.output_tokens, row.output, row.output_chars) == (5, 7, "Berlin", 6)
    assert row.latency_ms == pytest.approx(1500)
    assert row.cost_nano == 500_000_000
    total = {
        name: sum(getattr(r, name) for r in rows(Rollup))
        for name in ("n", "input_tokens", "output_tokens", "cost_nano", "latency_n")
    }
    assert total == {"n": 1, "input_tokens": 5, "output_tokens": 7, "cost_nano": 500_000_000, "latency_n": 1}


def test_the_same_span_twice_in_one_export_is_stored_once(client):
    one = span(CHAT)
    more = span(CHAT | {"gen_ai.completion": "Berlin"}, trace_id=one.trace_id, span_id=one.span_id)
    send(client, one, more)
    (row,) = rows()
    assert row.output == "Berlin"
    assert sum(r.n for r in rows(Rollup)) == 1


@pytest.mark.parametrize("encode", [gzip.compress, zlib.compress])
def test_compressed_exports_are_taken(sqlite_client, encode: Callable[[bytes], bytes]):
    name = "gzip" if encode is gzip.compress else "deflate"
    answer = sqlite_client.post(
        "/v1/traces", content=encode(request(span(CHAT))), headers=PROTOBUF | {"content-encoding": name}
    )
    assert answer.status_code == 200
    assert len(rows()) == 1


def test_an_empty_export_is_a_success(sqlite_client):
    answer = sqlite_client.post("/v1/traces", content=b"", headers=PROTOBUF)
    assert (answer.status_code, answer.content, answer.headers["content-type"]) == (200, b"", "application/x-protobuf")
    answer = sqlite_client.post("/v1/traces", content=b"{}", headers=JSON)
    assert (answer.status_code, answer.json()) == (200, {})


@pytest.mark.parametrize("body", [request(span(CHAT))[:-3], b"\xff" * 50, b"{}"])
def test_what_cannot_be_decoded_is_400_with_a_status_in_protobuf(sqlite_client, body):
    answer = sqlite_client.post("/v1/traces", content=body, headers=PROTOBUF)
    assert answer.status_code == 400
    assert answer.headers["content-type"] == "application/x-protobuf"
    status = RpcStatus.FromString(answer.content)
    assert status.code == 3
    assert "OTLP" in status.message


def test_details_that_an_event_names_make_a_call_of_a_model(sqlite_client):
    said = {"gen_ai.request.temperature": 0.1}
    send(sqlite_client, span({}, events=[("gen_ai.client.inference.operation.details", 0.5, said)]))
    assert len(rows()) == 1
