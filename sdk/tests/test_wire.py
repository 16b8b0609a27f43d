"""Whatever an application hands in, what is sent is a valid record, redacted, and nothing is raised."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from local_collector import Collector, accounted, record_check, start

import driftline_sdk
from driftline_sdk import faults
from driftline_sdk.client import Client
from driftline_sdk.generation import Generation
from driftline_sdk.intake import held
from driftline_sdk.settings import Settings
from driftline_sdk.wire import Unsendable, _bytes, encoded, plain

CHECK = record_check()
CLIENT = Client(Settings(spool_dir="", variant="v"))
anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary() | st.just(object()),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=12,
)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**60), 2**60) | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=12,
)
FIELDS = ["output", "latency_ms", "ttft_ms", "input_tokens", "output_tokens", "cost_usd", "error", "session_id"]


@given(anything, st.dictionaries(st.sampled_from(FIELDS), anything), st.dictionaries(st.text(max_size=5), anything))
def test_any_values_make_a_valid_record(asked: Any, fields: dict[str, Any], tags: dict[str, Any]) -> None:
    generation = Generation(CLIENT, input=asked, tags=tags)
    for name, value in fields.items():
        setattr(generation, name, value)
    generation.status = "ok"
    generation.weigh()
    record = json.loads(encoded(generation).text)
    assert CHECK(record) is None


@settings(max_examples=30)
@given(json_values)
def test_encoding_in_pieces_says_the_same(value: Any) -> None:
    fields = {"one": value, "long": "é\U0001f600\n" * 40_000}
    assert json.loads(_bytes(fields, large=True)) == json.loads(_bytes(fields)) == fields


@given(json_values)
def test_what_is_held_is_what_was_given(value: Any) -> None:
    copy, weight = held(value)
    assert plain("input", copy) == plain("input", value)
    assert weight > 0


def test_what_is_held_does_not_change_with_the_original() -> None:
    messages = [{"role": "user", "content": [{"type": "text", "text": "one"}]}]
    copy, _ = held(messages)
    messages[0]["content"][0]["text"] = "two"  # type: ignore[index]
    messages[0]["role"] = "system"
    assert plain("input", copy) == [{"role": "user", "content": [{"type": "text", "text": "one"}]}]


def test_the_weight_of_a_long_history_is_about_its_memory() -> None:
    _, weight = held([{"role": "user", "content": f"{number}" + "x" * 1_000} for number in range(100)])
    assert 100_000 < weight < 150_000


def test_lone_surrogates_and_nul_bytes_are_sent_as_something_valid(sdk: Any, collector: Collector) -> None:
    sent = sdk.record(input="a\ud800b", output="c\x00d", tags={"\udfff": "\ud800"})
    assert sdk.flush(5)
    assert (collector.records[sent]["input"], collector.records[sent]["output"]) == ("a?b", "c\x00d")


def test_objects_of_client_libraries_are_sent_as_what_they_hold(sdk: Any, collector: Collector) -> None:
    class Message:
        def model_dump(self) -> dict[str, Any]:
            return {"role": "assistant", "content": "earlier"}

    sent = sdk.record(input=[{"role": "user", "content": "q"}, Message()], output={"answer": [1, 2]})
    assert sdk.flush(5)
    assert collector.records[sent]["input"][1] == {"role": "assistant", "content": "earlier"}
    assert collector.records[sent]["output"] == '{"answer":[1,2]}'


def test_numbers_that_cannot_be_are_left_out(sdk: Any, collector: Collector) -> None:
    sent = sdk.record(output="a", latency_ms=-1, ttft_ms=float("nan"), input_tokens=-5, cost_usd=float("inf"))
    assert sdk.flush(5)
    assert not {"latency_ms", "ttft_ms", "input_tokens", "cost_usd"} & collector.records[sent].keys()


def test_long_tags_are_cut_instead_of_costing_the_record(sdk: Any, collector: Collector) -> None:
    sent = sdk.record(output="a", tags={"x" * 200: "y" * 2_000, **{str(number): "z" for number in range(100)}})
    assert sdk.flush(5)
    tags = collector.records[sent]["tags"]
    assert len(tags) == 64
    assert max(map(len, tags)) == 128
    assert max(map(len, tags.values())) == 1_024


@pytest.mark.parametrize("name", ["input", "output", "model", "variant", "session_id", "user_id", "tag", "error"])
@pytest.mark.parametrize("share", [1.0, 0.999999])
def test_an_integer_that_python_does_not_write_down_costs_no_record(
    collector: Collector, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, name: str, share: float
) -> None:
    huge = 10**5_000
    monkeypatch.setattr(faults, "_seen", {})
    start(collector, sample_rate=share)
    with driftline_sdk.generation() as generation:
        generation.output = "a"
        if name == "tag":
            generation.tags["n"] = huge  # type: ignore[assignment]
        else:
            setattr(generation, name, {"n": [huge], huge: 10**4_000} if name in ("input", "output") else huge)
    assert driftline_sdk.flush(5)
    (record,) = collector.records.values()
    said = "(an integer of about 5001 digits)"
    assert said in (record["tags"]["n"] if name == "tag" else record[name])
    if name in ("input", "output"):
        assert json.loads(record[name]) == {"n": [said], said: 10**4_000}
    assert record["output"] == "a" or name == "output"
    assert f"Too large for {'a tag' if name == 'tag' else name}: {said}" in caplog.text


def test_redaction_happens_before_anything_leaves_the_process(collector: Collector, tmp_path: Any) -> None:
    def redact(record: dict[str, Any]) -> Any:
        record["input"] = record["input"].replace("Ada", "[name]")
        record["user_id"] = None
        return record

    start(collector, redact=redact, spool_dir=tmp_path)
    collector.script = [(503, {})]
    sent = driftline_sdk.record(input="I am Ada", output="Hello", user_id="ada@example.org")
    assert driftline_sdk.flush(10)
    assert collector.records[sent]["input"] == "I am [name]"
    assert "user_id" not in collector.records[sent]


def test_what_redaction_takes_out_or_breaks_is_counted_and_never_sent(collector: Collector) -> None:
    def redact(record: dict[str, Any]) -> Any:
        if record["output"] == "secret":
            return None
        if record["output"] == "odd":
            raise KeyError("a mistake in the hook")
        return {**record, "extra": {1, 2}} if record["output"] == "set" else record

    start(collector, redact=redact, variant="v")
    for output in ("secret", "odd", "fine", "set"):
        driftline_sdk.record(output=output)
    assert driftline_sdk.flush(5)
    stats = driftline_sdk.stats()
    assert stats["dropped"] == {"redacted": 1, "redact_failed": 1}
    assert accounted(stats)
    assert {record["output"] for record in collector.records.values()} == {"fine", "set"}
    assert collector.dropped("redact_failed") == 1


def test_an_item_that_is_no_json_is_counted() -> None:
    class Odd:
        def __str__(self) -> str:
            raise RuntimeError("no text")

    generation = Generation(CLIENT, input=Odd())
    with pytest.raises(Unsendable) as problem:
        encoded(generation)
    assert problem.value.reason == "unencodable"


def test_bodies_are_compressed_and_signed_with_the_key(collector: Collector) -> None:
    start(collector, api_key="the-key")
    driftline_sdk.record(output="a")
    assert driftline_sdk.flush(5)
    headers = collector.requests[0][3]
    assert headers["Content-Encoding"] == "gzip"
    assert headers["Authorization"] == "Bearer the-key"
