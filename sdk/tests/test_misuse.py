"""Whatever an application hands in, wherever: nothing is raised, and nothing is lost without being counted and told."""

from __future__ import annotations

import asyncio
import copy
import datetime
import gc
import inspect
import pickle
from collections.abc import Iterator
from typing import Any, Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from local_collector import Collector, accounted, start

import driftline_sdk
from driftline_sdk import faults


class Hostile:
    """An object that answers nothing."""

    def _refuse(self, *_: Any) -> Any:
        raise RuntimeError("do not touch")

    __str__ = __repr__ = __bool__ = __eq__ = __len__ = __iter__ = __float__ = __int__ = __index__ = __fspath__ = _refuse
    __getattr__ = __sizeof__ = __call__ = __contains__ = _refuse
    __hash__ = object.__hash__


HOSTILE = Hostile()
odd = st.one_of(
    st.just(HOSTILE),
    st.just(object()),
    st.sampled_from([None, "", "a\ud800", "a\x00b", b"bytes", 0, -1, 10**400, float("nan"), float("inf"), True, print]),
    st.text(max_size=80),
    st.lists(st.just(HOSTILE) | st.integers() | st.text(max_size=3), max_size=3),
    st.dictionaries(st.text(max_size=200) | st.integers(), st.just(HOSTILE) | st.text(max_size=3), max_size=3),
)
names = ["input", "model", "variant", "route", "session_id", "user_id", "tags", "id", "outptu"]
words = st.dictionaries(st.sampled_from(names), odd, max_size=4)
attributes = st.dictionaries(
    st.sampled_from(
        [name for name in driftline_sdk.Generation.__slots__ if not name.startswith("_")] + ["tags", "off"]
    ),
    odd,
    max_size=4,
)
methods = st.lists(
    st.tuples(
        st.sampled_from(["first_token", "usage", "piece", "tool_call", "fail", "end"]),
        st.lists(odd, max_size=4),
        st.dictionaries(
            st.sampled_from(["input_tokens", "text", "name", "place", "status", "tokens"]), odd, max_size=2
        ),
    ),
    max_size=3,
)


@pytest.fixture(autouse=True)
def as_in_production(strict: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DRIFTLINE_SDK_STRICT")
    monkeypatch.setattr(faults, "_seen", {})


@pytest.fixture(scope="module")
def server() -> Iterator[Collector]:
    running = Collector()
    yield running
    running.close()


def settled(server: Collector, calls: int) -> dict[str, Any]:
    """The numbers after everything went out; each of the calls is in one of them."""
    assert driftline_sdk.flush(20)
    stats = driftline_sdk.stats()
    assert accounted(stats)
    assert stats["recorded"] == calls
    assert driftline_sdk.shutdown(5)
    return stats


@settings(max_examples=150)
@given(st.lists(odd, max_size=2), words, attributes, methods)
def test_a_generation_takes_anything(
    server: Collector, args: list[Any], words: dict[str, Any], set_to: dict[str, Any], called: list[Any]
) -> None:
    start(server)
    with driftline_sdk.generation(*args, **words) as g:
        for name, value in set_to.items():
            setattr(g, name, value)
        for name, placed, named in called:
            getattr(g, name)(*placed, **named)
        g.tags["still"] = "there"
    stats = settled(server, 1)
    assert stats["sent"] or stats["errors"]


fields = st.dictionaries(
    st.sampled_from([*names, "output", "started_at", "latency_ms", "ttft_ms", "input_tokens", "cost_usd", "status"]),
    odd,
    max_size=5,
)


@settings(max_examples=150)
@given(st.lists(odd, max_size=1), fields, st.lists(odd, max_size=5), words)
def test_records_feedback_and_contexts_take_anything(
    server: Collector, args: list[Any], fields: dict[str, Any], judged: list[Any], context: dict[str, Any]
) -> None:
    start(server)
    with driftline_sdk.context(*args, **context):
        assert driftline_sdk.record(*args, **fields)
        assert driftline_sdk.feedback(*judged)
    stats = settled(server, 1)
    assert stats["feedback"]["recorded"] == 1
    assert stats["feedback"]["sent"] or (stats["feedback"]["dropped"] and stats["errors"])


@settings(max_examples=100)
@given(
    st.dictionaries(st.sampled_from([*driftline_sdk.settings.Settings._fields, "colour"]), odd, max_size=6),
    st.lists(odd, max_size=1),
)
def test_any_setting_starts_the_recording(server: Collector, given: dict[str, Any], args: list[Any]) -> None:
    given = {name: value for name, value in given.items() if name not in ("enabled", "spool_dir", "endpoint")}
    driftline_sdk.init(*args, **{"endpoint": server.endpoint, "spool_dir": "", **given})
    driftline_sdk.record(output="a")
    stats = driftline_sdk.stats()
    assert stats["recorded"] == 1
    assert driftline_sdk.shutdown(5) or stats["errors"]


@settings(max_examples=60)
@given(odd, odd, st.lists(odd, max_size=2))
def test_the_rest_takes_anything(server: Collector, one: Any, other: Any, more: list[Any]) -> None:
    start(server)
    assert driftline_sdk.watch(one, option=other) is one
    assert driftline_sdk.watch(one, *more) is one
    driftline_sdk.observe(one, model=other, colour=other)
    driftline_sdk.carry(*more)
    driftline_sdk.route(*more, fallback="f", wait_s=0, colour=one)
    driftline_sdk.stats(*more)  # type: ignore[call-arg]
    driftline_sdk.observe(tags=one, route=other)(len)("abc")
    driftline_sdk.observe(input=one, output=other)(len)("abc")
    for wait in (driftline_sdk.flush, driftline_sdk.shutdown):
        assert wait(one if isinstance(one, str) else None) in (True, False)


@pytest.mark.parametrize("timeout_s", ["soon", None, float("nan"), -1, float("inf")])
def test_an_odd_time_out_ends_the_recording_all_the_same(server: Collector, timeout_s: Any) -> None:
    start(server)
    sent = driftline_sdk.record(output="a")
    driftline_sdk.flush(5)
    assert asyncio.run(driftline_sdk.aflush(timeout_s))
    assert asyncio.run(driftline_sdk.ashutdown(timeout_s))
    assert sent in server.records


def told(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [entry.getMessage() for entry in caplog.records if entry.name == "driftline_sdk"]


def test_a_misspelt_attribute_is_told_with_the_one_that_was_meant(
    server: Collector, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    start(server)
    for _ in range(2):
        with driftline_sdk.generation("q") as g:
            g.outptu = "a"  # type: ignore[attr-defined]
    assert len(told(caplog)) == 1
    assert "a generation has no 'outptu'; did you mean 'output'?" in told(caplog)[0]
    assert settled(server, 2)["errors"] == {"generation": 2}
    assert g.id in server.records
    monkeypatch.setenv("DRIFTLINE_SDK_STRICT", "1")
    start(server)
    with pytest.raises(AttributeError, match="'output'"), driftline_sdk.generation("q") as g:
        g.outptu = "a"  # type: ignore[attr-defined]


def test_a_name_that_does_not_exist_is_read_as_none_and_told_once(
    server: Collector, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    start(server)
    for _ in range(2):
        with driftline_sdk.generation("q") as g:
            assert g.ouput is None  # type: ignore[attr-defined]
            assert g.foo is None  # type: ignore[attr-defined]
            g.output = "a"
    (sentence,) = told(caplog)
    assert "a generation has no 'ouput'; did you mean 'output'?" in sentence
    assert settled(server, 2)["errors"] == {"reading an attribute": 4}
    assert server.records[g.id]["output"] == "a"
    monkeypatch.setenv("DRIFTLINE_SDK_STRICT", "1")
    with pytest.raises(AttributeError, match="'output'"):
        g.ouput  # type: ignore[attr-defined] # noqa: B018


@pytest.mark.parametrize("name", ["first_tokn", "frist_token", "set_output", "add_event", "finish", "log", "pieces_"])
def test_a_method_that_does_not_exist_does_nothing(server: Collector, name: str) -> None:
    start(server)
    with driftline_sdk.generation("q") as g:
        assert getattr(g, name)("a", text="b") is None
    assert settled(server, 1)["errors"] == {"reading an attribute": 1}
    assert "b" not in server.records[g.id].values()


def test_what_protocols_ask_of_a_generation_is_not_answered(
    server: Collector, caplog: pytest.LogCaptureFixture
) -> None:
    start(server)
    with driftline_sdk.generation("q", tags={"a": "b"}) as g:
        g.output = "a"
        asked = ("__await__", "__array__", "__wrapped__", "__deepcopy__", "_repr_html_", "_private", "__iter__")
        assert not any(hasattr(g, name) for name in asked)
        assert not inspect.isawaitable(g)
        assert inspect.unwrap(g) is g  # type: ignore[arg-type]
        twin = copy.copy(g)
        assert (twin.id, twin.output, twin.tags) == (g.id, "a", {"a": "b"})
        with pytest.raises(TypeError):  # as before: it holds what no other process has
            pickle.dumps(g)
    assert told(caplog) == []
    settled(server, 1)


def test_what_is_set_after_the_end_is_told_once(
    server: Collector, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    start(server)
    for _ in range(2):
        with driftline_sdk.generation("q") as g:
            g.output = "in time"
        g.output = "too late"
        g.piece("too late")
        g.usage(5, 6)
    assert g.output == "too late"
    assert g.tags == {}
    (sentence,) = told(caplog)
    assert "the generation had ended when 'output' came, which may not be sent; set it inside the block" in sentence
    assert settled(server, 2)["errors"] == {"setting an attribute": 12}
    monkeypatch.setenv("DRIFTLINE_SDK_STRICT", "1")
    with pytest.raises(AttributeError, match="had ended when a piece came"):
        g.piece("too late")


def test_a_generation_that_nobody_ends_is_told(server: Collector, caplog: pytest.LogCaptureFixture) -> None:
    start(server)
    for _ in range(2):
        thrown_away = driftline_sdk.generation("q")
        thrown_away.output = "a"
        del thrown_away
        gc.collect()
    driftline_sdk.generation("q").end()
    (sentence,) = told(caplog)
    assert "a generation was never ended, and is not sent; use it in a with statement" in sentence
    assert settled(server, 1)["errors"] == {"throwing a generation away": 2}


def test_what_the_sdk_reads_after_the_end_is_nobodys_mistake(
    server: Collector, caplog: pytest.LogCaptureFixture
) -> None:
    @driftline_sdk.observe
    def numbers(question: str) -> Iterator[int]:
        yield from (1, 2, 3)

    start(server)
    stream = numbers("q")
    assert list(stream) == [1, 2, 3]
    stream.close()  # type: ignore[attr-defined]
    settled(server, 1)
    assert told(caplog) == []
    assert list(server.records.values())[-1]["output"] == "[1,2,3]"


MISTAKES: list[tuple[Callable[[], object], str]] = [
    (lambda: driftline_sdk.feedback(None), "missing 2 required positional arguments"),  # type: ignore[call-arg, arg-type]
    (lambda: driftline_sdk.feedback(None, "good", True), "the id of a generation is a text; got None"),  # type: ignore[arg-type]
    (lambda: driftline_sdk.feedback("g", "", 1), "feedback needs a name such as 'thumbs'; got ''"),
    (lambda: driftline_sdk.feedback("g", "good", None), "a finite number, a boolean or a text; got None"),  # type: ignore[arg-type]
    (lambda: driftline_sdk.generation(promt="q").end(), "argument 'promt' (it takes input, model"),  # type: ignore[call-arg]
    (lambda: driftline_sdk.generation("q").usage(prompt_tokens=5), "argument 'prompt_tokens'"),  # type: ignore[call-arg]
    (lambda: driftline_sdk.record(output="a", tokens=5), "record() has no 'tokens'"),
    (lambda: driftline_sdk.record(output="a", input_tokens="many"), "input_tokens is a whole number"),
    (lambda: driftline_sdk.record(output="a", latency_ms="slow"), "latency_ms is a number from 0"),
    (lambda: driftline_sdk.record(output="a", status="great"), "status is one of ok, error, aborted"),
    (lambda: driftline_sdk.record(output="a", started_at="noon"), "started_at is seconds since 1970 or a datetime"),
    (lambda: driftline_sdk.record(output="a", tags=5), "tags are a dict of names and texts, not int"),  # type: ignore[arg-type]
    (lambda: driftline_sdk.record(output="a", tags={str(n): "" for n in range(70)}), "takes 64 tags; of 70"),
    (lambda: driftline_sdk.record(output="a", tags={"long": "x" * 2_000}), "A tag is cut to 1024 characters"),
    (lambda: driftline_sdk.observe("not a function"), "observe() decorates functions, not 'not a function'"),  # type: ignore[call-overload]
    (lambda: driftline_sdk.flush("soon"), "flush() takes a number of seconds, not 'soon'; it takes 5.0"),  # type: ignore[arg-type]
]


@pytest.mark.parametrize(("mistake", "sentence"), MISTAKES)
def test_a_mistake_is_told_once(
    server: Collector, caplog: pytest.LogCaptureFixture, mistake: Callable[[], object], sentence: str
) -> None:
    start(server)
    for _ in range(2):
        mistake()
    assert driftline_sdk.flush(20)
    assert "\n".join(told(caplog)).count(sentence) == 1
    assert sum(driftline_sdk.stats()["errors"].values()) >= 2


def test_what_can_be_sent_of_a_record_is_sent(server: Collector) -> None:
    start(server)
    at = datetime.datetime(2026, 11, 22, 14, tzinfo=datetime.timezone.utc)
    sent = driftline_sdk.record(output="a", started_at=at, latency_ms="slow", input_tokens=3, colour="red")
    assert driftline_sdk.flush(20)
    record = server.records[sent]
    assert (record["output"], record["started_at"], record["input_tokens"]) == ("a", at.timestamp(), 3)
    assert "latency_ms" not in record


def test_none_in_a_stream_is_no_piece(server: Collector) -> None:
    start(server)
    with driftline_sdk.generation("q") as g:
        for piece in ("a", None, b"b"):
            g.piece(piece)  # type: ignore[arg-type]
    assert driftline_sdk.flush(20)
    assert server.records[g.id]["output"] == "ab"


def test_numbers_of_other_libraries_are_numbers_in_feedback(server: Collector) -> None:
    class Int64:
        def __float__(self) -> float:
            return 3.0

    start(server)
    judged = driftline_sdk.feedback("g", "stars", Int64())  # type: ignore[arg-type]
    assert driftline_sdk.flush(20)
    assert server.feedback[judged]["value"] == 3.0


def test_methods_of_classes_are_observed_under_either_decorator(server: Collector) -> None:
    class App:
        @driftline_sdk.observe(route="class")
        @classmethod
        def named(cls, question: str) -> str:
            return f"{cls.__name__} {question}"

        @driftline_sdk.observe
        @staticmethod
        def plain(question: str) -> str:
            return question

    start(server)
    assert (App.named("q"), App().plain("q")) == ("App q", "q")
    assert settled(server, 2)["sent"] == 2


def test_what_contains_itself_is_sent_once_through(server: Collector) -> None:
    root: dict[str, Any] = {"name": "root"}
    root["children"] = [{"name": str(number), "parent": root} for number in range(4)]
    start(server)
    sent = driftline_sdk.record(input="q", output=root)
    assert driftline_sdk.flush(20)
    assert "(itself)" in server.records[sent]["output"]
