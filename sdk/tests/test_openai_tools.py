"""Tool calls and refusals of the real OpenAI client, whole, streamed and broken off."""

from __future__ import annotations

from typing import Any

import pytest
from local_collector import Collector, only
from local_model import LocalModel
from openai_answers import CALLED, MESSAGES, called, chunk, completion, response

openai = pytest.importorskip("openai", reason="needs the package openai: pip install openai")


@pytest.fixture
def client(model: LocalModel, sdk: Any) -> Any:
    return sdk.watch(openai.OpenAI(base_url=model.url + "/v1", api_key="k", max_retries=0))


def test_tool_calls_are_the_output_when_there_is_no_text(
    sdk: Any, client: Any, model: LocalModel, collector: Collector
) -> None:
    call = {"id": "t1", "type": "function", "function": {"name": "weather", "arguments": '{"city": "Ulm"}'}}
    model.answers["/chat/completions"] = completion(tool_calls=[call])
    client.chat.completions.create(model="gpt", messages=MESSAGES)
    assert only(sdk, collector)["output"] == CALLED


def test_tool_calls_stand_after_the_text(sdk: Any, client: Any, model: LocalModel, collector: Collector) -> None:
    call = {"id": "t1", "type": "function", "function": {"name": "weather", "arguments": '{"city": "Ulm"}'}}
    model.answers["/chat/completions"] = completion(content="Let me see.", tool_calls=[call, call])
    client.chat.completions.create(model="gpt", messages=MESSAGES)
    record = only(sdk, collector)
    assert record["output"] == f"Let me see.\n{CALLED}\n{CALLED}"
    assert "ttft_ms" not in record


def test_streamed_tool_calls_are_put_together(sdk: Any, client: Any, model: LocalModel, collector: Collector) -> None:
    def piece(**function: str) -> tuple[None, Any]:
        return chunk({"tool_calls": [{"index": 0, "function": function}]})

    pieces = [piece(name="weather", arguments=""), piece(arguments='{"city": '), piece(arguments='"Ulm"}')]
    model.answers["/chat/completions"] = [*pieces, chunk({}, "tool_calls"), (None, "[DONE]")]
    list(client.chat.completions.create(model="gpt", messages=MESSAGES, stream=True))
    record = only(sdk, collector)
    assert record["output"] == CALLED
    assert "ttft_ms" in record


def test_of_a_tool_call_that_is_broken_off_stays_what_had_come(
    sdk: Any, client: Any, model: LocalModel, collector: Collector
) -> None:
    function = {"name": "weather", "arguments": '{"ci'}
    call = chunk({"content": "Wait.", "tool_calls": [{"index": 0, "function": function}]})
    model.answers["/chat/completions"] = [call, call, chunk({}, "tool_calls")]
    with client.chat.completions.create(model="gpt", messages=MESSAGES, stream=True) as stream:
        next(stream)
    record = only(sdk, collector)
    assert (record["output"], record["status"]) == ('Wait.\n[tool call weather({"ci)]', "aborted")


def test_function_calls_of_responses_are_recorded(
    sdk: Any, client: Any, model: LocalModel, collector: Collector
) -> None:
    model.answers["/responses"] = response(output=[called(arguments='{"city": "Ulm"}')])
    client.responses.create(model="gpt", input="Hello?")
    assert only(sdk, collector)["output"] == CALLED


@pytest.mark.parametrize("complete", [True, False])
def test_streamed_function_calls_of_responses_are_put_together(
    sdk: Any, client: Any, model: LocalModel, collector: Collector, complete: bool
) -> None:
    piece = {"type": "response.function_call_arguments.delta", "item_id": "f1", "output_index": 0}
    events = [
        {"type": "response.created", "response": response(status="in_progress", output=[]), "sequence_number": 0},
        {"type": "response.output_item.added", "output_index": 0, "item": called(arguments=""), "sequence_number": 1},
        {**piece, "delta": '{"city": ', "sequence_number": 2},
        {**piece, "delta": '"Ulm"}', "sequence_number": 3},
        {
            "type": "response.completed",
            "response": response(output=[called(arguments='{"city": "Ulm"}')]),
            "sequence_number": 4,
        },
    ]
    model.answers["/responses"] = [(event["type"], event) for event in events]
    with client.responses.create(model="gpt", input="Hello?", stream=True) as stream:
        for number, _ in enumerate(stream):
            if number == 3 and not complete:
                break
    record = only(sdk, collector)
    assert (record["output"], record["status"]) == (CALLED, "ok" if complete else "aborted")
    assert record["ttft_ms"] <= record["latency_ms"]


def test_a_refusal_is_the_output(sdk: Any, client: Any, model: LocalModel, collector: Collector) -> None:
    refusal = {"type": "refusal", "refusal": "I will not."}
    message = {"id": "m1", "type": "message", "role": "assistant", "status": "completed", "content": [refusal]}
    model.answers["/responses"] = response(output=[message])
    client.responses.create(model="gpt", input="Hello?")
    assert only(sdk, collector)["output"] == "I will not."
