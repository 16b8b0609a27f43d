"""What frameworks export that name things in their own way, in the shapes they were seen to send."""

import json
from typing import Any

import pytest

from collector.contents import answer_of, asked_of
from collector.messages import messages_of
from collector.usage import tokens_of
from driftline.store.tables import Intake
from tests.collector.spans import START, rows, send, span

MESSAGES = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Capital of Germany?"}]
PARTS = [{"role": m["role"], "parts": [{"type": "text", "content": m["content"]}]} for m in MESSAGES]
ANSWER = [{"role": "assistant", "parts": [{"type": "text", "content": "Berlin"}], "finish_reason": "stop"}]
CHOICES = [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "Berlin"}}]
RESPONSE = [
    {"type": "reasoning", "id": "rs-1", "summary": [{"type": "summary_text", "text": "Germany, so …"}]},
    {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "Berlin", "annotations": []}]},
]


def lc(name: str, **kwargs: Any) -> dict[str, Any]:
    return {"lc": 1, "type": "constructor", "id": ["langchain", "schema", "messages", name], "kwargs": kwargs}


def said(**more: Any) -> str:
    return json.dumps({"usage": {"prompt_tokens": 12, "completion_tokens": 1}, **more})


MLFLOW = {
    "mlflow.spanType": '"CHAT_MODEL"', "mlflow.traceRequestId": '"tr-1"', "mlflow.llm.model": '"gpt-2024"',
    "mlflow.chat.tokenUsage": '{"input_tokens": 12, "output_tokens": 1, "total_tokens": 13, '
                              '"cache_read_input_tokens": 8}',
}  # fmt: skip
LOGFIRE = {
    "logfire.span_type": "span", "logfire.tags": ["LLM"], "gen_ai.request.model": "gpt", "gen_ai.system": "openai",
    "gen_ai.response.model": "gpt-2024",
}  # fmt: skip
USED = {"gen_ai.usage.input_tokens": 12, "gen_ai.usage.output_tokens": 1}
PYDANTIC = USED | {
    "gen_ai.operation.name": "chat", "gen_ai.response.model": "gpt-2024", "logfire.span_type": "span"
}  # fmt: skip
VERCEL = {
    "ai.operationId": "ai.streamText.doStream", "ai.model.id": "gpt", "ai.response.model": "gpt-2024",
    "ai.usage.inputTokens": 12, "ai.usage.outputTokens": 1, "ai.usage.cachedInputTokens": 8,
    "ai.response.msToFirstChunk": 250.0,
    "ai.prompt.messages": '[{"role":"system","content":"Be brief."},'
                          '{"role":"user","content":[{"type":"text","text":"Capital of Germany?"}]}]',
}  # fmt: skip
STRANDS = USED | {
    "gen_ai.operation.name": "chat", "gen_ai.system": "strands-agents", "gen_ai.request.model": "gpt-2024",
    "gen_ai.server.time_to_first_token": 250, "gen_ai.usage.cache_read_input_tokens": 8,
}  # fmt: skip
LANGSMITH = USED | {
    "langsmith.span.kind": "llm", "gen_ai.operation.name": "chat", "gen_ai.request.model": "gpt-2024",
    "langsmith.metadata.thread_id": "c1", "langsmith.metadata.user_id": "u1",
}  # fmt: skip
ADK_REQUEST = {
    "model": "gpt-2024", "config": {"system_instruction": "Be brief."},
    "contents": [{"role": "user", "parts": [{"text": "Capital of Germany?"}]}],
}  # fmt: skip
CHUNK = {"mlflow.chunk.value": json.dumps({"choices": [{"delta": {"role": "assistant", "content": ""}}]})}
CONTENT = {"mlflow.chunk.value": json.dumps({"choices": [{"delta": {"content": "Ber"}}]})}
CREATED = {"mlflow.chunk.value": json.dumps({"type": "response.created", "response": {"tool_calls": []}})}
DELTA = {"mlflow.chunk.value": json.dumps({"delta": "Ber", "type": "response.output_text.delta"})}
EVENTS = [
    {"content": "Be brief.", "role": "system", "event.name": "gen_ai.system.message"},
    {"content": "Capital of Germany?", "role": "user", "event.name": "gen_ai.user.message"},
]

CALLS: dict[str, tuple[dict[str, Any], list[Any]]] = {
    "MLflow, chat completions": (
        MLFLOW | {"mlflow.spanInputs": json.dumps({"model": "gpt", "messages": MESSAGES}),
                  "mlflow.spanOutputs": said(choices=CHOICES)},
        [("mlflow.chunk.item.0", 0.1, CHUNK), ("mlflow.chunk.item.1", 0.25, CONTENT)],
    ),
    "MLflow, responses": (
        MLFLOW | {"mlflow.spanInputs": json.dumps({"instructions": "Be brief.", "input": "Capital of Germany?"}),
                  "mlflow.spanOutputs": said(object="response", output=RESPONSE)},
        [("mlflow.chunk.item.0", 0.1, CREATED), ("mlflow.chunk.item.1", 0.25, DELTA)],
    ),
    "Logfire": (
        LOGFIRE | USED | {"gen_ai.input.messages": json.dumps(PARTS), "gen_ai.output.messages": json.dumps(ANSWER)}, []
    ),
    "Logfire 4, chat completions": (
        LOGFIRE | {"request_data": json.dumps({"messages": MESSAGES, "model": "gpt"}),
                   "response_data": said(message={"content": "Berlin", "role": "assistant", "tool_calls": None})},
        [],
    ),
    "Logfire 4, responses": (
        LOGFIRE | USED | {"events": json.dumps([
            *EVENTS, {"event.name": "gen_ai.assistant.message", "content": "Berlin", "role": "assistant"}])},
        [],
    ),
    "Pydantic AI": (
        PYDANTIC | {
            "gen_ai.client.operation.time_to_first_chunk": 0.25, "gen_ai.input.messages": json.dumps(PARTS[1:]),
            "gen_ai.output.messages": json.dumps(ANSWER), "gen_ai.usage.details.reasoning_tokens": 3,
            "gen_ai.system_instructions": '[{"type":"text","content":"Be brief."}]',
        },
        [],
    ),
    "Pydantic AI 0.8": (
        PYDANTIC | {"events": json.dumps([
            *EVENTS, {"event.name": "gen_ai.choice", "message": {"role": "assistant", "content": "Berlin"}}])},
        [],
    ),
    "Vercel AI SDK 6": (VERCEL | {"ai.response.text": "Berlin"}, []),
    "Strands": (
        STRANDS,
        [("gen_ai.system.message", 0, {"content": '[{"text": "Be brief."}]'}),
         ("gen_ai.user.message", 0, {"content": '[{"text": "Capital of Germany?"}]'}),
         ("gen_ai.choice", 1, {"finish_reason": "end_turn", "message": '[{"text": "Berlin"}]'})],
    ),
    "LangSmith": (
        LANGSMITH | {
            "gen_ai.prompt": json.dumps({"messages": [[
                lc("SystemMessage", content="Be brief.", type="system"),
                lc("HumanMessage", content="Capital of Germany?", type="human")]]}),
            "gen_ai.completion": json.dumps({"generations": [[
                {"text": "Berlin", "message": lc("AIMessage", content="Berlin", type="ai", tool_calls=[])}]]}),
        },
        [],
    ),
    "Google ADK 1": (
        USED | {
            "gen_ai.system": "gcp.vertex.agent", "gen_ai.request.model": "gpt-2024",
            "gcp.vertex.agent.session_id": "c1", "gcp.vertex.agent.llm_request": json.dumps(ADK_REQUEST),
            "gcp.vertex.agent.llm_response": '{"content": {"parts": [{"text": "Berlin"}], "role": "model"}}',
        },
        [],
    ),
    "Genkit": (
        {
            "genkit:type": "action", "genkit:metadata:subtype": "model", "genkit:name": "gpt-2024",
            "genkit:input": json.dumps({"messages": [
                {"role": m["role"], "content": [{"text": m["content"]}]} for m in MESSAGES]}),
            "genkit:output": json.dumps({"message": {"role": "model", "content": [{"text": "Berlin"}]},
                                         "usage": {"inputTokens": 12, "outputTokens": 1, "thoughtsTokens": 3}}),
        },
        [],
    ),
    "Azure AI": (
        USED | {"gen_ai.operation.name": "chat", "gen_ai.response.model": "gpt-2024"},
        [("gen_ai.system.message", 0, {"gen_ai.event.content": json.dumps(MESSAGES[0])}),
         ("gen_ai.user.message", 0, {"gen_ai.event.content": json.dumps(MESSAGES[1])}),
         ("gen_ai.choice", 1, {"gen_ai.event.content": json.dumps(CHOICES[0])})],
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", CALLS)
def test_every_framework_gives_the_whole_call(sqlite_client, name):
    attributes, events = CALLS[name]
    send(sqlite_client, span(attributes, events=events))
    (row,) = rows()
    assert json.loads(row.input) == MESSAGES
    assert (row.output, row.model, row.status) == ("Berlin", "gpt-2024", "ok")
    assert (row.input_tokens, row.output_tokens, row.latency_ms) == (12, 1, 1500)
    if (events and "MLflow" in name) or name in ("Pydantic AI", "Vercel AI SDK 6", "Strands"):
        assert row.ttft_ms == pytest.approx(250)
    if "thread_id" in str(attributes) or "session_id" in str(attributes):
        assert row.session_id == "c1"
    cached = "8" if "8" in str(attributes) and name.startswith(("MLflow", "Vercel", "Strands")) else None
    reasoning = "3" if name in ("Pydantic AI", "Genkit") else None
    assert (row.tags.get("cached_tokens"), row.tags.get("reasoning_tokens")) == (cached, reasoning)


AROUND = {
    "Vercel's outer span": {"ai.operationId": "ai.streamText", "ai.model.id": "gpt", "ai.response.text": "Berlin",
                            "ai.usage.inputTokens": 12},
    "Vercel's tool": {"ai.operationId": "ai.toolCall", "ai.toolCall.name": "find"},
    "Vercel's embedding": {"ai.operationId": "ai.embed.doEmbed", "ai.model.id": "gpt", "ai.usage.tokens": 12},
    "MLflow's chain": {"mlflow.spanType": '"CHAIN"', "mlflow.spanInputs": '{"q": 1}', "mlflow.spanOutputs": '"x"'},
    "MLflow's chain by OpenTelemetry's names": {"gen_ai.operation.name": "CHAIN"},
    "Strands' loop": {"gen_ai.operation.name": "execute_event_loop_cycle", "gen_ai.system": "strands-agents"},
    "LangSmith's prompt": {"langsmith.span.kind": "prompt", "gen_ai.operation.name": "chat", "gen_ai.prompt": "{}"},
    "LangSmith's chain": USED | {"langsmith.span.kind": "chain", "gen_ai.operation.name": "chain"},
    "Pydantic AI's agent of old": USED | {"agent_name": "a", "model_name": "gpt", "final_result": "Berlin"},
    "ADK's tool": {"gen_ai.operation.name": "execute_tool", "gcp.vertex.agent.llm_request": "{}"},
    "Genkit's flow": {"genkit:metadata:subtype": "flow", "genkit:name": "menu", "genkit:input": '"x"'},
    "Azure's thread": {"gen_ai.operation.name": "create_thread", "gen_ai.system": "az.ai.agents"},
    "Logfire's request of a stream": LOGFIRE | {"gen_ai.input.messages": json.dumps(PARTS)},
}  # fmt: skip


def test_what_frameworks_wrap_around_calls_is_no_call(sqlite_client):
    send(sqlite_client, *map(span, AROUND.values()))
    assert [row.tags for row in rows()] == []
    assert [(i.reason, i.n) for i in rows(Intake)] == [("other_spans", len(AROUND))]


def test_a_step_that_names_its_model_is_a_call_whatever_it_is_named(sqlite_client):
    send(sqlite_client, span({"gen_ai.operation.name": "my_completion", "gen_ai.request.model": "gpt"}))
    assert len(rows()) == 1


def test_a_stream_that_logfire_tells_by_its_end_has_its_own_latency(sqlite_client):
    told = LOGFIRE | USED | {
        "logfire.span_type": "log", "duration": 0.6, "gen_ai.input.messages": json.dumps(PARTS),
        "gen_ai.output.messages": json.dumps(ANSWER), "gen_ai.response.finish_reasons": '["stop"]',
    }  # fmt: skip
    failed = span(LOGFIRE, status=(2, "rate limited"))
    whole = span(PYDANTIC | {"duration": 0.6})
    send(sqlite_client, span(LOGFIRE, seconds=0.002), span(told, seconds=0), failed, whole)
    done, refused, other = rows()
    assert (done.latency_ms, done.started_at, done.output) == (600, (START - 600_000_000) // 1000, "Berlin")
    assert done.tags["finish_reason"] == "stop"
    assert (refused.status, refused.error) == ("error", "rate limited")
    assert (other.latency_ms, other.started_at) == (1500, START // 1000)


@pytest.mark.parametrize(("told", "expected"), [(687, 687), (687.0, 687_000), (1, 1000), (0.7005, 700.5)])
def test_a_first_token_after_the_last_was_told_in_milliseconds(sqlite_client, told, expected):
    send(sqlite_client, span(STRANDS | {"gen_ai.server.time_to_first_token": told}, seconds=1.5 if told == 1 else 0.7))
    assert rows()[0].ttft_ms == pytest.approx(expected)


CALL = {"type": "function_call", "call_id": "1", "name": "find", "arguments": '{"q":1}'}
TOOL_CALLS: dict[str, Any] = {
    "OpenAI's chat": {"role": "assistant", "tool_calls": [{"function": {"name": "find", "arguments": '{"q":1}'}}]},
    "OpenAI's responses": {"output": [{"type": "reasoning", "summary": []}, CALL]},
    "one item of responses": CALL,
    "OpenTelemetry": [{"role": "assistant", "parts": [{"type": "tool_call", "name": "find", "arguments": {"q": 1}}]}],
    "Anthropic": {"role": "assistant", "content": [{"type": "tool_use", "id": "1", "name": "find", "input": {"q": 1}}]},
    "Bedrock": [{"toolUse": {"toolUseId": "1", "name": "find", "input": {"q": 1}}}],
    "Gemini": {"candidates": [{"content": {"parts": [{"functionCall": {"name": "find", "args": {"q": 1}}}]}}]},
    "ADK": {"content": {"parts": [{"function_call": {"name": "find", "args": {"q": 1}}}], "role": "model"}},
    "Vercel": [{"toolCallId": "1", "toolName": "find", "input": {"q": 1}}],
    "Vercel 4": [{"toolCallType": "function", "toolCallId": "1", "toolName": "find", "args": '{"q":1}'}],
    "LangChain": {"type": "ai", "content": "", "tool_calls": [{"name": "find", "args": {"q": 1}, "type": "tool_call"}]},
}


@pytest.mark.parametrize("name", TOOL_CALLS)
def test_tool_calls_of_every_provider_read_the_same(name):
    assert answer_of(TOOL_CALLS[name]) == '[tool call find({"q":1})]'


@pytest.mark.parametrize(
    "items",
    [
        [CALL, {"type": "function_call_output", "call_id": "1", "output": "3.6"}],
        [{"role": "assistant", "content": [{"type": "tool-call", "toolName": "find", "input": {"q": 1}}]},
         {"role": "tool", "content": [{"type": "tool-result", "toolName": "find",
                                       "output": {"type": "text", "value": "3.6"}}]}],
        [{"role": "assistant", "content": [{"type": "tool_use", "name": "find", "input": {"q": 1}}]},
         {"role": "tool", "content": [{"type": "tool_result", "content": [{"type": "text", "text": "3.6"}]}]}],
        [{"role": "assistant", "content": [{"toolUse": {"name": "find", "input": {"q": 1}}}]},
         {"role": "tool", "content": [{"toolResult": {"toolUseId": "1", "content": [{"text": "3.6"}]}}]}],
        [lc("AIMessage", content="", tool_calls=[{"name": "find", "args": {"q": 1}}]),
         lc("ToolMessage", content="3.6", type="tool")],
    ],
)  # fmt: skip
def test_a_conversation_with_a_tool_reads_the_same(items):
    assert messages_of(items) == [
        {"role": "assistant", "content": '[tool call find({"q":1})]'}, {"role": "tool", "content": "3.6"}
    ]  # fmt: skip


def test_litellm_tells_tool_calls_beside_empty_messages(sqlite_client):
    told = {
        "gen_ai.request.model": "gpt", "gen_ai.output.messages": '[{"role": "assistant", "parts": []}]',
        "gen_ai.completion.0.function_call.name": "find", "gen_ai.completion.0.function_call.arguments": '{"q":1}',
    }  # fmt: skip
    send(sqlite_client, span(told))
    assert rows()[0].output == '[tool call find({"q":1})]'


def test_an_answer_beside_its_tool_calls_is_kept_with_them(sqlite_client):
    calls = '[{"toolCallId": "1", "toolName": "find", "input": {"q": 1}}]'
    send(sqlite_client, span(VERCEL | {"ai.response.text": "Let me see.", "ai.response.toolCalls": calls}))
    assert rows()[0].output == 'Let me see.\n[tool call find({"q":1})]'


JSON_ANSWER = '{"value": 3, "text": "Berlin", "content": [1]}'


@pytest.mark.parametrize(
    "attributes",
    [
        {"openinference.span.kind": "LLM", "llm.output_messages.0.message.content": JSON_ANSWER},
        {"gen_ai.completion.0.content": JSON_ANSWER},
        VERCEL | {"ai.response.object": JSON_ANSWER},
        VERCEL | {"ai.response.text": JSON_ANSWER},
        MLFLOW | {"mlflow.spanOutputs": said(choices=[{"message": {"role": "assistant", "content": JSON_ANSWER}}])},
    ],
)
def test_an_answer_that_is_json_is_kept_as_it_was_said(sqlite_client, attributes):
    send(sqlite_client, span(attributes))
    assert rows()[0].output == JSON_ANSWER


def test_thoughts_are_no_part_of_an_answer():
    parts = [{"type": "thinking", "thinking": "Germany, so …"}, {"type": "text", "text": "Berlin"}]
    assert answer_of({"role": "assistant", "content": parts}) == "Berlin"
    told = [{"role": "assistant", "parts": [{"type": "reasoning", "content": "…"}, *ANSWER[0]["parts"]]}]
    assert answer_of(told) == answer_of({"output": RESPONSE}) == "Berlin"


def test_a_request_may_be_told_whole():
    for request in (
        {"instructions": "Be brief.", "input": "Capital of Germany?"},
        {"system": [{"type": "text", "text": "Be brief."}], "messages": MESSAGES[1:]},
        ADK_REQUEST,
    ):
        assert asked_of(request) == MESSAGES
    assert asked_of({"q": "Capital?"}) == [{"role": "user", "content": '{"q":"Capital?"}'}]


@pytest.mark.parametrize(
    ("usage", "expected"),
    [
        ({"input": 5, "input_cache_read": 16, "output": 2, "output_reasoning": 3}, (21, 5, 16, 3)),  # Langfuse
        ({"input": 21, "input_cache_read": 16, "output": 5, "total": 26}, (21, 5, 16, None)),
        ({"input_tokens": 5, "cache_read_input_tokens": 16, "output_tokens": 2}, (21, 2, 16, None)),  # Anthropic
        (
            {"prompt_tokens": 21, "completion_tokens": 5, "total_tokens": 26,
             "prompt_tokens_details": {"cached_tokens": 16}, "completion_tokens_details": {"reasoning_tokens": 3}},
            (21, 5, 16, 3),
        ),
        ({"promptTokenCount": 21, "candidatesTokenCount": 5, "totalTokenCount": 29, "thoughtsTokenCount": 3},
         (21, 5, None, 3)),
        ({"input": "many", "output": None, "input_x": True}, (None, None, None, None)),
        ([5], (None, None, None, None)),
    ],
)  # fmt: skip
def test_tokens_are_read_from_every_kind_of_usage(usage, expected):
    found = tokens_of(usage)
    names = ("input_tokens", "output_tokens", "cached_tokens", "reasoning_tokens")
    assert tuple(map(found.get, names)) == expected
