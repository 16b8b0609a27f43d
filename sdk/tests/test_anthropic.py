"""The real Anthropic client against a local server that speaks its protocol."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest
from local_collector import Collector, only
from local_model import LocalModel

anthropic = pytest.importorskip("anthropic", reason="needs the package anthropic: pip install anthropic")

MESSAGES = [{"role": "user", "content": "Hello?"}]
ASKED = {"model": "claude", "max_tokens": 10, "messages": MESSAGES}


def message(*content: Any, **fields: Any) -> dict[str, Any]:
    usage = {"input_tokens": 5, "cache_read_input_tokens": 2, "output_tokens": 3}
    shared = {"id": "m1", "type": "message", "role": "assistant", "model": "claude-2026-01", "stop_sequence": None}
    return {**shared, "content": list(content), "stop_reason": "end_turn", "usage": usage, **fields}


def text(content: str) -> dict[str, Any]:
    return {"type": "text", "text": content}


def events(*blocks: tuple[dict[str, Any], list[dict[str, Any]]]) -> list[Any]:
    begun = message(stop_reason=None, usage={"input_tokens": 7, "output_tokens": 1})
    listed: list[dict[str, Any]] = [{"type": "message_start", "message": begun}]
    for index, (block, deltas) in enumerate(blocks):
        listed.append({"type": "content_block_start", "index": index, "content_block": block})
        listed += [{"type": "content_block_delta", "index": index, "delta": delta} for delta in deltas]
        listed.append({"type": "content_block_stop", "index": index})
    ended = {"stop_reason": "end_turn", "stop_sequence": None}
    listed += [{"type": "message_delta", "delta": ended, "usage": {"output_tokens": 3}}, {"type": "message_stop"}]
    return [(event["type"], event) for event in listed]


HELLO = (text(""), [{"type": "text_delta", "text": "Hel"}, {"type": "text_delta", "text": "lo!"}])
TOOL = (
    {"type": "tool_use", "id": "t1", "name": "weather", "input": {}},
    [{"type": "input_json_delta", "partial_json": '{"city"'}, {"type": "input_json_delta", "partial_json": ': "Ulm"}'}],
)


@pytest.fixture
def model() -> Iterator[LocalModel]:
    server = LocalModel()
    server.answers["/v1/messages"] = message(text("Hello!"))
    yield server
    server.close()


@pytest.fixture
def client(model: LocalModel, sdk: Any) -> Any:
    return sdk.watch(anthropic.Anthropic(base_url=model.url, api_key="k", max_retries=0))


@pytest.fixture
def aclient(model: LocalModel, sdk: Any) -> Any:
    return sdk.watch(anthropic.AsyncAnthropic(base_url=model.url, api_key="k", max_retries=0))


def test_a_message_is_recorded_whole(sdk: Any, client: Any, collector: Collector) -> None:
    assert client.messages.create(**ASKED, system="Be brief.").content[0].text == "Hello!"
    record = only(sdk, collector)
    assert record["input"] == [{"role": "system", "content": "Be brief."}, *MESSAGES]
    assert (record["output"], record["model"], record["status"]) == ("Hello!", "claude-2026-01", "ok")
    assert (record["input_tokens"], record["output_tokens"]) == (7, 3)


@pytest.mark.parametrize("way", ["parsed", "raw"])
@pytest.mark.parametrize("said", ["", "Let me see."])
def test_tool_use_stands_after_the_text(
    sdk: Any, client: Any, model: LocalModel, collector: Collector, way: str, said: str
) -> None:
    use = {"type": "tool_use", "id": "t1", "name": "weather", "input": {"city": "Ulm", "days": [1, 2]}}
    model.answers["/v1/messages"] = message(*([text(said)] if said else []), use)
    (client.messages.with_raw_response if way == "raw" else client.messages).create(**ASKED)
    called = '[tool call weather({"city":"Ulm","days":[1,2]})]'
    record = only(sdk, collector)
    assert record["output"] == (f"{said}\n{called}" if said else called)
    assert "ttft_ms" not in record


def test_the_beta_endpoint_and_copies_are_watched_too(sdk: Any, client: Any, collector: Collector) -> None:
    client.with_options(timeout=3).beta.messages.create(**ASKED)
    assert only(sdk, collector)["output"] == "Hello!"


@pytest.mark.parametrize("way", ["create", "helper"])
def test_a_stream_is_recorded(sdk: Any, client: Any, model: LocalModel, collector: Collector, way: str) -> None:
    model.answers["/v1/messages"] = events(HELLO)
    if way == "create":
        for _ in client.messages.create(**ASKED, stream=True):
            pass
    else:
        with client.messages.stream(**ASKED) as stream:
            assert "".join(stream.text_stream) == "Hello!"
            assert stream.get_final_message().content[0].text == "Hello!"
    record = only(sdk, collector)
    assert (record["output"], record["status"], record["model"]) == ("Hello!", "ok", "claude-2026-01")
    assert (record["input_tokens"], record["output_tokens"]) == (7, 3)
    assert record["ttft_ms"] <= record["latency_ms"]


def test_streamed_tool_use_is_put_together(sdk: Any, client: Any, model: LocalModel, collector: Collector) -> None:
    model.answers["/v1/messages"] = events(HELLO, TOOL)
    list(client.messages.create(**ASKED, stream=True))
    assert only(sdk, collector)["output"] == 'Hello!\n[tool call weather({"city": "Ulm"})]'


def test_a_body_that_the_application_streams_itself_is_recorded(
    sdk: Any, client: Any, model: LocalModel, collector: Collector
) -> None:
    model.answers["/v1/messages"] = events(HELLO, TOOL)
    with client.messages.with_streaming_response.create(**ASKED, stream=True) as raw:
        assert len(list(raw.iter_lines())) > 10
    record = only(sdk, collector)
    assert (record["output"], record["status"]) == ('Hello!\n[tool call weather({"city": "Ulm"})]', "ok")
    assert (record["input_tokens"], record["output_tokens"]) == (7, 3)


def test_a_helper_that_is_left_early_is_aborted(sdk: Any, client: Any, model: LocalModel, collector: Collector) -> None:
    model.answers["/v1/messages"] = events(HELLO)
    with client.messages.stream(**ASKED) as stream:
        next(iter(stream.text_stream))
    record = only(sdk, collector)
    assert (record["output"], record["status"]) == ("Hel", "aborted")


@pytest.mark.parametrize("way", ["whole", "create", "helper"])
def test_the_asynchronous_client_is_recorded(
    sdk: Any, aclient: Any, model: LocalModel, collector: Collector, way: str
) -> None:
    if way != "whole":
        model.answers["/v1/messages"] = events(HELLO)

    async def ask() -> None:
        async with aclient:
            if way == "whole":
                await aclient.messages.create(**ASKED)
            elif way == "create":
                async for _ in await aclient.messages.create(**ASKED, stream=True):
                    pass
            else:
                async with aclient.messages.stream(**ASKED) as stream:
                    assert [piece async for piece in stream.text_stream] == ["Hel", "lo!"]

    asyncio.run(ask())
    record = only(sdk, collector)
    assert (record["output"], record["status"], record["output_tokens"]) == ("Hello!", "ok", 3)


def test_an_error_of_the_provider_is_recorded_and_raised(
    sdk: Any, client: Any, model: LocalModel, collector: Collector
) -> None:
    model.answers["/v1/messages"] = (529, {"type": "error", "error": {"type": "overloaded", "message": "busy"}})
    with pytest.raises(anthropic.APIStatusError):
        client.messages.create(**ASKED)
    assert only(sdk, collector)["status"] == "error"


def test_an_error_inside_a_stream_is_recorded(sdk: Any, client: Any, model: LocalModel, collector: Collector) -> None:
    failure = {"type": "error", "error": {"type": "overloaded_error", "message": "busy"}}
    model.answers["/v1/messages"] = [*events(HELLO)[:3], ("error", failure)]
    with pytest.raises(anthropic.APIStatusError):
        list(client.messages.create(**ASKED, stream=True))
    record = only(sdk, collector)
    assert (record["output"], record["status"]) == ("Hel", "error")
