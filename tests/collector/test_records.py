import gzip
import json
import math
import time
import zlib
from concurrent.futures import ThreadPoolExecutor

import pytest
from datasketches import kll_floats_sketch
from fastapi.testclient import TestClient
from sqlmodel import select

from driftline.moment import iso, now_us
from driftline.store.engine import reading, writing
from driftline.store.projects import create_key, ensure_project
from driftline.store.tables import (
    ClientCount,
    Feedback,
    Generation,
    Intake,
    Project,
    Rollup,
    Route,
    Variant,
)


def record(identity: str = "a", **more):
    return {"id": identity, "started_at": time.time(), "variant": "llama-q4", "output": "Berlin"} | more


def post(server: TestClient, *records, **more):
    return server.post("/v1/records", content=json.dumps({"records": list(records)} | more))


def rows(table=Generation):
    with reading() as session:
        return session.exec(select(table)).all()


def test_a_record_is_stored_as_it_was_sent(client):
    at = now_us()
    sent = record(
        "r1", started_at=iso(at), model="llama", input="Capital of Germany?", latency_ms=120.5, ttft_ms=20.0,
        input_tokens=5, output_tokens=1, cost_usd=0.0012345, session_id="s", user_id="u",
        tags={"route": "qa", "n": 3, "b": True}, sample_rate=0.5,
    )  # fmt: skip
    assert post(client, sent).json() == {"accepted": 1, "duplicates": 0, "rejected": []}
    (row,) = rows()
    assert row.id == "r1"
    assert abs(row.started_at - at) < 1000
    assert json.loads(row.input) == [{"role": "user", "content": "Capital of Germany?"}]
    assert (row.output, row.input_chars, row.output_chars) == ("Berlin", 19, 6)
    assert (row.latency_ms, row.ttft_ms, row.input_tokens, row.output_tokens) == (120.5, 20.0, 5, 1)
    assert row.cost_nano == 1_234_500
    assert (row.status, row.error, row.session_id, row.user_id, row.route) == ("ok", None, "s", "u", "qa")
    assert row.tags == {"route": "qa", "n": "3", "b": "true"}
    assert row.sample_rate == 0.5
    assert at <= row.received_at <= now_us()


def test_an_unknown_variant_and_route_register_themselves(client):
    post(client, record("a"), record("b", variant=None, model="gpt"), record("c", variant=None))
    assert {v.name: (v.spec, v.state, v.build_state) for v in rows(Variant)} == {
        name: ({"runner": "external"}, "production", "built") for name in ("llama-q4", "gpt", "unknown")
    }
    (route,) = rows(Route)
    first = next(v for v in rows(Variant) if v.name == "llama-q4")
    assert (route.name, route.production_variant_id) == ("default", first.id)


def test_a_route_without_a_variant_gets_the_first_one_heard(client):
    with writing() as session:
        session.add(Route(project_id=ensure_project(session).id, name="default", updated_at=0))
    post(client, record("a"))
    assert rows(Route)[0].production_variant_id == rows(Variant)[0].id


def test_sending_again_changes_nothing(client):
    assert post(client, record("a"), record("b")).json()["accepted"] == 2
    again = post(client, record("b", output="other"), record("c"), record("a", output="other")).json()
    assert again == {"accepted": 1, "duplicates": 2, "rejected": []}
    assert {row.id: row.output for row in rows()} == dict.fromkeys("abc", "Berlin")
    assert sum(r.n for r in rows(Rollup)) == 3
    assert [(i.reason, i.n) for i in rows(Intake)] == [("duplicates", 2)]


def test_of_the_same_id_in_one_batch_the_first_wins(client):
    answer = post(client, record("a", output="first"), record("b"), record("a", output="second")).json()
    assert answer == {"accepted": 2, "duplicates": 1, "rejected": []}
    assert {row.id: row.output for row in rows()} == {"a": "first", "b": "Berlin"}
    assert sum(r.n for r in rows(Rollup)) == 2


def test_one_bad_record_does_not_fail_the_batch(client):
    answer = post(client, record("a"), record("", output="x"), record("b"), {"id": "c"}).json()
    assert answer["accepted"] == 2
    assert [r["index"] for r in answer["rejected"]] == [1, 3]
    assert {row.id for row in rows()} == {"a", "b"}
    assert [(i.reason, i.n) for i in rows(Intake)] == [("rejected", 2)]


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"latency_ms": math.nan}, "latency_ms"),
        ({"latency_ms": -1}, "latency_ms"),
        ({"ttft_ms": math.inf}, "ttft_ms"),
        ({"input_tokens": -3}, "input_tokens"),
        ({"input_tokens": 1.5}, "input_tokens"),
        ({"output_tokens": 10**30}, "output_tokens"),
        ({"cost_usd": math.nan}, "cost_usd"),
        ({"sample_rate": 0}, "sample_rate"),
        ({"sample_rate": math.nan}, "sample_rate"),
        ({"status": "fine"}, "status"),
        ({"id": "x" * 65}, "id"),
        ({"id": "a\x00b"}, "id"),
        ({"id": "a\ud800"}, "id"),
        ({"id": 5}, "id"),
        ({"output": None}, "output"),
        ({"tags": {"a": {"b": 1}}}, "tags"),
        ({"tags": {str(n): "x" for n in range(65)}}, "tags"),
        ({"tags": {"a": "x" * 2000}}, "tag 'a'"),
        ({"started_at": "yesterday"}, "started_at"),
        ({"started_at": "2001-01-01T00:00:00Z"}, "clock"),
        ({"started_at": "2101-01-01T00:00:00Z"}, "clock"),
        ({"started_at": 1.7e12}, "milliseconds"),
        ({"started_at": math.nan}, "started_at"),
        ({"started_at": 1e308}, "started_at"),
        ({"started_at": True}, "started_at"),
    ],
)
def test_what_cannot_be_true_is_refused_in_words(sqlite_client, change, word):
    if word == "milliseconds":
        change = {"started_at": time.time() * 1000}
    answer = post(sqlite_client, record("good"), record(**change)).json()
    assert answer["accepted"] == 1
    (refusal,) = answer["rejected"]
    assert refusal["index"] == 1
    assert word in refusal["reason"]
    assert [row.id for row in rows()] == ["good"]


def test_nul_bytes_and_lone_surrogates_are_replaced(client):
    odd = "a\x00b\ud800c😀"
    sent = record(
        "a", input=odd, output=odd, error=odd, model=odd, user_id=odd, session_id=odd, tags={odd: odd}, variant=odd
    )
    assert post(client, sent).json()["accepted"] == 1
    (row,) = rows()
    tidy = "a\ufffdb\ufffdc😀"
    assert (row.output, row.error, row.model, row.user_id, row.session_id) == (tidy,) * 5
    assert json.loads(row.input)[0]["content"] == tidy
    assert row.tags == {tidy: tidy}


def test_a_prompt_of_ten_megabytes_is_cut_with_a_mark(client):
    post(client, record("a", input="x" * 10_000_000, output="y" * 2_000_000))
    (row,) = rows()
    assert (row.input_chars, row.output_chars) == (10_000_000, 2_000_000)
    assert len(row.input) < 300_000
    assert "more characters]" in row.input
    assert row.output.endswith(f"…[{2_000_000 - 262_144} more characters]")


def test_messages_of_many_shapes_become_texts(sqlite_client):
    picture = {"type": "image_url", "image_url": {"url": "x"}}
    call = {"id": "1", "function": {"name": "find", "arguments": '{"q":1}'}}
    prompt = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": [{"type": "text", "text": "Look:"}, picture]},
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "content": "42"},
    ]
    post(sqlite_client, record("a", input=prompt))
    assert json.loads(rows()[0].input) == [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Look:\n[image_url]"},
        {"role": "assistant", "content": '[tool call find({"q":1})]'},
        {"role": "tool", "content": "42"},
    ]


def test_gzip_and_deflate_are_inflated(sqlite_client):
    raw = zlib.compressobj(wbits=-15)
    bodies = {
        "gzip": gzip.compress(json.dumps({"records": [record("a")]}).encode()),
        "deflate": zlib.compress(json.dumps({"records": [record("b")]}).encode()),
        "Deflate": raw.compress(json.dumps({"records": [record("c")]}).encode()) + raw.flush(),
    }
    for encoding, body in bodies.items():
        answer = sqlite_client.post("/v1/records", content=body, headers={"content-encoding": encoding})
        assert answer.json()["accepted"] == 1
    two = json.dumps({"records": [record("d")]}).encode()
    members = gzip.compress(two[:20]) + gzip.compress(two[20:])
    assert sqlite_client.post("/v1/records", content=members, headers={"content-encoding": "gzip"}).status_code == 200
    assert {row.id for row in rows()} == set("abcd")


def test_a_compressed_bomb_is_stopped_while_inflating(sqlite_client):
    bomb = gzip.compress(b"\0" * 200_000_000, 9)
    assert len(bomb) < 300_000
    start = time.process_time()
    answer = sqlite_client.post("/v1/records", content=bomb, headers={"content-encoding": "gzip"})
    assert answer.status_code == 413
    assert "20 MiB" in answer.json()["detail"]
    assert time.process_time() - start < 3


@pytest.mark.parametrize(
    ("body", "headers"),
    [
        (b'{"records": [{"id": ', {}),
        (b"", {}),
        (b"[]", {}),
        (b'{"records": {}}', {}),
        (b"\xff\xfe", {}),
        (b"[" * 100_000, {}),
        (b'{"records": [' + b"[" * 100_000, {}),
        (gzip.compress(b'{"records": []}', mtime=0)[:-5], {"content-encoding": "gzip"}),
        (b"not gzip", {"content-encoding": "gzip"}),
        (b"not deflated", {"content-encoding": "deflate"}),
        (b"{}", {"content-encoding": "br"}),
        (b'{"records": [], "client": {"id": 5}}', {}),
    ],
)
def test_a_body_that_cannot_be_read_is_refused_in_words(sqlite_client, body, headers):
    answer = sqlite_client.post("/v1/records", content=body, headers=headers)
    assert answer.status_code in (400, 422)
    assert len(answer.json()["detail"]) > 20
    assert rows() == []


def test_rollups_add_up_to_the_rows(client):
    sent = [
        record(str(n), latency_ms=float(n), ttft_ms=n / 2, input_tokens=n, output_tokens=2, cost_usd=1e-6,
               sample_rate=0.5, status=("ok", "error", "aborted")[n % 3])
        for n in range(300)
    ]  # fmt: skip
    for start in range(0, 300, 100):
        post(client, *sent[start : start + 100])
    deltas = rows(Rollup)
    assert sum(d.n for d in deltas) == 300
    assert sum(d.errors for d in deltas) == sum(d.aborted for d in deltas) == 100
    assert sum(d.input_tokens for d in deltas) == sum(range(300))
    assert sum(d.cost_nano for d in deltas) == 300_000
    assert sum(d.weight_sum for d in deltas) == 600.0
    assert sum(d.latency_n for d in deltas) == 300
    assert sum(d.latency_sum_ms for d in deltas) == pytest.approx(sum(range(300)))
    merged = kll_floats_sketch(200)
    for delta in deltas:
        merged.merge(kll_floats_sketch.deserialize(delta.latency_sketch))
        assert delta.ttft_sketch is not None
        assert delta.minute % 60_000_000 == 0
    assert merged.n == 300
    assert merged.get_quantile(0.5) == pytest.approx(150, abs=10)


def test_what_a_client_says_it_dropped_is_kept_as_the_largest_count(client):
    def say(*counts):
        told = [{"variant": v, "reason": r, "count": n} for v, r, n in counts]
        return post(client, client={"id": "c1", "counts": told})

    assert say(("v", "queue_full", 5), ("v", "sampled_out", 7)).status_code == 200
    assert say(("v", "queue_full", 9)).status_code == 200
    assert say(("v", "queue_full", 3)).status_code == 200
    assert {(c.reason, c.n) for c in rows(ClientCount)} == {("queue_full", 9), ("sampled_out", 7)}


def test_names_that_no_database_takes_do_not_cost_the_records_beside_them(client):
    counts = [{"variant": f"v{odd}", "reason": f"r{odd}", "count": 1} for odd in ("\0", "\ud800")]
    said = post(client, record(), client={"id": "c\0\ud800", "counts": counts})
    assert said.json() == {"accepted": 1, "duplicates": 0, "rejected": []}
    assert {(c.client, c.variant, c.reason) for c in rows(ClientCount)} == {("c\ufffd\ufffd", "v\ufffd", "r\ufffd")}


def test_feedback_may_come_before_its_generation_and_twice(client):
    def send(*items):
        return client.post("/v1/feedback", json={"feedback": list(items)}).json()

    good = {"generation_id": "g", "name": "thumbs", "value": True}
    label = {"generation_id": "g", "name": "expected", "value": "Berlin", "comment": "checked by hand"}
    own = {"id": "f1", "generation_id": "g", "name": "stars", "value": 4}
    assert send(good, label, own) == {"accepted": 3, "duplicates": 0, "rejected": []}
    assert send(good, label, own) == {"accepted": 0, "duplicates": 3, "rejected": []}
    stored = {f.name: (f.value, f.label, f.comment) for f in rows(Feedback)}
    assert stored == {
        "thumbs": (1.0, None, None),
        "expected": (None, "Berlin", "checked by hand"),
        "stars": (4.0, None, None),
    }


def test_feedback_that_cannot_be_used_is_refused_in_words(sqlite_client):
    items = [
        {"generation_id": "g", "name": "a", "value": math.nan},
        {"generation_id": "g", "name": "a", "value": [1]},
        {"generation_id": "", "name": "a", "value": 1},
        {"generation_id": "g", "name": "a\x00", "value": 1},
        {"generation_id": "g", "name": "a"},
        {"generation_id": "g", "name": "fine", "value": 1},
    ]
    answer = sqlite_client.post("/v1/feedback", content=json.dumps({"feedback": items})).json()
    assert [r["index"] for r in answer["rejected"]] == [0, 1, 2, 3, 4]
    assert answer["accepted"] == 1


@pytest.mark.parametrize(
    ("rule", "prompt", "output"),
    [
        ("full", "mail ana@example.org", "ask bob@example.org"),
        ("redacted", "mail [email]", "ask [email]"),
        ("hashed", "sha256:", "sha256:"),
        ("none", None, None),
    ],
)
def test_a_project_says_what_is_kept_of_texts(sqlite_client, rule, prompt, output):
    with writing() as session:
        ensure_project(session).store_text = rule
    post(
        sqlite_client,
        record("a", input="mail ana@example.org", output="ask bob@example.org", user_id="ana@example.org"),
    )
    (row,) = rows()
    assert (row.input_chars, row.output_chars) == (20, 19)
    if prompt is None:
        assert (row.input, row.output) == (None, None)
    else:
        assert json.loads(row.input)[0]["content"].startswith(prompt)
        assert row.output.startswith(output)
    assert ("@" in row.user_id) == (rule == "full")


def test_many_senders_at_once_lose_and_double_nothing(client):
    def send(worker: int) -> int:
        batches = [[record(f"{(worker + k) % 12}-{k}-{n}") for n in range(20)] for k in range(10)]
        return sum(post(client, *batch).json()["accepted"] for batch in batches)

    with ThreadPoolExecutor(8) as pool:
        accepted = sum(pool.map(send, range(8)))
    stored = [row.id for row in rows()]
    assert len(stored) == len(set(stored)) == accepted
    assert sum(r.n for r in rows(Rollup)) == accepted


def test_rows_are_numbered_in_the_order_they_arrive(client):
    for n in range(5):
        post(client, record(f"{n}a"), record(f"{n}b"))
    stored = sorted(rows(), key=lambda row: row.seq)
    assert [row.id for row in stored] == [f"{n}{c}" for n in range(5) for c in "ab"]
    assert [row.received_at for row in stored] == sorted(row.received_at for row in stored)


def test_a_key_of_one_project_writes_to_that_project_alone(client):
    with writing() as session:
        keys = {name: create_key(session, ensure_project(session, name), "app", ["ingest"], "test") for name in "xy"}
        reader = create_key(session, ensure_project(session, "x"), "reader", ["read"], "test")
    for name, key in keys.items():
        sent = client.post(
            "/v1/records", json={"records": [record("same", output=name)]}, headers={"authorization": f"Bearer {key}"}
        )
        assert sent.json()["accepted"] == 1
    with reading() as session:
        names = {p.id: p.name for p in session.exec(select(Project))}
    assert {names[row.project_id]: row.output for row in rows()} == {"x": "x", "y": "y"}
    assert (
        client.post("/v1/records", json={"records": []}, headers={"authorization": f"Bearer {reader}"}).status_code
        == 403
    )
    assert (
        client.post("/v1/records", json={"records": []}, headers={"authorization": "Bearer wrong"}).status_code == 401
    )
    assert client.post("/v1/records", json={"records": []}).status_code == 401


def test_more_records_than_a_request_may_hold_are_413_in_words(sqlite_client):
    answer = post(sqlite_client, *[record(str(number)) for number in range(10_001)])
    assert (answer.status_code, "at most 10000 are taken. Send several" in answer.text) == (413, True)
    assert rows() == []
