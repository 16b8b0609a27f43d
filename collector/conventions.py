"""What attributes mean: the one table of all conventions that spans arrive in.

Three generations of OpenTelemetry's GenAI conventions (to 1.36, to 1.41, and the renames after it), OpenInference,
Traceloop, Langfuse, LangSmith, MLflow, Logfire, Pydantic AI, the Vercel AI SDK, Strands, Google's ADK and Genkit, and
Azure AI. A new convention is a row here.
"""

import re
from collections.abc import Collection
from itertools import chain
from typing import Any

# field of a record → attributes that give it, the most telling first
FIELDS: dict[str, tuple[str, ...]] = {
    "variant": ("driftline.variant",),
    "route": ("driftline.route",),
    "status": ("driftline.status",),
    "sample_rate": ("driftline.sample_rate",),
    "model": (
        "gen_ai.response.model", "gen_ai.request.model", "llm.response.model_name", "llm.model_name",
        "llm.request.model_name", "llm.response.model", "llm.request.model", "langfuse.observation.model.name",
        "langfuse.observation.model", "ai.response.model", "ai.model.id", "mlflow.llm.model", "genkit:name",
    ),
    "session_id": (
        "gen_ai.conversation.id", "session.id", "langfuse.session.id", "traceloop.association.properties.session_id",
        "traceloop.association.properties.thread_id", "ai.telemetry.metadata.sessionId",
        "langsmith.metadata.session_id", "langsmith.metadata.thread_id", "gcp.vertex.agent.session_id",
        "genkit:sessionId",
    ),
    "user_id": (
        "user.id", "enduser.id", "langfuse.user.id", "llm.user", "traceloop.association.properties.user_id",
        "ai.telemetry.metadata.userId", "langsmith.metadata.user_id",
    ),
    "input_tokens": (
        "gen_ai.usage.input_tokens", "gen_ai.usage.prompt_tokens", "llm.token_count.prompt", "llm.usage.prompt_tokens",
        "ai.usage.promptTokens", "ai.usage.inputTokens",
    ),
    "output_tokens": (
        "gen_ai.usage.output_tokens", "gen_ai.usage.completion_tokens", "llm.token_count.completion",
        "llm.usage.completion_tokens", "ai.usage.completionTokens", "ai.usage.outputTokens",
    ),
    "cost_usd": ("gen_ai.usage.cost", "gen_ai.usage.cost_usd", "gen_ai.cost.total_cost", "llm.cost.total"),
    "ttft_s": (
        "gen_ai.response.time_to_first_chunk", "gen_ai.server.time_to_first_token",
        "gen_ai.latency.time_to_first_token",  # the spans of vLLM and SGLang
        "gen_ai.client.operation.time_to_first_chunk",  # a metric's name, which Pydantic AI puts on spans
        "gen_ai.server.ttft",
    ),
    "ttft_ms": ("ai.response.msToFirstChunk",),
    "first_token_at": ("langfuse.observation.completion_start_time",),
    "usage": ("langfuse.observation.usage_details", "mlflow.chat.tokenUsage"),  # JSON object
    "cost": ("langfuse.observation.cost_details",),  # JSON object
    "error": ("langfuse.observation.status_message", "error.message", "exception.message"),
    "error_type": ("error.type",),
    "level": ("langfuse.observation.level",),
    "system": ("gen_ai.system_instructions",),
    "input": (
        "gen_ai.input.messages", "gen_ai.prompt", "ai.prompt.messages", "langfuse.observation.input", "llm.prompts",
        "input.value", "ai.prompt", "mlflow.spanInputs", "gcp.vertex.agent.llm_request", "genkit:input",
        "request_data",  # Logfire's
    ),
    "output": (
        "gen_ai.output.messages", "gen_ai.completion", "langfuse.observation.output", "output.value",
        "mlflow.spanOutputs", "gcp.vertex.agent.llm_response", "genkit:output", "response_data",
    ),
    "answer": ("ai.response.text", "ai.response.object"),  # the text itself, also where it is JSON
    "called": ("ai.response.toolCalls",),  # JSON list, beside an answer or alone
    "events": ("events",),  # JSON list of message events: Pydantic AI's first form, and Logfire's
    "logfire_tags": ("logfire.tags",),
    "logfire_type": ("logfire.span_type",),
    "took_s": ("duration",),  # of Logfire's logs
}  # fmt: skip

# attribute → tag under which its value is kept
TAGS = {
    "gen_ai.operation.name": "operation",
    "gen_ai.provider.name": "provider",
    "gen_ai.system": "provider",
    "llm.provider": "provider",
    "llm.system": "provider",
    "gen_ai.response.id": "response_id",
    "gen_ai.response.finish_reasons": "finish_reason",
    "llm.finish_reason": "finish_reason",
    "gen_ai.agent.name": "agent",
    "gen_ai.prompt.name": "prompt",
    "gen_ai.prompt.version": "prompt_version",
    "langfuse.observation.prompt.name": "prompt",
    "langfuse.observation.prompt.version": "prompt_version",
    "service.name": "service",
    "service.version": "service_version",
    "deployment.environment": "environment",
    "deployment.environment.name": "environment",
    "langfuse.environment": "environment",
    "langfuse.release": "release",
    "server.address": "server",
    "mlflow.llm.provider": "provider",
    "ai.telemetry.functionId": "function",
    "gen_ai.usage.cache_read.input_tokens": "cached_tokens",
    "gen_ai.usage.cache_read_input_tokens": "cached_tokens",
    "llm.token_count.prompt_details.cache_read": "cached_tokens",
    "ai.usage.cachedInputTokens": "cached_tokens",
    "ai.usage.inputTokenDetails.cacheReadTokens": "cached_tokens",
    "gen_ai.usage.reasoning.output_tokens": "reasoning_tokens",
    "gen_ai.usage.reasoning_tokens": "reasoning_tokens",
    "gen_ai.usage.details.reasoning_tokens": "reasoning_tokens",
    "llm.token_count.completion_details.reasoning": "reasoning_tokens",
    "ai.usage.reasoningTokens": "reasoning_tokens",
    "ai.usage.outputTokenDetails.reasoningTokens": "reasoning_tokens",
    # where an application keeps the texts itself
    "gen_ai.input.messages_ref": "input_ref",
    "gen_ai.output.messages_ref": "output_ref",
    "gen_ai.system_instructions_ref": "system_ref",
}

# the rest of the attribute's name is the tag
TAG_PREFIXES = (
    "driftline.tag.",
    "langfuse.trace.metadata.",
    "langfuse.observation.metadata.",
    "traceloop.association.properties.",
    "ai.telemetry.metadata.",
)

# the value is a JSON object of tags, or a list of words
TAG_DOCUMENTS = ("metadata", "tag.tags", "langfuse.trace.tags", "langfuse.tags", "langsmith.span.tags")

# flattened messages: prefix → whether they are the prompt or the answer
FLATTENED = {
    "llm.input_messages.": "input",
    "gen_ai.prompt.": "input",
    "llm.output_messages.": "output",
    "gen_ai.completion.": "output",
}
MAX_INDEX = 1_000  # of a flattened list; an attribute can name any index, and must not cost memory for it

# attribute → its values that say what the span is: True a call of a model, False surely something else around one
KINDS: dict[str, dict[str, bool]] = {
    "langsmith.span.kind": {
        "llm": True, "chain": False, "tool": False, "prompt": False, "retriever": False, "embedding": False,
        "parser": False,
    },
    "gen_ai.operation.name": {
        "chat": True, "generate_content": True, "text_completion": True, "completion": True, "responses": True,
        "embeddings": False, "retrieval": False, "execute_tool": False, "create_agent": False, "invoke_agent": False,
        "invoke_workflow": False,
    },
    "openinference.span.kind": {
        "LLM": True, "CHAIN": False, "AGENT": False, "TOOL": False, "RETRIEVER": False, "RERANKER": False,
        "EMBEDDING": False, "GUARDRAIL": False, "EVALUATOR": False, "PROMPT": False, "DECISION": False,
    },
    "langfuse.observation.type": {
        "generation": True, "span": False, "event": False, "agent": False, "tool": False, "chain": False,
        "retriever": False, "evaluator": False, "embedding": False, "guardrail": False,
    },
    "traceloop.span.kind": {"workflow": False, "task": False, "agent": False, "tool": False},
    "llm.request.type": {"chat": True, "completion": True, "embedding": False, "rerank": False},
    "ai.operationId": {
        "ai.generateText.doGenerate": True, "ai.streamText.doStream": True, "ai.generateObject.doGenerate": True,
        "ai.streamObject.doStream": True, "ai.generateText": False, "ai.streamText": False, "ai.generateObject": False,
        "ai.streamObject": False, "ai.toolCall": False, "ai.embed": False, "ai.embed.doEmbed": False,
        "ai.embedMany": False, "ai.embedMany.doEmbed": False, "ai.rerank": False, "ai.rerank.doRerank": False,
    },
    "mlflow.spanType": {  # in JSON
        '"CHAT_MODEL"': True, '"LLM"': True, '"CHAIN"': False, '"AGENT"': False, '"TOOL"': False, '"RETRIEVER"': False,
        '"PARSER"': False, '"EMBEDDING"': False, '"RERANKER"': False, '"MEMORY"': False, '"WORKFLOW"': False,
        '"TASK"': False, '"GUARDRAIL"': False, '"EVALUATOR"': False, '"UNKNOWN"': False,
    },
    "genkit:metadata:subtype": {
        "model": True, "background-model": True, "flow": False, "tool": False, "tool.v2": False, "prompt": False,
        "retriever": False, "embedder": False, "indexer": False, "reranker": False, "evaluator": False, "util": False,
        "agent": False,
    },
}  # fmt: skip
FINAL_KINDS = frozenset({"langsmith.span.kind"})  # prompts are named `chat` by their operation
# attributes of Pydantic AI's agents, whose spans of old say nothing of their kind
AROUND_CALLS = frozenset({"pydantic_ai.all_messages", "all_messages_events", "agent_name"})

# a span that says nothing of its kind is a call of a model where it carries one of these
MARKS = ("gen_ai.", "llm.", "input.value", "output.value", "driftline.variant", "ai.response.", "ai.usage.")

# events that carry a message: name → its role, None for an answer
MESSAGE_EVENTS: dict[str, str | None] = {
    "gen_ai.system.message": "system",
    "gen_ai.user.message": "user",
    "gen_ai.assistant.message": "assistant",
    "gen_ai.tool.message": "tool",
    "gen_ai.choice": None,
    "gen_ai.system.instruction": "system",  # Azure's
}
# events that carry attributes which others put on the span itself
DETAILS_EVENTS = frozenset(
    {"gen_ai.client.inference.operation.details", "gen_ai.content.prompt", "gen_ai.content.completion"}
)
FIRST_TOKEN_EVENTS = frozenset(
    {"First Token Stream Event", "llm.content.completion.chunk", "gen_ai.content.completion.chunk"}
)
_CHUNK = "mlflow.chunk.item."  # each chunk as it came, under `mlflow.chunk.value`
# content in a chunk of chat completions, and in one of responses
_CONTENT = re.compile(r'"content": ?"[^"]|"tool_calls": ?\[\{|"type": ?"response\.[a-z_.]+\.delta"')
EVALUATION_EVENT = "gen_ai.evaluation.result"
EXCEPTION_EVENTS = frozenset({"exception", "gen_ai.client.operation.exception"})

# kinds of errors that mean that the caller went away
ABORTED = frozenset({"CancelledError", "asyncio.CancelledError", "asyncio.exceptions.CancelledError", "GeneratorExit",
                     "KeyboardInterrupt", "ClientDisconnect", "cancelled", "aborted"})  # fmt: skip

RANKS: dict[str, tuple[str, int]] = {
    attribute: (field, rank) for field, attributes in FIELDS.items() for rank, attribute in enumerate(attributes)
}
NAMES = frozenset({*RANKS, *TAGS, *TAG_DOCUMENTS, *KINDS, *AROUND_CALLS})  # attributes with a meaning of their own
PREFIXES = (*FLATTENED, *TAG_PREFIXES)


def is_model_call(attributes: dict[str, Any], loose: Collection[str] = ()) -> bool:
    """Whether a span's attributes say that it is one call of a model; `loose` are those known by their prefix.

    Agents, chains and tools wrap such calls: counting them too would count the same traffic twice.

    >>> is_model_call({"openinference.span.kind": "CHAIN", "input.value": "Hi"})
    False
    >>> is_model_call({"input.value": "Hi"})
    True
    """
    denied = unsure = False
    for name, values in KINDS.items():
        if name in attributes:
            said = values.get(str(attributes[name]))
            if said:
                return True
            denied = denied or said is False
            unsure = unsure or (said is None and name == "gen_ai.operation.name")
            if denied and name in FINAL_KINDS:
                break
    if "driftline.variant" in attributes:
        return True
    if denied or not AROUND_CALLS.isdisjoint(attributes):
        return False
    if unsure:  # frameworks name steps of their own, but call no model without saying which
        return any(name in RANKS and RANKS[name][0] in _OF_MODELS for name in attributes)
    return any(name.startswith(MARKS) for name in chain(attributes, loose))


_OF_MODELS = frozenset({"model", "input_tokens", "output_tokens"})


def says_something(event: str) -> bool:
    """Whether anything is made of events of this name."""
    return event in _EVENTS or event.startswith(_CHUNK)


_EVENTS = frozenset({*MESSAGE_EVENTS, *DETAILS_EVENTS, *FIRST_TOKEN_EVENTS, *EXCEPTION_EVENTS})


def is_first_token(name: str, attributes: dict[str, Any]) -> bool:
    """Whether an event of a span is the coming of content; the earliest of them tells the time to the first token."""
    if name in FIRST_TOKEN_EVENTS:
        return True
    return name.startswith(_CHUNK) and bool(_CONTENT.search(str(attributes.get("mlflow.chunk.value"))))
