"""What is recorded arrives, whatever the collector answers."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest
from local_collector import Collector, accounted, eventually, start

import driftline_sdk


def test_a_generation_arrives_with_everything_that_was_said_of_it(collector: Collector) -> None:
    start(collector, variant="llama-int4", route="summarize", tags={"region": "eu"})
    with driftline_sdk.generation(
        [{"role": "user", "content": "Hello?"}], model="llama", session_id="s1", user_id="u1", tags={"plan": "free"}
    ) as g:
        time.sleep(0.01)
        g.first_token()
        g.output = "Hello!"
        g.usage(input_tokens=3, output_tokens=2, cost_usd=0.0001)
    assert driftline_sdk.flush(5)
    record = collector.records[g.id]
    assert record["input"] == [{"role": "user", "content": "Hello?"}]
    assert (record["output"], record["variant"], record["model"]) == ("Hello!", "llama-int4", "llama")
    assert (record["input_tokens"], record["output_tokens"], record["cost_usd"]) == (3, 2, 0.0001)
    assert (record["session_id"], record["user_id"], record["status"]) == ("s1", "u1", "ok")
    assert record["tags"] == {"region": "eu", "plan": "free", "route": "summarize"}
    assert 10 <= record["ttft_ms"] <= record["latency_ms"] < 5_000
    assert abs(record["started_at"] - time.time()) < 60


def test_the_input_is_recorded_as_it_was_when_the_call_began(sdk: Any, collector: Collector) -> None:
    messages = [{"role": "user", "content": "one"}]
    with sdk.generation(messages) as g:
        g.output = "two"
        messages[0]["content"] = "changed"
        messages.append({"role": "assistant", "content": "two"})
    assert sdk.flush(5)
    assert collector.records[g.id]["input"] == [{"role": "user", "content": "one"}]


def test_an_exception_becomes_an_error_and_goes_on_to_the_caller(sdk: Any, collector: Collector) -> None:
    with pytest.raises(RuntimeError, match="no answer"), sdk.generation("q") as g:
        raise RuntimeError("no answer")
    assert sdk.flush(5)
    record = collector.records[g.id]
    assert (record["status"], record["error"]) == ("error", "RuntimeError: no answer")


def test_breaking_off_is_not_an_error_but_aborted(sdk: Any, collector: Collector) -> None:
    with pytest.raises(KeyboardInterrupt), sdk.generation("q") as g:
        raise KeyboardInterrupt
    assert sdk.flush(5)
    assert collector.records[g.id]["status"] == "aborted"


def test_record_sends_a_finished_call_and_answers_with_its_id(sdk: Any, collector: Collector) -> None:
    given = sdk.record(id="call-1", input="q", output="a", latency_ms=1_000, ttft_ms=10, output_tokens=1, route="r")
    long = sdk.record(id="x" * 100, output="a")
    assert sdk.flush(5)
    assert given == "call-1"
    assert collector.records["call-1"]["started_at"] == pytest.approx(time.time() - 1, abs=5)
    assert collector.records["call-1"]["latency_ms"] == 1_000
    assert len(long) == 64
    assert "latency_ms" not in collector.records[long]


def test_feedback_arrives_once_however_often_it_is_sent(collector: Collector) -> None:
    start(collector)
    collector.script = [(503, {})]
    for value in (True, 4.5, "correct", "lone \ud800 surrogate"):
        driftline_sdk.feedback("g1", "judged", value, comment="days later")
    assert driftline_sdk.flush(10)
    assert [entry["value"] for entry in collector.feedback.values()] == [True, 4.5, "correct", "lone ? surrogate"]
    assert driftline_sdk.stats()["feedback"]["sent"] == 4


def test_retry_after_is_obeyed(collector: Collector) -> None:
    start(collector)
    collector.script = [(503, {"Retry-After": "1"})]
    driftline_sdk.record(output="a")
    assert driftline_sdk.flush(10)
    (first, *_), (second, *_) = collector.requests
    assert 1.0 <= second - first < 2.5
    assert len(collector.records) == 1


def test_a_server_in_trouble_is_asked_less_and_less_often(collector: Collector) -> None:
    start(collector)
    collector.always = (500, {})
    driftline_sdk.record(output="a")
    assert eventually(lambda: len(collector.requests) >= 3, 15)
    first, second, third = (at for at, *_ in collector.requests[:3])
    assert second - first >= 0.25
    assert third - second >= 0.5


def test_a_batch_that_is_too_large_is_split_and_only_the_too_large_record_is_dropped(collector: Collector) -> None:
    start(collector, variant="v", interval_s=0.2)
    collector.most_bytes = 20_000
    for number in range(40):
        driftline_sdk.record(id=f"r{number}", output="x" * (50_000 if number == 17 else 1_000))
    assert driftline_sdk.flush(10)
    assert len(collector.records) == 39
    assert "r17" not in collector.records
    stats = driftline_sdk.stats()
    assert stats["dropped"] == {"too_large": 1}
    assert accounted(stats)
    assert collector.counts[next(iter(collector.counts))] == {("v", "too_large"): 1}


def test_what_no_collector_could_take_is_not_even_sent(collector: Collector) -> None:
    start(collector)
    driftline_sdk.record(output="x" * (21 << 20))
    assert driftline_sdk.flush(10)
    assert driftline_sdk.stats()["dropped"] == {"too_large": 1}
    assert collector.dropped("too_large") == 1


def test_a_large_prompt_arrives_whole(sdk: Any, collector: Collector) -> None:
    text = 'one "quoted" é中\U0001f600 line\n' * 150_000
    g = sdk.record(input=[{"role": "user", "content": [{"type": "text", "text": text}]}], output=text)
    assert sdk.flush(20)
    assert collector.records[g]["output"] == text
    assert collector.records[g]["input"][0]["content"][0]["text"] == text


def test_rejected_records_are_counted_and_the_others_delivered(collector: Collector) -> None:
    start(collector, variant="v")
    collector.reject = lambda record: "bad" if record["output"] == "bad" else None
    for number in range(10):
        driftline_sdk.record(output="bad" if number % 5 == 0 else "good")
    assert driftline_sdk.flush(5)
    assert driftline_sdk.stats()["dropped"] == {"rejected": 2}
    assert driftline_sdk.stats()["sent"] == len(collector.records) == 8
    assert collector.dropped("rejected") == 2


def test_a_refused_request_is_taken_apart_to_save_the_good_records(collector: Collector) -> None:
    start(collector, interval_s=0.2)
    collector.script = [(400, {}), (200, {}), (400, {}), (400, {})]
    for number in range(4):
        driftline_sdk.record(id=str(number), output="a")
    assert driftline_sdk.flush(5)
    stats = driftline_sdk.stats()
    assert stats["dropped"] == {"rejected": 1}
    assert accounted(stats)


def test_a_server_that_refuses_everything_is_not_bombarded(collector: Collector) -> None:
    start(collector, interval_s=0.2)
    collector.always = (400, {})
    for _ in range(400):
        driftline_sdk.record(output="a")
    assert not driftline_sdk.flush(2)
    assert len(collector.requests) < 60
    assert accounted(driftline_sdk.stats())
    assert driftline_sdk.stats()["queued"] > 350


@pytest.mark.parametrize("status", [401, 403, 404, 302])
def test_a_wrong_key_or_address_keeps_records_and_warns_once(
    collector: Collector, tmp_path: Path, status: int, caplog: pytest.LogCaptureFixture
) -> None:
    start(collector, spool_dir=tmp_path, api_key="secret-key")
    collector.always = (status, {})
    for _ in range(3):
        driftline_sdk.record(output="a")
        time.sleep(0.05)
    assert eventually(lambda: driftline_sdk.stats()["spooled"] == 3)
    warnings = [entry for entry in caplog.records if entry.name == "driftline_sdk"]
    assert len(warnings) == 1
    assert str(status) in warnings[0].getMessage()
    assert "secret-key" not in caplog.text
    assert len(collector.requests) == 1
    driftline_sdk.shutdown(1)
    collector.always = None
    start(collector, spool_dir=tmp_path, api_key="better-key")
    assert driftline_sdk.flush(5)
    assert len(collector.records) == 3
    assert collector.requests[-1][3]["Authorization"] == "Bearer better-key"


def test_a_slow_server_does_not_slow_the_application(collector: Collector) -> None:
    start(collector)
    collector.script = [1.5]
    driftline_sdk.record(output="first")
    time.sleep(0.2)
    began = time.perf_counter()
    for _ in range(500):
        driftline_sdk.record(output="while the server sleeps")
    assert time.perf_counter() - began < 0.5
    assert driftline_sdk.flush(10)
    assert len(collector.records) == 501


def test_an_answer_that_never_comes_is_given_up_and_sent_again(collector: Collector) -> None:
    start(collector, timeout_s=0.3)
    collector.script = [3.0]
    driftline_sdk.record(output="a")
    assert driftline_sdk.flush(10)
    assert len(collector.records) == 1
    assert driftline_sdk.stats()["sent"] == 1


def test_a_connection_that_the_server_closed_meanwhile_is_replaced_unnoticed(collector: Collector) -> None:
    start(collector)
    collector.hangs_up = True
    for _ in range(3):
        driftline_sdk.record(output="a")
        assert driftline_sdk.flush(5)
    assert len(collector.records) == 3
    assert driftline_sdk.stats()["last_error"] == ""


def test_without_a_collector_nothing_is_lost_but_what_the_queue_cannot_hold(collector: Collector) -> None:
    start(collector, queue_max=50, variant="v")
    collector.always = (503, {})
    driftline_sdk.record(output="a")
    assert eventually(lambda: bool(collector.requests))
    for _ in range(99):
        driftline_sdk.record(output="a")
    collector.always = None
    assert driftline_sdk.flush(10)
    stats = driftline_sdk.stats()
    assert stats["recorded"] == 100
    assert stats["sent"] == len(collector.records) == 51
    assert stats["dropped"] == {"queue_full": 49}
    assert accounted(stats)
    assert collector.dropped("queue_full") == 49


def test_the_queue_is_bounded_in_bytes_too(collector: Collector) -> None:
    start(collector, queue_max_bytes=1_000_000)
    collector.always = (503, {})
    driftline_sdk.record(output="a")
    assert eventually(lambda: bool(collector.requests))
    for _ in range(100):
        driftline_sdk.record(output="x" * 100_000)
    stats = driftline_sdk.stats()
    assert 0 < stats["queued_bytes"] <= 1_000_000
    assert stats["dropped"]["queue_full"] == 91
    assert accounted(stats)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html>",
        b"\xff\xfe",
        b"[" * 200_000,
        b"null",
        b'{"rejected": 5}',
        b'{"rejected": [5]}',
        b'{"rejected": [{"index": Infinity, "reason": "a"}]}',
        b'{"rejected": [{"index": "0x0"}]}',
        b'{"rejected": [{"index": -1, "reason": null}]}',
        b'{"rejected": [{"index": 7}]}',
    ],
)
def test_a_yes_in_a_form_that_nobody_knows_is_a_yes(collector: Collector, body: bytes) -> None:
    collector.raw = body
    start(collector)
    driftline_sdk.record(output="a")
    assert driftline_sdk.flush(5)
    assert len(collector.requests) == 1
    assert driftline_sdk.stats()["sent"] == 1


@pytest.mark.parametrize("again", ["0", "-5", "Thu, 01 Jan 1970 00:00:00 GMT", "Mon, 29 Nov 99999202699999", "soon"])
def test_a_server_that_says_at_once_is_not_bombarded_either(collector: Collector, again: str) -> None:
    start(collector)
    collector.always = (429, {"Retry-After": again})
    driftline_sdk.record(output="a")
    assert not driftline_sdk.flush(1.2)
    assert 1 <= len(collector.requests) <= 5


@pytest.mark.parametrize("name", ["a\ud800", "a\x00b", "v" * 500])
def test_a_variant_that_no_database_takes_does_not_hold_up_what_is_counted(collector: Collector, name: str) -> None:
    start(collector, sample_rate=0.0)
    driftline_sdk.record(output="a", variant=name)
    driftline_sdk.process.lose(name)
    assert driftline_sdk.flush(5)
    (counts,) = collector.counts.values()
    assert sorted(reason for _, reason in counts) == ["sampled_out", "unencodable"]
    for variant, _ in counts:
        assert len(variant) <= 128
        assert "\0" not in variant
        assert not any("\ud800" <= letter <= "\udfff" for letter in variant)
