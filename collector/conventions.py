"""What attributes mean: the one table of all conventions that spans arrive in.

Three generations of OpenTelemetry's GenAI conventions (to 1.36, to 1.41, and the renames after it), OpenInference,
Traceloop, Langfuse and the Vercel AI SDK. A new convention is a row here.
"""

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
        "langfuse.observation.model", "ai.response.model", "ai.model.id",
    ),
    "session_id": (
        "gen_ai.conversation.id", "session.id", "langfuse.session.id", "traceloop.association.properties.session_id",
        "traceloop.association.properties.thread_id", "ai.telemetry.metadata.sessionId",
    ),
    "user_id": (
        "user.id", "enduser.id", "langfuse.user.id", "llm.user", "traceloop.association.properties.user_id",
        "ai.telemetry.metadata.userId",
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
    ),
    "ttft_ms": ("ai.response.msToFirstChunk",),
    "first_token_at": ("langfuse.observation.completion_start_time",),
    "usage": ("langfuse.observation.usage_details",),  # JSON object
    "cost": ("langfuse.observation.cost_details",),  # JSON object
    "error": ("langfuse.observation.status_message", "error.message", "exception.message"),
    "error_type": ("error.type",),
    "level": ("langfuse.observation.level",),
    "system": ("gen_ai.system_instructions",),
    "input": (
        "gen_ai.input.messages", "gen_ai.prompt", "ai.prompt.messages", "langfuse.observation.input", "llm.prompts",
        "input.value", "ai.prompt",
    ),
    "output": (
        "gen_ai.output.messages", "gen_ai.completion", "ai.response.text", "langfuse.observation.output",
        "output.value", "ai.response.toolCalls",
    ),
}  # fmt: skip

# field → its names within the object `usage`
USAGE = {
    "input_tokens": ("input", "input_tokens", "prompt_tokens", "promptTokens"),
    "output_tokens": ("output", "output_tokens", "completion_tokens", "completionTokens"),
}

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
TAG_DOCUMENTS = ("metadata", "tag.tags", "langfuse.trace.tags")

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
    "gen_ai.operation.name": {
        "chat": True, "generate_content": True, "text_completion": True, "completion": True, "embeddings": False,
        "retrieval": False, "execute_tool": False, "create_agent": False, "invoke_agent": False,
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
}  # fmt: skip

# a span that says nothing of its kind is a call of a model where it carries one of these
MARKS = ("gen_ai.", "llm.", "input.value", "output.value", "driftline.variant", "ai.response.", "ai.usage.")

# events that carry a message: name → its role, None for an answer
MESSAGE_EVENTS: dict[str, str | None] = {
    "gen_ai.system.message": "system",
    "gen_ai.user.message": "user",
    "gen_ai.assistant.message": "assistant",
    "gen_ai.tool.message": "tool",
    "gen_ai.choice": None,
}
# events that carry attributes which others put on the span itself
DETAILS_EVENTS = frozenset(
    {"gen_ai.client.inference.operation.details", "gen_ai.content.prompt", "gen_ai.content.completion"}
)
FIRST_TOKEN_EVENTS = frozenset(
    {"First Token Stream Event", "llm.content.completion.chunk", "gen_ai.content.completion.chunk"}
)
EVALUATION_EVENT = "gen_ai.evaluation.result"
EXCEPTION_EVENTS = frozenset({"exception", "gen_ai.client.operation.exception"})

# kinds of errors that mean that the caller went away
ABORTED = frozenset({"CancelledError", "asyncio.CancelledError", "asyncio.exceptions.CancelledError", "GeneratorExit",
                     "KeyboardInterrupt", "ClientDisconnect", "cancelled", "aborted"})  # fmt: skip

RANKS: dict[str, tuple[str, int]] = {
    attribute: (field, rank) for field, attributes in FIELDS.items() for rank, attribute in enumerate(attributes)
}
NAMES = frozenset({*RANKS, *TAGS, *TAG_DOCUMENTS, *KINDS})  # attributes with a meaning of their own
PREFIXES = (*FLATTENED, *TAG_PREFIXES)


def is_model_call(attributes: dict[str, Any], loose: Collection[str] = ()) -> bool:
    """Whether a span's attributes say that it is one call of a model; `loose` are those known by their prefix.

    Agents, chains and tools wrap such calls: counting them too would count the same traffic twice.

    >>> is_model_call({"openinference.span.kind": "CHAIN", "input.value": "Hi"})
    False
    >>> is_model_call({"input.value": "Hi"})
    True
    """
    denied = False
    for name, values in KINDS.items():
        if name in attributes:
            said = values.get(str(attributes[name]))
            if said:
                return True
            denied = denied or said is False
    if "driftline.variant" in attributes:
        return True
    return not denied and any(name.startswith(MARKS) for name in chain(attributes, loose))
