"""The tracing libraries that people use, unchanged, around the real OpenAI client: what they send arrives whole."""

import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import APIRouter, FastAPI
from sqlmodel import select

from collector.core import Collector
from collector.http import routes
from collector.otlp_grpc import serving
from driftline.cli.web import application
from driftline.store.engine import reading, writing
from driftline.store.projects import create_key, ensure_project
from driftline.store.tables import Feedback
from tests.collector.local_openai import ANSWER, CALLED, MODEL, WAIT_S, LocalOpenAI

APP = Path(__file__).with_name("instrumented.py")
PROMPT = [("system", "Be brief."), ("user", "Capital of Germany?")]
NEEDS = {
    "openinference": "openinference.instrumentation.openai",
    "openai-v2": "opentelemetry.instrumentation.openai_v2",
    "genai-openai": "opentelemetry.instrumentation.genai.openai",
    "traceloop": "traceloop.sdk",
    "langfuse": "langfuse",
}


def there(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except ModuleNotFoundError:
        return False


@pytest.fixture
def model() -> Iterator[LocalOpenAI]:
    server = LocalOpenAI()
    yield server
    server.close()


@pytest.fixture
def port(sqlite_store: Path, serve: Callable[..., Any]) -> Iterator[int]:
    """Everything `driftline up` serves, on a real port."""
    with serve(application(collector=True, dashboard=True)) as opened:
        yield opened


def run(library: str, port: int, model: LocalOpenAI, *exporter: str, **environment: str) -> None:
    for module in ("openai", NEEDS[library]):
        if not there(module):
            pytest.skip(f"needs the package of {module}")
    base = f"http://127.0.0.1:{port}"
    settings = {"OTEL_EXPORTER_OTLP_ENDPOINT": base, "OTEL_METRICS_EXPORTER": "none"} | environment
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("OTEL_", "DRIFTLINE_"))}
    done = subprocess.run(
        [sys.executable, str(APP), library, base, model.url, *exporter],
        env=inherited | settings, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


def generations(port: int, **headers: str) -> list[dict[str, Any]]:
    """What the API shows, oldest first."""
    answer = httpx.get(f"http://127.0.0.1:{port}/api/generations", params={"limit": 100}, headers=headers)
    return list(reversed(answer.raise_for_status().json()["items"]))


def assert_whole(row: dict[str, Any], *, first_token: bool) -> None:
    messages = [(m["role"], m["content"]) for m in json.loads(row["input"])]
    assert messages == PROMPT
    assert (row["output"], row["model"], row["variant"], row["status"]) == (ANSWER, MODEL, MODEL, "ok")
    assert (row["input_tokens"], row["output_tokens"]) == (21, 5)
    assert row["latency_ms"] > 0
    if first_token:
        assert 0 < row["ttft_ms"] < row["latency_ms"] - WAIT_S * 300  # of WAIT_S a busy machine may be late for most
    else:
        assert row["ttft_ms"] is None


def assert_calls(rows: list[dict[str, Any]], first_tokens: tuple[bool, ...] = (False, True, False, True)) -> None:
    """A whole and a streamed call of chat completions, and the same of responses where the library knows them."""
    assert len(rows) == len(first_tokens)
    for row, first_token in zip(rows, first_tokens, strict=True):
        assert_whole(row, first_token=first_token)


def with_grpc() -> tuple[FastAPI, list[int]]:
    """The web application with gRPC beside it, and where its port will be."""
    collector, ports = Collector(), list[int]()

    @asynccontextmanager
    async def listening(_app: FastAPI) -> AsyncIterator[None]:
        async with serving(collector, "127.0.0.1:0") as port:
            ports.append(port)
            yield

    app = application(collector=False, dashboard=True)
    app.include_router(routes(collector))
    app.include_router(APIRouter(lifespan=listening))
    return app, ports


@pytest.mark.parametrize("exporter", ["http/protobuf", "http/json", "grpc"])
def test_every_stock_exporter_delivers_whole_calls(sqlite_store, serve, model, exporter):
    app, ports = with_grpc()
    with serve(app) as port:
        endpoint = f"http://127.0.0.1:{ports[0] if exporter == 'grpc' else port}"
        run("genai-openai", port, model, exporter, OTEL_EXPORTER_OTLP_ENDPOINT=endpoint, **CONTENT_ON_SPANS)
        rows = generations(port)
    assert_calls(rows)


CONTENT_ON_SPANS = {
    "OTEL_SEMCONV_STABILITY_OPT_IN": "gen_ai_latest_experimental",
    "OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT": "span_only",
}


MORE = ("event_only", "span_and_event")


def test_openinference_delivers_whole_calls(port, model):
    run("openinference", port, model)
    rows = generations(port)
    assert_calls(rows)
    assert {(row["session_id"], row["user_id"]) for row in rows} == {("conversation-7", "user-3")}


@pytest.mark.parametrize("content", ["span_only", *(pytest.param(c, marks=pytest.mark.slow) for c in MORE)])
def test_openai_v2_delivers_whole_calls_wherever_it_puts_the_texts(port, model, content):
    # Its streams tell nobody of their chunks: no event, attribute or metric. It sends nothing of the responses API.
    run("openai-v2", port, model, **CONTENT_ON_SPANS | {"OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT": content})
    assert_calls(generations(port), (False, False))


def test_traceloop_delivers_whole_calls(port, model):
    run("traceloop", port, model)
    rows = generations(port)
    assert_calls(rows, (False, True, False, False))  # of streamed responses neither event nor metric
    assert {(row["session_id"], row["user_id"]) for row in rows} == {("conversation-7", "user-3")}


def test_langfuse_delivers_whole_calls_and_scores(port, model):
    with writing() as session:
        project = ensure_project(session, "shop")
        key = create_key(session, project, "app", ["ingest", "read"], "test")
    run("langfuse", port, model, DRIFTLINE_KEY=key)
    rows = generations(port, authorization=f"Bearer {key}")
    *calls, own = rows
    assert_calls(calls)
    assert {(row["session_id"], row["user_id"]) for row in rows} == {("conversation-7", "user-3")}
    assert (own["output"], own["model"], own["input_tokens"], own["output_tokens"]) == ("Hello!", "own-model", 3, 2)
    with reading() as session:
        told = {(f.generation_id, f.name, f.value, f.label, f.comment) for f in session.exec(select(Feedback))}
    assert told == {
        (own["id"], "helpful", 1.0, None, "yes"),
        (own["id"][:32], "tone", None, "friendly", None),
    }


@pytest.mark.parametrize("library", ["openinference", "langfuse", pytest.param("traceloop", marks=pytest.mark.slow)])
def test_tool_calls_and_what_tools_found_arrive_with_their_calls(port, model, library):
    run(library, port, model, **CONTENT_ON_SPANS, WITH_TOOL="1")
    rows = generations(port)[:8]
    with_tool = [*PROMPT, ("assistant", CALLED), ("tool", "3.6 million")]
    told = [([(m["role"], m["content"]) for m in json.loads(row["input"])], row["output"]) for row in rows]
    spaceless = [([(role, text.replace('": "', '":"')) for role, text in asked], said.replace('": "', '":"'))
                 for asked, said in told]  # fmt: skip
    assert spaceless == [(PROMPT, CALLED), (PROMPT, CALLED), (with_tool, ANSWER), (with_tool, ANSWER)] * 2
    assert {(row["input_tokens"], row["output_tokens"]) for row in rows} == {(21, 5)}


@pytest.mark.slow
def test_langfuse_needs_no_key_where_nobody_has_one(port, model):
    run("langfuse", port, model)
    assert_calls(generations(port)[:-1])
