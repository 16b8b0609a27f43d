"""The helpers of the real OpenAI client that stream (`client.chat.completions.stream`, `client.responses.stream`)."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Iterator
from typing import Any

import pytest
from local_collector import Collector, only
from local_model import LocalModel
from openai_answers import MESSAGES, STREAM, USAGE, chunk, response

openai = pytest.importorskip("openai", reason="needs the package openai: pip install openai")

PART = {"item_id": "m1", "output_index": 0, "content_index": 0}
EVENTS: list[dict[str, Any]] = [
    {"type": "response.created", "response": response(status="in_progress", output=[])},
    {
        "type": "response.output_item.added",
        "output_index": 0,
        "item": {"id": "m1", "type": "message", "role": "assistant", "status": "in_progress", "content": []},
    },
    {
        "type": "response.content_part.added",
        **PART,
        "part": {"type": "output_text", "text": "", "annotations": []},
    },
    {"type": "response.output_text.delta", **PART, "delta": "Hel", "logprobs": []},
    {"type": "response.output_text.delta", **PART, "delta": "lo!", "logprobs": []},
    {"type": "response.completed", "response": response()},
]


@pytest.fixture
def streaming(model: LocalModel) -> LocalModel:
    model.answers["/chat/completions"] = STREAM
    model.answers["/responses"] = [(e["type"], {**e, "sequence_number": n}) for n, e in enumerate(EVENTS)]
    return model


@pytest.fixture
def no_garbage_collection() -> Iterator[None]:
    gc.disable()
    yield
    gc.enable()


def helper(client: Any, kind: str) -> Any:
    if kind == "chat":
        return client.chat.completions.stream(model="gpt", messages=MESSAGES)
    return client.responses.stream(model="gpt", input="Hello?")


def is_text(event: Any) -> bool:
    return event.type in ("content.delta", "response.output_text.delta") and event.delta != ""


@pytest.mark.usefixtures("no_garbage_collection")
@pytest.mark.parametrize("kind", ["chat", "responses"])
@pytest.mark.parametrize("way", ["left", "closed", "raised"])
def test_a_helper_that_is_left_early_is_aborted_at_once(
    sdk: Any, streaming: LocalModel, collector: Collector, kind: str, way: str
) -> None:
    client = sdk.watch(openai.OpenAI(base_url=streaming.url + "/v1", api_key="k", max_retries=0))
    held = []  # what an application may go on holding
    try:
        with helper(client, kind) as stream:
            held.append(stream)
            assert next(event.delta for event in stream if is_text(event)) == "Hel"
            if way == "closed":
                stream.close()
                assert only(sdk, collector)["status"] == "aborted"
            elif way == "raised":
                raise ValueError("the application's own")
    except ValueError:
        assert way == "raised"
    record = only(sdk, collector)
    assert (record["output"], record["status"]) == ("Hel", "aborted")
    assert held


@pytest.mark.usefixtures("no_garbage_collection")
@pytest.mark.parametrize("kind", ["chat", "responses"])
def test_an_asynchronous_helper_that_is_left_early_is_aborted_at_once(
    sdk: Any, streaming: LocalModel, collector: Collector, kind: str
) -> None:
    async def ask() -> dict[str, Any]:
        client = sdk.watch(openai.AsyncOpenAI(base_url=streaming.url + "/v1", api_key="k", max_retries=0))
        async with client, helper(client, kind) as stream:
            async for event in stream:
                if is_text(event):
                    break
        record = only(sdk, collector)
        assert stream is not None
        return record

    record = asyncio.run(ask())
    assert (record["output"], record["status"]) == ("Hel", "aborted")


@pytest.mark.parametrize("kind", ["chat", "responses"])
@pytest.mark.parametrize("asynchronous", [False, True])
def test_a_helper_that_is_read_to_its_end_is_complete(
    sdk: Any, streaming: LocalModel, collector: Collector, kind: str, asynchronous: bool
) -> None:
    async def ask() -> None:
        client = sdk.watch(openai.AsyncOpenAI(base_url=streaming.url + "/v1", api_key="k", max_retries=0))
        async with client, helper(client, kind) as stream:
            await stream.until_done()

    if asynchronous:
        asyncio.run(ask())
    else:
        client = sdk.watch(openai.OpenAI(base_url=streaming.url + "/v1", api_key="k", max_retries=0))
        with helper(client, kind) as stream:
            stream.until_done()
    record = only(sdk, collector)
    assert (record["output"], record["status"]) == ("Hello!", "ok")


def test_an_answer_that_names_no_reason_to_end_is_complete_when_it_was_read(
    sdk: Any, model: LocalModel, collector: Collector
) -> None:
    model.answers["/chat/completions"] = [chunk({"content": "Hello!"}), chunk(usage=USAGE), (None, "[DONE]")]
    client = sdk.watch(openai.OpenAI(base_url=model.url + "/v1", api_key="k", max_retries=0))
    with helper(client, "chat") as stream:
        stream.until_done()
    record = only(sdk, collector)
    assert (record["output"], record["status"], record["output_tokens"]) == ("Hello!", "ok", 3)
