"""The real OpenAI client against a local server that speaks its protocol."""

from __future__ import annotations

import asyncio
import gc
from contextlib import nullcontext
from typing import Any

import pytest
from local_collector import Collector, only
from local_model import LocalModel, Turns
from openai_answers import MESSAGES, STREAM, completion, response

httpx = pytest.importorskip("httpx", reason="needs the package httpx")
openai = pytest.importorskip("openai", reason="needs the package openai: pip install openai")


@pytest.fixture
def client(model: LocalModel, sdk: Any) -> Any:
    return sdk.watch(openai.OpenAI(base_url=model.url + "/v1", api_key="k", max_retries=0))


@pytest.fixture
def aclient(model: LocalModel, sdk: Any) -> Any:
    return sdk.watch(openai.AsyncOpenAI(base_url=model.url + "/v1", api_key="k", max_retries=0))


def test_a_chat_completion_is_recorded_whole(sdk: Any, client: Any, collector: Collector) -> None:
    with sdk.context(session_id="s1", route="greet"):
        answer = client.chat.completions.create(model="gpt", messages=MESSAGES)
    assert answer.choices[0].message.content == "Hello!"
    record = only(sdk, collector)
    assert record["input"] == MESSAGES
    assert (record["output"], record["model"], record["status"]) == ("Hello!", "gpt-2026-01", "ok")
    assert (record["input_tokens"], record["output_tokens"]) == (7, 3)
    assert (record["session_id"], record["tags"]) == ("s1", {"route": "greet"})
    assert record["latency_ms"] > 0


def test_a_stream_is_recorded_with_its_time_to_first_token(
    sdk: Any, client: Any, model: LocalModel, collector: Collector
) -> None:
    model.answers["/chat/completions"] = STREAM
    stream = client.chat.completions.create(
        model="gpt", messages=MESSAGES, stream=True, stream_options={"include_usage": True}
    )
    assert isinstance(stream, openai.Stream)
    assert "".join(c.choices[0].delta.content or "" for c in stream if c.choices) == "Hello!"
    record = only(sdk, collector)
    assert (record["output"], record["status"], record["output_tokens"]) == ("Hello!", "ok", 3)
    assert 50 <= record["ttft_ms"] <= record["latency_ms"] - 40


@pytest.mark.parametrize("way", ["close", "with", "forget"])
def test_a_stream_that_is_broken_off_is_aborted(
    sdk: Any, client: Any, model: LocalModel, collector: Collector, way: str
) -> None:
    model.answers["/chat/completions"] = STREAM
    stream = client.chat.completions.create(model="gpt", messages=MESSAGES, stream=True)
    if way == "with":
        with stream:
            next(stream), next(stream)
    else:
        next(stream), next(stream)
        if way == "close":
            stream.close()
    del stream
    gc.collect()
    record = only(sdk, collector)
    assert (record["output"], record["status"]) == ("Hel", "aborted")


def test_a_stream_left_after_its_last_content_is_complete(
    sdk: Any, client: Any, model: LocalModel, collector: Collector
) -> None:
    model.answers["/chat/completions"] = STREAM
    with client.chat.completions.create(model="gpt", messages=MESSAGES, stream=True) as stream:
        for c in stream:
            if c.choices[0].finish_reason:
                break
    assert only(sdk, collector)["status"] == "ok"


def test_a_connection_that_breaks_in_a_stream_is_an_error(
    sdk: Any, client: Any, model: LocalModel, collector: Collector
) -> None:
    model.answers["/chat/completions"] = [*STREAM[:3], ConnectionError]
    stream = client.chat.completions.create(model="gpt", messages=MESSAGES, stream=True)
    with pytest.raises((openai.OpenAIError, httpx.HTTPError)):  # which of them depends on its version
        list(stream)
    record = only(sdk, collector)
    assert (record["output"], record["status"]) == ("Hel", "error")


def test_an_error_of_the_provider_is_recorded_and_raised(
    sdk: Any, client: Any, model: LocalModel, collector: Collector
) -> None:
    model.answers["/chat/completions"] = (429, {"error": {"message": "slow down"}})
    with pytest.raises(openai.RateLimitError):
        client.chat.completions.create(model="gpt", messages=MESSAGES)
    record = only(sdk, collector)
    assert record["status"] == "error"
    assert "RateLimitError" in record["error"]
    assert record["model"] == "gpt"


def test_the_responses_api_is_recorded(sdk: Any, client: Any, collector: Collector) -> None:
    client.responses.create(model="gpt", input="Hello?", instructions="Be brief.")
    record = only(sdk, collector)
    assert record["input"] == [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Hello?"},
    ]
    assert (record["output"], record["model"], record["input_tokens"]) == ("Hello!", "gpt-2026-01", 7)


def test_the_streamed_responses_api_is_recorded(sdk: Any, client: Any, model: LocalModel, collector: Collector) -> None:
    delta = {"type": "response.output_text.delta", "item_id": "m1", "output_index": 0, "content_index": 0}
    events = [
        {"type": "response.created", "response": response(status="in_progress", output=[]), "sequence_number": 0},
        {**delta, "delta": "Hel", "sequence_number": 1, "logprobs": []},
        {**delta, "delta": "lo!", "sequence_number": 2, "logprobs": []},
        {"type": "response.completed", "response": response(), "sequence_number": 3},
    ]
    model.answers["/responses"] = [(event["type"], event) for event in events]
    list(client.responses.create(model="gpt", input="Hello?", stream=True))
    record = only(sdk, collector)
    assert (record["input"], record["output"], record["output_tokens"]) == ("Hello?", "Hello!", 3)
    assert record["ttft_ms"] <= record["latency_ms"]


def test_the_asynchronous_client_is_recorded(sdk: Any, aclient: Any, collector: Collector) -> None:
    async def ask() -> Any:
        async with aclient:
            return await aclient.chat.completions.create(model="gpt", messages=MESSAGES)

    assert asyncio.run(ask()).choices[0].message.content == "Hello!"
    assert only(sdk, collector)["output"] == "Hello!"


@pytest.mark.parametrize("complete", [True, False])
def test_an_asynchronous_stream_is_recorded(
    sdk: Any, aclient: Any, model: LocalModel, collector: Collector, complete: bool
) -> None:
    model.answers["/chat/completions"] = STREAM

    async def ask() -> None:
        async with aclient:
            stream = await aclient.chat.completions.create(model="gpt", messages=MESSAGES, stream=True)
            assert isinstance(stream, openai.AsyncStream)
            async for c in stream:
                if not complete and c.choices[0].delta.content:
                    await stream.close()
                    break

    asyncio.run(ask())
    record = only(sdk, collector)
    assert (record["output"], record["status"]) == (("Hello!", "ok") if complete else ("Hel", "aborted"))


def test_the_streaming_helper_is_recorded_once(sdk: Any, client: Any, model: LocalModel, collector: Collector) -> None:
    model.answers["/chat/completions"] = STREAM
    with client.chat.completions.stream(model="gpt", messages=MESSAGES) as stream:
        stream.until_done()
    assert only(sdk, collector)["output"] == "Hello!"


def test_the_asynchronous_streaming_helper_is_recorded_once(
    sdk: Any, aclient: Any, model: LocalModel, collector: Collector
) -> None:
    model.answers["/chat/completions"] = STREAM

    async def ask() -> None:
        async with aclient, aclient.chat.completions.stream(model="gpt", messages=MESSAGES) as stream:
            texts = [event.delta async for event in stream if event.type == "content.delta"]
            assert "".join(texts) == "Hello!"
            assert (await stream.get_final_completion()).choices[0].message.content == "Hello!"

    asyncio.run(ask())
    assert only(sdk, collector)["output"] == "Hello!"


def test_a_helper_of_responses_is_recorded_once(sdk: Any, client: Any, model: LocalModel, collector: Collector) -> None:
    part = {"item_id": "m1", "output_index": 0, "content_index": 0}
    empty = {"id": "m1", "type": "message", "role": "assistant", "status": "in_progress", "content": []}
    text = {"type": "output_text", "text": "", "annotations": []}
    events = [
        {"type": "response.created", "response": response(status="in_progress", output=[])},
        {"type": "response.output_item.added", "output_index": 0, "item": empty},
        {"type": "response.content_part.added", **part, "part": text},
        {"type": "response.output_text.delta", **part, "delta": "Hello!", "logprobs": []},
        {"type": "response.completed", "response": response()},
    ]
    model.answers["/responses"] = [(e["type"], {**e, "sequence_number": n}) for n, e in enumerate(events)]
    with client.responses.stream(model="gpt", input="Hello?") as stream:
        assert [event.delta for event in stream if event.type == "response.output_text.delta"] == ["Hello!"]
    record = only(sdk, collector)
    assert (record["output"], record["status"], record["output_tokens"]) == ("Hello!", "ok", 3)


def test_what_the_client_tries_again_is_one_record(sdk: Any, model: LocalModel, collector: Collector) -> None:
    client = sdk.watch(openai.OpenAI(base_url=model.url + "/v1", api_key="k", max_retries=2))
    model.answers["/chat/completions"] = Turns((500, {}), completion(content="Hello!"))
    client.chat.completions.create(model="gpt", messages=MESSAGES)
    record = only(sdk, collector)
    assert (record["output"], record["status"]) == ("Hello!", "ok")
    assert record["latency_ms"] > 100  # with the time of waiting, as the user felt it


def test_raw_responses_are_recorded_and_still_parse(sdk: Any, client: Any, collector: Collector) -> None:
    raw = client.chat.completions.with_raw_response.create(model="gpt", messages=MESSAGES)
    assert raw.parse().choices[0].message.content == "Hello!"
    assert only(sdk, collector)["output"] == "Hello!"


@pytest.mark.parametrize("way", ["with_streaming_response", "with_raw_response"])
@pytest.mark.parametrize("read", ["parsed", "bytes", "left"])
def test_a_body_that_the_application_streams_itself_is_recorded(
    sdk: Any, client: Any, model: LocalModel, collector: Collector, way: str, read: str
) -> None:
    model.answers["/chat/completions"] = STREAM
    asked = {"model": "gpt", "messages": MESSAGES, "stream": True}
    create = getattr(client.chat.completions, way).create
    with create(**asked) if way == "with_streaming_response" else nullcontext(create(**asked)) as raw:
        if read == "parsed":
            assert len(list(raw.parse())) == 5
        elif read == "bytes":
            assert b"lo!" in b"".join(raw.http_response.iter_bytes())
        del raw, create
    gc.collect()
    record = only(sdk, collector)
    assert record["input"] == MESSAGES
    assert (record["output"], record["status"]) == (("", "aborted") if read == "left" else ("Hello!", "ok"))
    assert ("output_tokens" in record) == ("ttft_ms" in record) == (read != "left")


def test_a_whole_answer_that_the_application_reads_itself_is_recorded(
    sdk: Any, client: Any, collector: Collector
) -> None:
    with client.chat.completions.with_streaming_response.create(model="gpt", messages=MESSAGES) as raw:
        assert b"Hello!" in raw.read()
    record = only(sdk, collector)
    assert (record["input"], record["output"], record["output_tokens"]) == (MESSAGES, "Hello!", 3)


def test_a_body_that_is_streamed_asynchronously_is_recorded(
    sdk: Any, aclient: Any, model: LocalModel, collector: Collector
) -> None:
    model.answers["/chat/completions"] = STREAM

    async def ask() -> None:
        create = aclient.chat.completions.with_streaming_response.create
        async with aclient, create(model="gpt", messages=MESSAGES, stream=True) as raw:
            assert len([line async for line in raw.iter_lines()]) > 5

    asyncio.run(ask())
    record = only(sdk, collector)
    assert (record["output"], record["status"]) == ("Hello!", "ok")
    assert 50 <= record["ttft_ms"] <= record["latency_ms"]


def test_structured_outputs_are_recorded(sdk: Any, client: Any, model: LocalModel, collector: Collector) -> None:
    pydantic = pytest.importorskip("pydantic")
    city = pydantic.create_model("City", name=(str, ...))
    model.answers["/chat/completions"] = completion(content='{"name": "Ulm"}')
    answer = client.chat.completions.parse(model="gpt", messages=MESSAGES, response_format=city)
    assert answer.choices[0].message.parsed.name == "Ulm"
    assert only(sdk, collector)["output"] == '{"name": "Ulm"}'


def test_azure_and_copies_of_a_client_are_watched_too(sdk: Any, model: LocalModel, collector: Collector) -> None:
    azure = sdk.watch(openai.AzureOpenAI(azure_endpoint=model.url, api_key="k", api_version="2024-06-01"))
    azure.with_options(timeout=5).chat.completions.create(model="deployed", messages=MESSAGES)
    assert "/deployments/deployed/" in model.asked[0][0]
    assert only(sdk, collector)["output"] == "Hello!"


def test_watching_twice_records_once(sdk: Any, client: Any, collector: Collector) -> None:
    sdk.watch(client).chat.completions.create(model="gpt", messages=MESSAGES)
    assert only(sdk, collector)


def test_watching_with_every_request_makes_no_tower_of_copies(sdk: Any, client: Any, collector: Collector) -> None:
    for _ in range(2_000):
        sdk.watch(client)
    client.with_options(timeout=3).copy().chat.completions.create(model="gpt", messages=MESSAGES)
    assert only(sdk, collector)["output"] == "Hello!"


def test_calls_inside_an_open_generation_belong_to_it(sdk: Any, client: Any, collector: Collector) -> None:
    with sdk.generation("What the user asked", route="agent"):
        for _ in range(2):
            client.chat.completions.create(model="gpt", messages=MESSAGES)
    record = only(sdk, collector)
    assert (record["input"], record["output"], record["model"]) == ("What the user asked", "Hello!", "gpt-2026-01")
    assert (record["input_tokens"], record["output_tokens"]) == (14, 6)


def test_other_endpoints_are_not_generations(sdk: Any, client: Any, model: LocalModel, collector: Collector) -> None:
    model.answers["/embeddings"] = {
        "object": "list",
        "model": "e",
        "usage": {"prompt_tokens": 1, "total_tokens": 1},
        "data": [{"object": "embedding", "index": 0, "embedding": [0.5]}],
    }
    assert client.embeddings.create(model="e", input="x", encoding_format="float").data[0].embedding == [0.5]
    assert sdk.flush(5)
    assert collector.records == {}


def test_without_init_a_watched_client_works_as_before(model: LocalModel) -> None:
    import driftline_sdk

    client = driftline_sdk.watch(openai.OpenAI(base_url=model.url + "/v1", api_key="k"))
    assert client.chat.completions.create(model="gpt", messages=MESSAGES).choices[0].message.content == "Hello!"
