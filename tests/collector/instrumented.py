"""An application as its makers write it: the OpenAI client, one tracing library, and no Driftline code.

`python instrumented.py LIBRARY DRIFTLINE_URL OPENAI_URL [EXPORTER]`, each in a process of its own, since these
libraries change the client for the whole process.
"""

import os
import sys
from collections.abc import Callable
from typing import Any

DRIFTLINE, OPENAI = sys.argv[2:4]
EXPORTER = sys.argv[4] if len(sys.argv) > 4 else "http/protobuf"
SESSION, USER = "conversation-7", "user-3"
MESSAGES = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Capital of Germany?"}]


FUNCTION = {"name": "find", "parameters": {"type": "object", "properties": {"q": {"type": "string"}}}}
ARGUMENTS = '{"q":"Berlin"}'


def ask(openai: Any) -> None:
    """One call of each kind: whole and streamed, chat completions and responses; the same with a tool, if asked for."""
    client = openai.OpenAI(base_url=OPENAI, api_key="k", max_retries=0)
    if os.environ.get("WITH_TOOL"):
        ask_with_tool(client)
        return
    client.chat.completions.create(model="gpt-4o", messages=MESSAGES)
    list(
        client.chat.completions.create(
            model="gpt-4o", messages=MESSAGES, stream=True, stream_options={"include_usage": True}
        )
    )
    client.responses.create(model="gpt-4o", instructions="Be brief.", input="Capital of Germany?")
    list(client.responses.create(model="gpt-4o", instructions="Be brief.", input="Capital of Germany?", stream=True))


def ask_with_tool(client: Any) -> None:
    """The model asks for a tool, and is asked again with what it found."""
    call = {"id": "call-1", "type": "function", "function": {"name": "find", "arguments": ARGUMENTS}}
    found = [{"role": "assistant", "content": None, "tool_calls": [call]},
             {"role": "tool", "tool_call_id": "call-1", "content": "3.6 million"}]  # fmt: skip
    for messages in (MESSAGES, MESSAGES + found):
        chat = {"model": "gpt-4o", "messages": messages, "tools": [{"type": "function", "function": FUNCTION}]}
        client.chat.completions.create(**chat)
        list(client.chat.completions.create(**chat, stream=True, stream_options={"include_usage": True}))
    asked = {"role": "user", "content": MESSAGES[1]["content"]}
    items = [asked, {"type": "function_call", "call_id": "call-1", "name": "find", "arguments": ARGUMENTS},
             {"type": "function_call_output", "call_id": "call-1", "output": "3.6 million"}]  # fmt: skip
    for given in ([asked], items):
        response = {"model": "gpt-4o", "instructions": "Be brief.", "input": given,
                    "tools": [{"type": "function", **FUNCTION}]}  # fmt: skip
        client.responses.create(**response)
        list(client.responses.create(**response, stream=True))


def tracing() -> Any:
    """The stock SDK with the stock exporter of the protocol asked for; batched, as in production."""
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    if EXPORTER == "grpc":
        from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
    elif EXPORTER == "http/json":
        from opentelemetry.exporter.otlp.json.http.trace_exporter import OTLPSpanExporter
    else:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    provider = TracerProvider()
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    return provider


def openinference() -> None:
    import openai
    from openinference.instrumentation import using_attributes
    from openinference.instrumentation.openai import OpenAIInstrumentor

    provider = tracing()
    OpenAIInstrumentor().instrument(tracer_provider=provider)
    with using_attributes(session_id=SESSION, user_id=USER):
        ask(openai)
    provider.shutdown()


def opentelemetry(module: str) -> None:
    """The OpenTelemetry project's own instrumentations; with texts in log events it needs the log signal, too."""
    from importlib import import_module

    import openai
    from opentelemetry.exporter.otlp.proto.http._log_exporter import OTLPLogExporter
    from opentelemetry.sdk._logs import LoggerProvider
    from opentelemetry.sdk._logs.export import BatchLogRecordProcessor

    provider, logs = tracing(), LoggerProvider()
    logs.add_log_record_processor(BatchLogRecordProcessor(OTLPLogExporter(f"{DRIFTLINE}/v1/logs")))
    import_module(module).OpenAIInstrumentor().instrument(tracer_provider=provider, logger_provider=logs)
    ask(openai)
    provider.shutdown()
    logs.shutdown()


def traceloop() -> None:
    import openai
    from traceloop.sdk import Traceloop
    from traceloop.sdk.instruments import Instruments

    Traceloop.init(app_name="shop", api_endpoint=DRIFTLINE, instruments={Instruments.OPENAI}, telemetry_enabled=False)
    Traceloop.set_association_properties({"session_id": SESSION, "user_id": USER})
    ask(openai)  # it sends what is left when the process ends


def langfuse() -> None:
    from langfuse import Langfuse, propagate_attributes
    from langfuse.openai import openai

    client = Langfuse(public_key="pk-lf-1", secret_key=os.environ.get("DRIFTLINE_KEY", "sk-lf-1"), base_url=DRIFTLINE)
    assert client.auth_check()
    with (
        client.start_as_current_observation(name="answer", as_type="span"),
        propagate_attributes(session_id=SESSION, user_id=USER),
    ):
        ask(openai)
        with client.start_as_current_observation(name="own", as_type="generation", model="own-model") as own:
            own.update(input="Hello?", output="Hello!", usage_details={"input": 3, "output": 2})
            own.score(name="helpful", value=1, data_type="BOOLEAN", comment="yes")
            own.score_trace(name="tone", value="friendly", data_type="CATEGORICAL")
    client.flush()
    client.shutdown()


LIBRARIES: dict[str, Callable[[], None]] = {
    "openinference": openinference,
    "openai-v2": lambda: opentelemetry("opentelemetry.instrumentation.openai_v2"),
    "genai-openai": lambda: opentelemetry("opentelemetry.instrumentation.genai.openai"),
    "traceloop": traceloop,
    "langfuse": langfuse,
}

if __name__ == "__main__":
    LIBRARIES[sys.argv[1]]()
