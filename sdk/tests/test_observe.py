"""`@observe` on functions of all four colours."""

from __future__ import annotations

import asyncio
import gc
import inspect
from collections.abc import AsyncGenerator, AsyncIterator, Generator, Iterator
from typing import Any

import pytest
from local_collector import Collector, only

from driftline_sdk import observe
from driftline_sdk.calls import Question, watched


def test_a_function_is_recorded_with_its_argument_and_its_answer(sdk: Any, collector: Collector) -> None:
    @observe(model="m", variant="v", route="r", tags={"a": "b"})
    def answer(question: str) -> str:
        """Says what is known."""
        return question.upper()

    assert answer("why?") == "WHY?"
    assert (answer.__name__, answer.__doc__) == ("answer", "Says what is known.")
    record = only(sdk, collector)
    assert (record["input"], record["output"], record["model"], record["variant"]) == ("why?", "WHY?", "m", "v")
    assert record["tags"] == {"a": "b", "route": "r"}


def test_several_arguments_are_recorded_by_name_without_self(sdk: Any, collector: Collector) -> None:
    class App:
        @observe
        def answer(self, question: str, *, tone: str = "kind") -> dict[str, str]:
            return {"text": question, "tone": tone}

    App().answer("why?", tone="dry")
    record = only(sdk, collector)
    assert record["input"] == '{"question":"why?","tone":"dry"}'
    assert record["output"] == '{"text":"why?","tone":"dry"}'


def test_input_and_output_can_be_said_otherwise(sdk: Any, collector: Collector) -> None:
    @observe(input=lambda request: request["prompt"], output=lambda answer: answer["text"])
    def answer(request: dict[str, str]) -> dict[str, str]:
        return {"text": "because"}

    answer({"prompt": "why?"})
    record = only(sdk, collector)
    assert (record["input"], record["output"]) == ("why?", "because")


def test_a_coroutine_that_a_plain_function_hands_on_is_recorded_when_it_is_awaited(
    sdk: Any, collector: Collector
) -> None:
    async def ask(question: str) -> str:
        await asyncio.sleep(0.01)
        return question.upper()

    @observe
    def answer(question: str) -> Any:
        return ask(question)

    assert asyncio.run(answer("why?")) == "WHY?"
    record = only(sdk, collector)
    assert record["output"] == "WHY?"
    assert record["latency_ms"] >= 9


def test_arguments_that_do_not_fit_raise_as_before_and_lose_no_record(sdk: Any, collector: Collector) -> None:
    async def ask(*, question: str) -> str:
        return question

    asked = Question("why?", "m", lambda generation, answer: None, lambda generation, piece: None)
    for function in (observe(ask), watched(ask, lambda args, kwargs: asked)):
        with pytest.raises(TypeError, match="unexpected keyword argument 'querstion'"):
            asyncio.run(function(querstion="why?"))
    assert sdk.flush(5)
    assert [record["status"] for record in collector.records.values()] == ["error", "error"]


def test_a_mistake_in_such_a_function_costs_its_value_only(
    sdk: Any, collector: Collector, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("DRIFTLINE_SDK_STRICT")

    @observe(output=lambda answer: answer["missing"])
    def answer(question: str) -> dict[str, str]:
        return {}

    assert answer("why?") == {}
    assert only(sdk, collector)["input"] == "why?"


def test_an_error_is_recorded_and_raised(sdk: Any, collector: Collector) -> None:
    @observe
    def answer(question: str) -> str:
        raise ValueError(question)

    with pytest.raises(ValueError, match="why"):
        answer("why?")
    assert only(sdk, collector)["error"] == "ValueError: why?"


def test_a_coroutine_function_stays_one_and_is_recorded(sdk: Any, collector: Collector) -> None:
    @observe
    async def answer(question: str) -> str:
        await asyncio.sleep(0.01)
        return "because"

    assert inspect.iscoroutinefunction(answer)
    assert asyncio.run(answer("why?")) == "because"
    assert only(sdk, collector)["latency_ms"] >= 10


def test_a_generator_stays_one_and_its_pieces_are_the_output(sdk: Any, collector: Collector) -> None:
    @observe
    def answer(question: str) -> Generator[str, None, int]:
        yield "be"
        yield "cause"
        return 5

    def outer() -> Iterator[Any]:
        returned = yield from answer("why?")
        yield returned

    assert inspect.isgeneratorfunction(answer)
    assert list(outer()) == ["be", "cause", 5]
    record = only(sdk, collector)
    assert (record["output"], record["status"]) == ("because", "ok")
    assert record["ttft_ms"] <= record["latency_ms"]


def test_what_is_sent_or_thrown_into_a_generator_arrives(sdk: Any, collector: Collector) -> None:
    @observe
    def echo() -> Generator[str, str, None]:
        heard = yield "first"
        try:
            yield f"heard {heard}"
        except KeyError:
            yield "caught"

    generator = echo()
    assert next(generator) == "first"
    assert generator.send("you") == "heard you"
    assert generator.throw(KeyError("k")) == "caught"
    generator.close()
    record = only(sdk, collector)
    assert (record["output"], record["status"]) == ("firstheard youcaught", "aborted")


def test_a_generator_that_is_thrown_away_is_aborted(sdk: Any, collector: Collector) -> None:
    @observe
    def answer() -> Iterator[str]:
        yield "be"
        yield "cause"

    generator = answer()
    next(generator)
    del generator
    gc.collect()
    assert only(sdk, collector)["status"] == "aborted"


def test_an_asynchronous_generator_stays_one_and_is_recorded(sdk: Any, collector: Collector) -> None:
    @observe
    async def answer(question: str) -> AsyncGenerator[str, str]:
        heard = yield "be"
        try:
            yield f"cause {heard}"
        except KeyError:
            yield "caught"

    async def ask() -> list[str]:
        generator: Any = answer("why?")
        said = [await generator.asend(None), await generator.asend("you"), await generator.athrow(KeyError("k"))]
        with pytest.raises(StopAsyncIteration):
            await generator.asend(None)
        return said

    assert inspect.isasyncgenfunction(answer)
    assert asyncio.run(ask()) == ["be", "cause you", "caught"]
    record = only(sdk, collector)
    assert (record["output"], record["status"]) == ("because youcaught", "ok")


@pytest.mark.parametrize("ending", ["close", "error", "cancel"])
def test_an_asynchronous_generator_that_does_not_end_by_itself(sdk: Any, collector: Collector, ending: str) -> None:
    @observe
    async def answer() -> AsyncIterator[str]:
        yield "be"
        if ending == "error":
            raise ValueError("no more")
        await asyncio.sleep(60)

    async def ask() -> None:
        generator: Any = answer()
        await generator.__anext__()
        if ending == "close":
            await generator.aclose()
        elif ending == "error":
            with pytest.raises(ValueError, match="no more"):
                await generator.__anext__()
        else:
            with pytest.raises(asyncio.TimeoutError):
                await asyncio.wait_for(generator.__anext__(), 0.05)

    asyncio.run(ask())
    assert only(sdk, collector)["status"] == ("error" if ending == "error" else "aborted")


def test_an_observed_function_inside_another_is_recorded_by_itself(sdk: Any, collector: Collector) -> None:
    @observe
    def inner() -> str:
        return "inner"

    @observe
    def outer() -> str:
        return inner() + " outer"

    outer()
    assert sdk.flush(5)
    assert {record["output"] for record in collector.records.values()} == {"inner", "inner outer"}


@pytest.mark.parametrize("awaited", [False, True])
def test_a_generator_that_a_function_returns_is_recorded_as_it_is_read(
    sdk: Any, collector: Collector, awaited: bool
) -> None:
    def pieces() -> Iterator[str]:
        yield "be"
        yield "cause"

    async def pieces_async() -> AsyncIterator[str]:
        yield "be"
        yield "cause"

    @observe
    def answer(question: str) -> Iterator[str]:
        return pieces()

    @observe
    async def answer_async(question: str) -> AsyncIterator[str]:
        return pieces_async()

    async def ask() -> list[str]:
        return [piece async for piece in await answer_async("why?")]

    assert (asyncio.run(ask()) if awaited else list(answer("why?"))) == ["be", "cause"]
    record = only(sdk, collector)
    assert (record["input"], record["output"], record["status"]) == ("why?", "because", "ok")
    assert record["ttft_ms"] <= record["latency_ms"]


def test_what_is_yielded_and_is_no_text_is_the_output_as_a_list(sdk: Any, collector: Collector) -> None:
    @observe
    def answer() -> Iterator[Any]:
        yield {"text": "be"}
        yield None
        yield 5

    list(answer())
    assert only(sdk, collector)["output"] == '[{"text":"be"},5]'


def test_of_each_piece_the_text_can_be_said(sdk: Any, collector: Collector) -> None:
    @observe(output=lambda piece: piece.get("text"))
    def answer() -> Iterator[dict[str, str]]:
        yield {"event": "begin"}
        yield {"text": "be"}
        yield {"text": "cause"}

    list(answer())
    assert only(sdk, collector)["output"] == "because"


def test_what_a_watched_stream_says_inside_is_the_output_where_no_text_is_yielded(
    sdk: Any, collector: Collector
) -> None:
    from driftline_sdk.calls import Question, watched

    def stream() -> Iterator[dict[str, str]]:
        yield {"delta": "be"}
        yield {"delta": "cause"}

    def read(generation: Any, piece: dict[str, str]) -> None:
        generation.piece(piece["delta"])

    question = Question("asked inside", "m", lambda *_: None, read)
    call = watched(stream, lambda *_: question)

    @observe
    def passed_on(why: str) -> Iterator[Any]:
        yield from call()

    @observe
    def handed_out(why: str) -> Iterator[Any]:
        return call()

    for answer in (passed_on, handed_out):
        assert len(list(answer("why?"))) == 2
    assert sdk.flush(5)
    assert [(r["input"], r["output"], r["model"]) for r in collector.records.values()] == [("why?", "because", "m")] * 2
