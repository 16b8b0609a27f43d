"""Sessions of requests and httpx against a local server that answers in the shapes of model servers."""

from __future__ import annotations

import asyncio
import gc
import gzip
import json
from collections.abc import Iterator
from typing import Any

import pytest
from local_collector import Collector, only
from local_model import LocalModel

httpx = pytest.importorskip("httpx", reason="needs the package httpx")
requests = pytest.importorskip("requests", reason="needs the package requests")

MESSAGES = [{"role": "user", "content": "Hello?"}]
CHAT = {
    "model": "served",
    "choices": [{"message": {"role": "assistant", "content": "Hello!"}}],
    "usage": {"prompt_tokens": 7, "completion_tokens": 3},
}
ANTHROPIC = {
    "type": "message",
    "model": "served",
    "content": [{"type": "text", "text": "Hello!"}],
    "usage": {"input_tokens": 7, "output_tokens": 3},
}
GEMINI = {
    "modelVersion": "served",
    "candidates": [{"content": {"parts": [{"text": "(thinks)", "thought": True}, {"text": "Hello!"}]}}],
    "usageMetadata": {"promptTokenCount": 7, "candidatesTokenCount": 3},
}
OLLAMA = {"model": "served", "message": {"content": "Hello!"}, "done": True, "prompt_eval_count": 7, "eval_count": 3}
RESPONSE = {
    "object": "response",
    "model": "served",
    "output": [{"type": "message", "content": [{"type": "output_text", "text": "Hello!"}]}],
    "usage": {"input_tokens": 7, "output_tokens": 3},
}


def delta(text: str, finish: Any = None) -> tuple[None, Any]:
    return None, {"model": "served", "choices": [{"index": 0, "delta": {"content": text}, "finish_reason": finish}]}


STREAM: list[Any] = [0.03, delta("Hel"), 0.03, delta("lo!"), delta("", "stop"), (None, "[DONE]")]


@pytest.fixture
def model() -> Iterator[LocalModel]:
    server = LocalModel()
    yield server
    server.close()


@pytest.fixture(params=["requests", "httpx", "httpx async"])
def post(request: Any, sdk: Any) -> Iterator[Any]:
    """post(url, json) → (status, text), by each of the libraries."""
    if request.param == "requests":
        session = sdk.watch(requests.Session())
        yield lambda url, json: (lambda answer: (answer.status_code, answer.text))(session.post(url, json=json))
    elif request.param == "httpx":
        client = sdk.watch(httpx.Client())
        yield lambda url, json: (lambda answer: (answer.status_code, answer.text))(client.post(url, json=json))
    else:

        async def ask(url: str, json: Any) -> tuple[int, str]:
            async with sdk.watch(httpx.AsyncClient()) as client:
                answer = await client.post(url, json=json)
                return answer.status_code, answer.text

        yield lambda url, json: asyncio.run(ask(url, json))


def test_a_chat_completion_is_recorded(sdk: Any, post: Any, model: LocalModel, collector: Collector) -> None:
    model.answers["/v1/chat/completions"] = CHAT
    status, text = post(model.url + "/v1/chat/completions", {"model": "asked", "messages": MESSAGES})
    assert status == 200
    assert "Hello!" in text
    record = only(sdk, collector)
    assert (record["input"], record["output"], record["model"]) == (MESSAGES, "Hello!", "served")
    assert (record["input_tokens"], record["output_tokens"], record["status"]) == (7, 3, "ok")


@pytest.mark.parametrize(
    ("path", "asked", "answer"),
    [
        ("/v1/responses", {"model": "m", "input": "Hello?"}, RESPONSE),
        ("/v1/messages", {"model": "m", "messages": MESSAGES, "system": "Be brief."}, ANTHROPIC),
        ("/v1beta/models/gem:generateContent", {"contents": [{"role": "user", "parts": [{"text": "Hello?"}]}]}, GEMINI),
        ("/api/chat", {"model": "m", "messages": MESSAGES, "stream": False}, OLLAMA),
        ("/generate", {"inputs": "Hello?"}, (200, [{"generated_text": "Hello!"}])),
        ("/v1/completions", {"model": "m", "prompt": "Hello?"}, {"choices": [{"text": "Hello!"}], "model": "served"}),
    ],
)
def test_the_shapes_of_other_servers_are_read(
    sdk: Any, model: LocalModel, collector: Collector, path: str, asked: Any, answer: Any
) -> None:
    model.answers[path] = answer
    sdk.watch(httpx.Client()).post(model.url + path, json=asked)
    record = only(sdk, collector)
    assert record["output"] == "Hello!"
    assert "Hello?" in str(record["input"])
    assert record.get("model") in ("served", None)


def test_an_answer_of_no_known_shape_is_kept_as_its_text(sdk: Any, model: LocalModel, collector: Collector) -> None:
    model.answers["/ask"] = {"reply": "Hello!"}
    sdk.watch(requests.Session()).post(model.url + "/ask", json={"prompt": "Hello?"})
    assert only(sdk, collector)["output"] == '{"reply": "Hello!"}'


def test_an_http_error_is_the_record_s_error(sdk: Any, post: Any, model: LocalModel, collector: Collector) -> None:
    model.answers["/v1/chat/completions"] = (429, {"error": "slow down"})
    assert post(model.url + "/v1/chat/completions", {"messages": MESSAGES})[0] == 429
    record = only(sdk, collector)
    assert (record["status"], record["input"]) == ("error", MESSAGES)
    assert record["error"] == 'HTTP 429: {"error": "slow down"}'


def test_no_connection_is_an_error_too(sdk: Any, collector: Collector) -> None:
    with pytest.raises(requests.ConnectionError):
        sdk.watch(requests.Session()).post("http://127.0.0.1:9/v1/chat/completions", json={"messages": MESSAGES})
    assert only(sdk, collector)["status"] == "error"


def test_other_requests_are_not_generations(sdk: Any, model: LocalModel, collector: Collector) -> None:
    model.answers = {"/v1/embeddings": {"data": []}, "/form": {}, "/json": {}}
    session = sdk.watch(requests.Session())
    session.post(model.url + "/v1/embeddings", json={"input": "text"})
    session.post(model.url + "/json", json={"name": "value"})
    sdk.watch(httpx.Client()).post(
        model.url + "/json", content=iter([b'{"messages": []}']), headers={"content-length": "16"}
    )
    assert sdk.flush(5)
    assert collector.records == {}


def test_a_stream_is_read_while_the_application_reads_it(sdk: Any, model: LocalModel, collector: Collector) -> None:
    model.answers["/v1/chat/completions"] = STREAM
    url, asked = model.url + "/v1/chat/completions", {"messages": MESSAGES, "stream": True}
    session = sdk.watch(requests.Session())
    with session.post(url, json=asked, stream=True) as response:
        assert b"[DONE]" in b"".join(response.iter_lines())
    with sdk.watch(httpx.Client()) as client, client.stream("POST", url, json=asked) as response:
        assert "data: [DONE]" in list(response.iter_lines())

    async def ask() -> None:
        async with sdk.watch(httpx.AsyncClient()) as client, client.stream("POST", url, json=asked) as response:
            assert "data: [DONE]" in [line async for line in response.aiter_lines()]

    asyncio.run(ask())
    assert sdk.flush(5)
    assert len(collector.records) == 3
    for record in collector.records.values():
        assert (record["output"], record["status"], record["model"]) == ("Hello!", "ok", "served")
        assert 25 <= record["ttft_ms"] <= record["latency_ms"] - 20


def test_a_stream_that_is_broken_off_is_aborted(sdk: Any, model: LocalModel, collector: Collector) -> None:
    model.answers["/v1/chat/completions"] = STREAM
    url, asked = model.url + "/v1/chat/completions", {"messages": MESSAGES, "stream": True}
    with sdk.watch(requests.Session()).post(url, json=asked, stream=True) as response:
        next(response.iter_lines())
    with sdk.watch(httpx.Client()) as client, client.stream("POST", url, json=asked) as response:
        next(response.iter_lines())

    async def ask() -> None:
        async with sdk.watch(httpx.AsyncClient()) as client, client.stream("POST", url, json=asked) as response:
            async for _ in response.aiter_lines():
                break

    asyncio.run(ask())
    gc.collect()
    assert sdk.flush(5)
    assert [record["status"] for record in collector.records.values()] == ["aborted"] * 3
    assert [record["output"] for record in collector.records.values()] == ["Hel"] * 3


@pytest.mark.parametrize("zipped", [False, True])
def test_a_body_that_is_passed_on_as_it_came_is_read_too(sdk: Any, collector: Collector, zipped: bool) -> None:
    lines = b"".join(b"data: " + json.dumps(event[1]).encode() + b"\n\n" for event in STREAM if type(event) is tuple)
    sent = gzip.compress(lines) if zipped else lines

    def answer(_: httpx.Request) -> httpx.Response:
        pieces = (sent[start : start + 40] for start in range(0, len(sent), 40))
        return httpx.Response(200, content=pieces, headers={"Content-Encoding": "gzip"} if zipped else {})

    client = sdk.watch(httpx.Client(transport=httpx.MockTransport(answer)))
    with client.stream("POST", "http://model/v1/chat/completions", json={"messages": MESSAGES}) as response:
        assert b"".join(response.iter_raw()) == sent
    record = only(sdk, collector)
    assert (record["output"], record["status"]) == ("Hello!", "ok")


def test_a_stream_that_nobody_reads_is_aborted(sdk: Any, model: LocalModel, collector: Collector) -> None:
    model.answers["/v1/chat/completions"] = STREAM
    asked = {"messages": MESSAGES, "stream": True}
    response = sdk.watch(requests.Session()).post(model.url + "/v1/chat/completions", json=asked, stream=True)
    del response
    gc.collect()
    assert only(sdk, collector)["status"] == "aborted"


@pytest.mark.parametrize("module", [requests, httpx])
def test_the_module_stands_for_all_its_sessions(
    sdk: Any, model: LocalModel, collector: Collector, monkeypatch: pytest.MonkeyPatch, module: Any
) -> None:
    for name in ("Session", "Client", "AsyncClient"):
        if hasattr(module, name):
            kind = getattr(module, name)
            monkeypatch.setattr(kind, "send", kind.send)  # as it was, after the test
    model.answers["/v1/chat/completions"] = CHAT
    sdk.watch(sdk.watch(module)).post(model.url + "/v1/chat/completions", json={"messages": MESSAGES})
    assert only(sdk, collector)["output"] == "Hello!"
    if module is httpx:

        async def ask() -> None:
            async with sdk.watch(httpx.AsyncClient()) as client:
                await client.post(model.url + "/v1/chat/completions", json={"messages": MESSAGES})

        asyncio.run(ask())
        assert sdk.flush(5)
        assert len(collector.records) == 2


def test_tool_calls_of_ollama_are_recorded(sdk: Any, model: LocalModel, collector: Collector) -> None:
    called = {"function": {"name": "weather", "arguments": {"city": "Ulm"}}}
    whole = {"model": "m", "message": {"content": "", "tool_calls": [called]}, "done": True, "eval_count": 2}
    model.answers["/api/chat"] = whole
    sdk.watch(httpx.Client()).post(model.url + "/api/chat", json={"messages": MESSAGES})
    assert only(sdk, collector)["output"] == '[tool call weather({"city":"Ulm"})]'


def test_a_whole_answer_that_is_read_as_a_stream_is_recorded(sdk: Any, model: LocalModel, collector: Collector) -> None:
    model.answers["/v1/chat/completions"] = CHAT
    url = model.url + "/v1/chat/completions"
    with sdk.watch(httpx.Client()) as client, client.stream("POST", url, json={"messages": MESSAGES}) as response:
        assert response.read()
    assert only(sdk, collector)["output"] == "Hello!"


def test_ollama_streams_a_value_a_line(sdk: Any, collector: Collector) -> None:
    from driftline_sdk import process
    from driftline_sdk.generation import Generation
    from driftline_sdk.libraries.shapes import Events

    generation = Generation(process.active)
    events = Events(generation, 200)
    body = b'{"model":"m","message":{"content":"Hel"},"done":false}\n{"model":"m","message":{"content":"lo!"},"done":'
    for byte in body + b'false}\n{"model":"m","message":{"content":""},"done":true,"eval_count":2}':
        events.feed(bytes([byte]))
    events.end()
    record = only(sdk, collector)
    assert (record["output"], record["output_tokens"], record["status"]) == ("Hello!", 2, "ok")


def test_a_client_library_over_a_watched_transport_is_recorded_once(
    sdk: Any, model: LocalModel, collector: Collector
) -> None:
    model.answers["/v1/chat/completions"] = CHAT
    client = sdk.watch(httpx.Client())
    with sdk.generation("outer"):
        client.post(model.url + "/v1/chat/completions", json={"messages": MESSAGES})
    record = only(sdk, collector)
    assert (record["input"], record["output"], record["output_tokens"]) == ("outer", "Hello!", 3)


def test_watching_a_session_twice_records_once(sdk: Any, model: LocalModel, collector: Collector) -> None:
    model.answers["/v1/chat/completions"] = CHAT
    session = sdk.watch(requests.Session())
    assert sdk.watch(session) is session
    session.post(model.url + "/v1/chat/completions", json={"messages": MESSAGES})
    only(sdk, collector)
