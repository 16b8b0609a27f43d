"""Whatever is sent: no crash, no 500, and nothing stored of what was rejected."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from fastapi.testclient import TestClient
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from sqlalchemy import delete, func
from sqlmodel import select

from collector.conventions import FLATTENED, KINDS, MESSAGE_EVENTS, RANKS, TAG_DOCUMENTS, TAG_PREFIXES, TAGS
from collector.record import Record
from driftline.moment import now_us
from driftline.store.engine import reading, writing
from driftline.store.tables import Feedback, Generation

FUZZ = settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
PROTOBUF = {"content-type": "application/x-protobuf"}
JSON = {"content-type": "application/json"}

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=10), inner, max_size=4),
    max_leaves=12,
)
names = [name for name in Record.__struct_fields__ if name != "id"]
plausible = st.fixed_dictionaries(
    {"id": st.text(min_size=1, max_size=70), "started_at": st.just(now_us() / 1e6), "output": st.text(max_size=50)}
)
oddities = st.dictionaries(st.sampled_from(["id", *names]), json_values, max_size=4)
records = st.builds(lambda good, odd: good | odd, plausible, oddities)
feedback = st.fixed_dictionaries(
    {"generation_id": st.text(max_size=70), "name": st.text(max_size=70), "value": json_values}
)


@pytest.fixture
def client(sqlite_store, app_of) -> Iterator[TestClient]:
    """A client that answers with 500 instead of raising."""
    with TestClient(app_of(), raise_server_exceptions=False) as opened:
        yield opened


def count(table=Generation) -> int:
    with reading() as session:
        return session.exec(select(func.count()).select_from(table)).one()


def clear() -> None:
    with writing() as session:
        session.execute(delete(Generation))
        session.execute(delete(Feedback))


@FUZZ
@given(st.lists(records | json_values, max_size=5))
def test_records_of_any_shape_are_stored_or_refused(client, sent):
    clear()
    answer = client.post("/v1/records", content=json.dumps({"records": sent}))
    assert answer.status_code == 200
    told = answer.json()
    assert told["accepted"] + told["duplicates"] + len(told["rejected"]) == len(sent)
    assert count() == told["accepted"]


@FUZZ
@given(st.lists(json_values | feedback, max_size=5))
def test_feedback_of_any_shape_is_stored_or_refused(client, sent):
    clear()
    answer = client.post("/v1/feedback", content=json.dumps({"feedback": sent}))
    assert answer.status_code == 200
    assert count(Feedback) == answer.json()["accepted"]


@FUZZ
@given(st.binary(max_size=300) | json_values.map(lambda value: json.dumps(value).encode()))
@pytest.mark.parametrize("kind", ["application/json", "application/x-protobuf"])
@pytest.mark.parametrize("path", ["/v1/records", "/v1/feedback", "/v1/traces", "/v1/logs", "/v1/metrics"])
def test_bodies_of_any_bytes_are_answered(client, path, kind, body):
    answer = client.post(path, content=body, headers={"content-type": kind})
    assert answer.status_code in (200, 400, 415, 422)
    if path.startswith(("/v1/t", "/v1/l", "/v1/m")):
        assert answer.headers["content-type"] == kind


paths = ["0.message.role", "0.role", "1.message.tool_calls.0.tool_call.function.name", "0.content"]
attribute_names = st.sampled_from([*RANKS, *TAGS, *TAG_DOCUMENTS, *KINDS]) | st.builds(
    lambda prefix, rest: prefix + rest,
    st.sampled_from([*FLATTENED, *TAG_PREFIXES]),
    st.text(max_size=8) | st.sampled_from(paths),
)
plain_text = st.text(st.characters(blacklist_categories=["Cs"]), max_size=20)
message_keys = st.sampled_from(["role", "content", "parts", "type", "text", "message", "tool_calls"])


def value_of(kind: str, given_from: st.SearchStrategy) -> st.SearchStrategy:
    return given_from.map(lambda value: {kind: value})


def nested(inner: st.SearchStrategy) -> st.SearchStrategy:
    pairs = st.builds(lambda key, value: {"key": key, "value": value}, message_keys, inner)
    lists = st.lists(inner, max_size=3).map(lambda items: {"values": items})
    return value_of("arrayValue", lists) | value_of(
        "kvlistValue",
        st.lists(pairs, max_size=3, unique_by=lambda pair: pair["key"]).map(lambda items: {"values": items}),
    )


any_values = st.recursive(
    value_of("stringValue", plain_text | json_values.map(json.dumps))
    | value_of("intValue", st.integers(-(2**63), 2**63 - 1))
    | value_of("doubleValue", st.floats())
    | value_of("boolValue", st.booleans())
    | st.just({}),
    nested,
    max_leaves=6,
)
attributes = st.lists(st.builds(lambda k, v: {"key": k, "value": v}, attribute_names, any_values), max_size=8)
events = st.lists(
    st.builds(
        lambda name, at, said: {"name": name, "timeUnixNano": str(at), "attributes": said},
        st.sampled_from([*MESSAGE_EVENTS, "exception", "First Token Stream Event", "gen_ai.content.prompt"]),
        st.integers(0, 2**64 - 1),
        attributes,
    ),
    max_size=2,
)
moments = st.integers(0, 2**64 - 1) | st.just(now_us() * 1000)
spans = st.builds(
    lambda ids, start, end, said, happened: {
        "traceId": ids[0].hex(), "spanId": ids[1].hex(), "startTimeUnixNano": str(start), "endTimeUnixNano": str(end),
        "attributes": said, "events": happened,
    },
    st.tuples(st.binary(min_size=16, max_size=16), st.binary(min_size=8, max_size=8)),
    moments, moments, attributes, events,
)  # fmt: skip


def as_protobuf(span: dict) -> ExportTraceServiceRequest:
    made = ExportTraceServiceRequest()
    group = made.resource_spans.add().scope_spans.add().spans.add()
    group.trace_id, group.span_id = bytes.fromhex(span["traceId"]), bytes.fromhex(span["spanId"])
    group.start_time_unix_nano, group.end_time_unix_nano = int(span["startTimeUnixNano"]), int(span["endTimeUnixNano"])
    for pair in span["attributes"]:
        fill(group.attributes.add(key=pair["key"]).value, pair["value"])
    for event in span["events"]:
        added = group.events.add(name=event["name"], time_unix_nano=int(event["timeUnixNano"]))
        for pair in event["attributes"]:
            fill(added.attributes.add(key=pair["key"]).value, pair["value"])
    return made


def fill(target, value: dict) -> None:
    for kind, said in value.items():
        if kind == "arrayValue":
            target.array_value.SetInParent()
            for item in said["values"]:
                fill(target.array_value.values.add(), item)
        elif kind == "kvlistValue":
            target.kvlist_value.SetInParent()
            for pair in said["values"]:
                fill(target.kvlist_value.values.add(key=pair["key"]).value, pair["value"])
        else:
            setattr(target, kind.replace("Value", "_value"), said)


@FUZZ
@given(spans)
def test_a_span_of_any_attributes_means_the_same_in_json_and_protobuf(client, span):
    stored = []
    as_json = json.dumps({"resourceSpans": [{"scopeSpans": [{"spans": [span]}]}]}).encode()
    for body, headers in ((as_json, JSON), (as_protobuf(span).SerializeToString(), PROTOBUF)):
        clear()
        answer = client.post("/v1/traces", content=body, headers=headers)
        assert answer.status_code == 200
        with reading() as session:
            rows = [
                row.model_dump(exclude={"seq", "received_at", "variant_id"}) for row in session.exec(select(Generation))
            ]
        refused = b"artial" in answer.content or len(answer.content) > 2
        assert not (rows and refused)
        stored.append(rows)
    assert repr(stored[0]) == repr(stored[1])


def test_coverage_guided_fuzzing_finds_nothing(tmp_path):
    pytest.importorskip("atheris", reason="needs the package atheris")
    command = [sys.executable, str(Path(__file__).with_name("fuzz_decoders.py")), "-max_total_time=10", "-seed=1"]
    found = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=300, check=False)
    assert found.returncode == 0, found.stderr[-4000:]
