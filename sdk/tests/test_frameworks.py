"""Google GenAI, LiteLLM, LangChain and LlamaIndex, the real ones where they are installed."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from importlib import import_module
from typing import Any

import pytest
from local_collector import Collector, only
from local_model import LocalModel

MESSAGES = [{"role": "user", "content": "Hello?"}]
CHAT = {
    "id": "c1",
    "object": "chat.completion",
    "created": 1,
    "model": "served",
    "choices": [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "Hello!"}}],
    "usage": {"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10},
}


def delta(text: str, finish: Any = None) -> tuple[None, Any]:
    shared = {"id": "c1", "object": "chat.completion.chunk", "created": 1, "model": "served"}
    return None, {**shared, "choices": [{"index": 0, "delta": {"content": text}, "finish_reason": finish}]}


STREAM: list[Any] = [0.03, delta("Hel"), 0.03, delta("lo!"), delta("", "stop"), (None, "[DONE]")]


def gemini(*texts: str, finish: Any = None) -> dict[str, Any]:
    candidate = {"content": {"role": "model", "parts": [{"text": text} for text in texts]}, "index": 0}
    usage = {"promptTokenCount": 7, "candidatesTokenCount": 3, "totalTokenCount": 10}
    ended = {"finishReason": finish} if finish else {}
    return {"candidates": [{**candidate, **ended}], "modelVersion": "served", "usageMetadata": usage}


@pytest.fixture
def model() -> Iterator[LocalModel]:
    server = LocalModel()
    server.answers = {"/chat/completions": CHAT, ":generateContent": gemini("Hello!", finish="STOP")}
    server.answers[":streamGenerateContent"] = [(None, gemini("Hel")), (None, gemini("lo!", finish="STOP"))]
    yield server
    server.close()


class TestGoogle:
    @pytest.fixture
    def client(self, model: LocalModel, sdk: Any) -> Any:
        genai = pytest.importorskip("google.genai", reason="needs the package google-genai")
        options = genai.types.HttpOptions(base_url=model.url)
        return sdk.watch(genai.Client(api_key="k", http_options=options))

    @pytest.mark.parametrize("way", ["whole", "streamed", "chat"])
    def test_contents_are_recorded(self, sdk: Any, client: Any, collector: Collector, way: str) -> None:
        if way == "whole":
            client.models.generate_content(model="gem", contents="Hello?")
        elif way == "streamed":
            list(client.models.generate_content_stream(model="gem", contents="Hello?"))
        else:
            client.chats.create(model="gem").send_message("Hello?")
        record = only(sdk, collector)
        assert record["input"] in ("Hello?", MESSAGES)
        assert (record["output"], record["model"], record["status"]) == ("Hello!", "served", "ok")
        assert (record["input_tokens"], record["output_tokens"]) == (7, 3)
        assert ("ttft_ms" in record) == (way == "streamed")

    @pytest.mark.parametrize("streamed", [False, True])
    def test_function_calls_and_thoughts_are_recorded(
        self, sdk: Any, client: Any, model: LocalModel, collector: Collector, streamed: bool
    ) -> None:
        answer = gemini(finish="STOP")
        call = {"functionCall": {"name": "weather", "args": {"city": "Ulm"}}}
        answer["candidates"][0]["content"]["parts"] = [{"text": "Let me see."}, call, call]
        answer["usageMetadata"]["thoughtsTokenCount"] = 20
        model.answers = {":generateContent": answer, ":streamGenerateContent": [(None, answer)]}
        if streamed:
            list(client.models.generate_content_stream(model="gem", contents="Hello?"))
        else:
            client.models.generate_content(model="gem", contents="Hello?")
        record = only(sdk, collector)
        called = '[tool call weather({"city":"Ulm"})]'
        assert record["output"] == f"Let me see.\n{called}\n{called}"
        assert (record["output_tokens"], record["status"]) == (23, "ok")
        assert ("ttft_ms" in record) == streamed

    @pytest.mark.parametrize("way", ["whole", "streamed", "awaited", "awaited and streamed"])
    def test_interactions_are_recorded(
        self, sdk: Any, client: Any, model: LocalModel, collector: Collector, way: str
    ) -> None:
        if not hasattr(type(client), "interactions"):
            pytest.skip("needs google-genai 2")
        usage = {"total_input_tokens": 7, "total_output_tokens": 3, "total_thought_tokens": 20, "total_tokens": 30}
        told = {"id": "i1", "status": "completed", "model": "served", "usage": usage}
        call = {"type": "function_call", "id": "t1", "name": "weather", "arguments": {}}
        said = {"type": "model_output", "content": [{"type": "text", "text": "Hello!"}]}
        piece = {"type": "arguments_delta", "arguments": '{"city":"Ulm"}'}
        whole = {**told, "steps": [said, {**call, "arguments": {"city": "Ulm"}}]}
        events = [
            {"event_type": "interaction.created", "interaction": {"id": "i1", "status": "in_progress"}},
            {"event_type": "step.start", "index": 0, "step": {"type": "model_output", "content": []}},
            {"event_type": "step.delta", "index": 0, "delta": {"type": "text", "text": "Hello!"}},
            {"event_type": "step.start", "index": 1, "step": call},
            {"event_type": "step.delta", "index": 1, "delta": piece},
            {"event_type": "interaction.completed", "interaction": told},
        ]
        streams = "streamed" in way
        model.answers["/interactions"] = [(e["event_type"], e) for e in events] if streams else whole
        asked = {"model": "gem", "input": "Hello?", "system_instruction": "Be brief.", "stream": streams}

        async def ask() -> None:
            answer = await client.aio.interactions.create(**asked)
            if streams:
                assert len([event async for event in answer]) == 6

        if "awaited" in way:
            asyncio.run(ask())
        elif streams:
            assert len(list(client.interactions.create(**asked))) == 6
        else:
            client.interactions.create(**asked)
        record = only(sdk, collector)
        assert record["input"] == [{"role": "system", "content": "Be brief."}, *MESSAGES]
        assert record["output"] == 'Hello!\n[tool call weather({"city":"Ulm"})]'
        assert (record["model"], record["status"]) == ("served", "ok")
        assert (record["input_tokens"], record["output_tokens"]) == (7, 23)
        assert ("ttft_ms" in record) == streams

    def test_the_asynchronous_side_is_recorded(self, sdk: Any, client: Any, collector: Collector) -> None:
        async def ask() -> None:
            await client.aio.models.generate_content(
                model="gem", contents="Hello?", config={"system_instruction": "Be brief."}
            )
            async for _ in await client.aio.models.generate_content_stream(model="gem", contents="Hello?"):
                pass

        asyncio.run(ask())
        assert sdk.flush(5)
        assert [record["output"] for record in collector.records.values()] == ["Hello!"] * 2
        assert [{"role": "system", "content": "Be brief."}, *MESSAGES] in [
            record["input"] for record in collector.records.values()
        ]


class TestLiteLLM:
    @pytest.fixture
    def litellm(self, sdk: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
        monkeypatch.setenv("LITELLM_LOCAL_MODEL_COST_MAP", "True")
        module = pytest.importorskip("litellm", reason="needs the package litellm")
        functions = import_module("driftline_sdk.libraries.litellm").FUNCTIONS
        for name in functions:
            monkeypatch.setattr(module, name, getattr(module, name))  # as it was, after the test
        return sdk.watch(module)

    @pytest.mark.parametrize("streamed", [False, True])
    @pytest.mark.parametrize("awaited", [False, True])
    def test_completions_are_recorded(
        self, sdk: Any, litellm: Any, model: LocalModel, collector: Collector, streamed: bool, awaited: bool
    ) -> None:
        asked: dict[str, Any] = {"model": "openai/gpt", "messages": MESSAGES, "api_base": model.url, "api_key": "k"}
        if streamed:
            model.answers["/chat/completions"] = STREAM
            asked["stream"] = True

        async def ask() -> None:
            answer = await litellm.acompletion(**asked)
            if streamed:
                async for _ in answer:
                    pass

        if awaited:
            asyncio.run(ask())
        elif streamed:
            list(litellm.completion(**asked))
        else:
            litellm.completion(**asked)
        record = only(sdk, collector)
        assert (record["input"], record["output"], record["status"]) == (MESSAGES, "Hello!", "ok")
        assert ("ttft_ms" in record) == streamed
        if not streamed:
            assert (record["input_tokens"], record["output_tokens"]) == (7, 3)

    def test_text_completions_and_responses_are_recorded(
        self, sdk: Any, litellm: Any, model: LocalModel, collector: Collector
    ) -> None:
        told = {"api_base": model.url, "api_key": "k"}
        model.answers["/completions"] = {**CHAT, "choices": [{"index": 0, "text": "Hello!", "finish_reason": "stop"}]}
        litellm.text_completion("Hello?", "text-completion-openai/gpt", **told)
        part = {"type": "output_text", "text": "Hello!", "annotations": []}
        said = {"id": "m1", "type": "message", "role": "assistant", "status": "completed", "content": [part]}
        usage = {"input_tokens": 7, "output_tokens": 3, "total_tokens": 10}
        whole = {"id": "r1", "object": "response", "created_at": 1, "model": "served", "status": "completed"}
        whole |= {"output": [said], "usage": usage, "parallel_tool_calls": True, "tool_choice": "auto", "tools": []}
        model.answers["/responses"] = whole
        asyncio.run(litellm.aresponses(input="Hello?", model="openai/gpt", **told))
        assert sdk.flush(5)
        assert [(r["input"], r["output"], r["model"], r["output_tokens"]) for r in collector.records.values()] == [
            ("Hello?", "Hello!", "served", 3)
        ] * 2


class TestLangChain:
    @pytest.fixture
    def chat(self, model: LocalModel, sdk: Any) -> Any:
        langchain = pytest.importorskip("langchain_openai", reason="needs the package langchain-openai")
        return sdk.watch(langchain.ChatOpenAI(model="gpt", base_url=model.url, api_key="k", max_retries=0))

    def test_a_call_is_recorded(self, sdk: Any, chat: Any, collector: Collector) -> None:
        with sdk.context(session_id="s1"):
            assert chat.invoke([("system", "Be brief."), ("user", "Hello?")]).content == "Hello!"
        record = only(sdk, collector)
        assert record["input"] == [{"role": "system", "content": "Be brief."}, *MESSAGES]
        assert (record["output"], record["model"], record["session_id"]) == ("Hello!", "served", "s1")
        assert (record["input_tokens"], record["output_tokens"]) == (7, 3)

    @pytest.mark.parametrize("complete", [True, False])
    def test_a_stream_is_recorded(
        self, sdk: Any, chat: Any, model: LocalModel, collector: Collector, complete: bool
    ) -> None:
        model.answers["/chat/completions"] = STREAM
        stream = chat.stream("Hello?")
        for chunk in stream:
            if chunk.content and not complete:
                stream.close()
                break
        record = only(sdk, collector)
        assert (record["output"], record["status"]) == (("Hello!", "ok") if complete else ("Hel", "aborted"))
        assert 25 <= record["ttft_ms"] <= record["latency_ms"]

    @pytest.mark.parametrize("streamed", [False, True])
    def test_tool_calls_are_recorded(
        self, sdk: Any, chat: Any, model: LocalModel, collector: Collector, streamed: bool
    ) -> None:
        function = {"name": "weather", "arguments": '{"city":"Ulm"}'}
        call = {"index": 0, "id": "t1", "type": "function", "function": function}
        _, begun = delta("Let me see.")
        begun["choices"][0]["delta"]["tool_calls"] = [call]
        message = {"role": "assistant", "content": "Let me see.", "tool_calls": [call]}
        whole = {**CHAT, "choices": [{"index": 0, "finish_reason": "tool_calls", "message": message}]}
        model.answers["/chat/completions"] = [(None, begun), delta("", "stop"), (None, "[DONE]")] if streamed else whole
        bound = chat.bind_tools([{"type": "function", "function": {"name": "weather", "parameters": {}}}])
        list(bound.stream("Hello?")) if streamed else bound.invoke("Hello?")
        assert only(sdk, collector)["output"] == 'Let me see.\n[tool call weather({"city":"Ulm"})]'

    def test_asynchronous_calls_keep_their_context(self, sdk: Any, chat: Any, collector: Collector) -> None:
        async def ask(session: str) -> None:
            with sdk.context(session_id=session):
                await chat.ainvoke("Hello?")

        async def everyone() -> None:
            await asyncio.gather(*(ask(f"s{n}") for n in range(4)))

        asyncio.run(everyone())
        assert sdk.flush(5)
        assert {record["session_id"] for record in collector.records.values()} == {"s0", "s1", "s2", "s3"}

    def test_errors_are_recorded_and_raised(self, sdk: Any, chat: Any, model: LocalModel, collector: Collector) -> None:
        model.answers["/chat/completions"] = (400, {"error": {"message": "no"}})
        with pytest.raises(Exception, match="no"):
            chat.invoke("Hello?")
        assert only(sdk, collector)["status"] == "error"

    def test_a_chain_is_watched_through_what_is_answered(
        self, sdk: Any, model: LocalModel, collector: Collector
    ) -> None:
        langchain = pytest.importorskip("langchain_openai", reason="needs the package langchain-openai")
        prompts = import_module("langchain_core.prompts")
        unwatched = langchain.ChatOpenAI(model="gpt", base_url=model.url, api_key="k", max_retries=0)
        chain = sdk.watch(prompts.ChatPromptTemplate.from_messages([("user", "{asked}")]) | unwatched)
        assert chain.invoke({"asked": "Hello?"}).content == "Hello!"
        assert [answer.content for answer in chain.batch([{"asked": "Hello?"}] * 3)] == ["Hello!"] * 3
        assert sdk.flush(5)
        assert [r["input"] for r in collector.records.values()] == [MESSAGES] * 4

    def test_watching_twice_records_once(self, sdk: Any, chat: Any, collector: Collector) -> None:
        sdk.watch(chat).invoke("Hello?")
        assert only(sdk, collector)


class TestLlamaIndex:
    @pytest.fixture
    def llm(self, sdk: Any) -> Any:
        mock = pytest.importorskip("llama_index.core.llms.mock", reason="needs the package llama-index-core")
        return sdk.watch(mock.MockLLM(max_tokens=5))

    @pytest.mark.parametrize("way", ["complete", "stream_complete", "chat", "stream_chat", "acomplete"])
    def test_calls_are_recorded(self, sdk: Any, llm: Any, collector: Collector, way: str) -> None:
        types = pytest.importorskip("llama_index.core.base.llms.types")
        chat = [types.ChatMessage(role="user", content="one two three")]
        asked: Any = chat if "chat" in way else "one two three"
        answer = getattr(llm, way)(asked)
        if way.startswith("stream"):
            text = list(answer)[-1]
        else:
            text = asyncio.run(wait(answer)) if way == "acomplete" else answer
        record = only(sdk, collector)
        said = text.message.content if "chat" in way else text.text
        assert record["output"] == said != ""
        assert ("ttft_ms" in record) == way.startswith("stream")
        assert "one two three" in str(record["input"])
        assert record["status"] == "ok"

    def test_errors_are_recorded_and_raised(self, sdk: Any, collector: Collector) -> None:
        mock = pytest.importorskip("llama_index.core.llms.mock", reason="needs the package llama-index-core")

        class Broken(mock.MockLLM):  # type: ignore[misc, name-defined]
            def _generate_text(self, length: int) -> str:
                raise RuntimeError("no answer")

        llm = sdk.watch(Broken(max_tokens=5))
        with pytest.raises(RuntimeError, match="no answer"):
            llm.complete("one two three")
        record = only(sdk, collector)
        assert (record["status"], record["error"]) == ("error", "RuntimeError: no answer")


async def wait(answer: Any) -> Any:
    return await answer


def test_what_watch_does_not_know_is_answered_as_it_is(sdk: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(TypeError, match="it knows objects of openai"):
        sdk.watch(object())
    monkeypatch.delenv("DRIFTLINE_SDK_STRICT")
    unknown = object()
    assert sdk.watch(unknown) is unknown


def test_every_row_of_the_table_leads_to_a_function() -> None:
    from importlib import import_module

    from driftline_sdk.libraries import LIBRARIES

    for place in LIBRARIES.values():
        module, _, function = place.partition(":")
        assert callable(getattr(import_module(module), function))
