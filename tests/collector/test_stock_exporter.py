"""The stock OpenTelemetry SDK and exporters, unchanged, against a collector on a real port."""

import json
import time
from threading import Timer

import pytest
from opentelemetry import trace
from opentelemetry._logs import LogRecord
from opentelemetry.exporter.otlp.proto.http import Compression
from opentelemetry.exporter.otlp.proto.http._log_exporter import OTLPLogExporter
from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import BatchLogRecordProcessor
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from sqlmodel import select

from collector.budget import Budget
from collector.core import Collector
from driftline.store.engine import reading, writing
from driftline.store.projects import create_key, ensure_project
from driftline.store.tables import Generation, Intake, MetricPoint, Variant


def rows(table=Generation):
    with reading() as session:
        return session.exec(select(table)).all()


def call(tracer, n: int, *, streamed: bool = False):
    with tracer.start_as_current_span("chat llama", kind=trace.SpanKind.CLIENT) as span:
        span.set_attributes({
            "gen_ai.operation.name": "chat", "gen_ai.provider.name": "local", "gen_ai.request.model": "llama",
            "gen_ai.usage.input_tokens": n, "gen_ai.usage.output_tokens": 1,
            "gen_ai.input.messages": json.dumps([{"role": "user", "parts": [{"type": "text", "content": f"Q{n}"}]}]),
            "gen_ai.output.messages": json.dumps([{"role": "assistant", "parts": [{"type": "text", "content": "A"}]}]),
        })  # fmt: skip
        if streamed:
            span.set_attribute("gen_ai.response.time_to_first_chunk", 0.2)
        return span.get_span_context()


@pytest.mark.parametrize("compression", list(Compression))
def test_spans_arrive_whole(either_store, app_of, serve, compression):
    with serve(app_of()) as port:
        provider = TracerProvider(resource=Resource({"service.name": "shop", "driftline.variant": "llama-q4"}))
        exporter = OTLPSpanExporter(f"http://127.0.0.1:{port}/v1/traces", compression=compression)
        provider.add_span_processor(BatchSpanProcessor(exporter))
        tracer = provider.get_tracer("test")
        sent = [call(tracer, n, streamed=n % 2 == 0) for n in range(50)]
        with tracer.start_as_current_span("GET /"):
            pass
        provider.shutdown()
    stored = {row.id: row for row in rows()}
    assert set(stored) == {f"{c.trace_id:032x}{c.span_id:016x}" for c in sent}
    for n, context in enumerate(sent):
        row = stored[f"{context.trace_id:032x}{context.span_id:016x}"]
        assert (json.loads(row.input)[0]["content"], row.output, row.input_tokens) == (f"Q{n}", "A", n)
        assert row.latency_ms >= 0
        assert row.ttft_ms == (200 if n % 2 == 0 else None)
        assert (row.model, row.tags["service"]) == ("llama", "shop")
    assert [v.name for v in rows(Variant)] == ["llama-q4"]
    assert [(i.reason, i.n) for i in rows(Intake)] == [("other_spans", 1)]


def test_a_key_travels_in_the_headers_variable(sqlite_store, app_of, serve, monkeypatch):
    with writing() as session:
        key = create_key(session, ensure_project(session, "shop"), "app", ["ingest"], "test")
    with serve(app_of()) as port:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://127.0.0.1:{port}")
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_HEADERS", f"Authorization=Bearer {key}")
        provider = TracerProvider()
        provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
        call(provider.get_tracer("test"), 1)
        provider.shutdown()
    assert len(rows()) == 1


def test_messages_of_the_log_signal_join_their_span(sqlite_store, app_of, serve):
    with serve(app_of()) as port:
        spans, logs = TracerProvider(), LoggerProvider()
        spans.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(f"http://127.0.0.1:{port}/v1/traces")))
        logs.add_log_record_processor(BatchLogRecordProcessor(OTLPLogExporter(f"http://127.0.0.1:{port}/v1/logs")))
        with spans.get_tracer("test").start_as_current_span("chat llama") as span:
            span.set_attribute("gen_ai.operation.name", "chat")
            logger = logs.get_logger("test")
            for name, body in (
                ("gen_ai.user.message", {"content": "Capital?"}),
                ("gen_ai.choice", {"index": 0, "message": {"role": "assistant", "content": "Berlin"}}),
            ):
                logger.emit(LogRecord(timestamp=time.time_ns(), event_name=name, body=body))
        logs.shutdown()
        spans.shutdown()
    (row,) = rows()
    assert (json.loads(row.input), row.output) == ([{"role": "user", "content": "Capital?"}], "Berlin")


def test_metrics_of_models_are_kept_and_others_refused_without_harm_to_the_exporter(sqlite_store, app_of, serve):
    with serve(app_of()) as port:
        reader = PeriodicExportingMetricReader(OTLPMetricExporter(f"http://127.0.0.1:{port}/v1/metrics"))
        provider = MeterProvider([reader])
        meter = provider.get_meter("test")
        tokens = meter.create_histogram("gen_ai.client.token.usage", "{token}")
        tokens.record(5, {"gen_ai.token.type": "input", "gen_ai.request.model": "gpt"})
        tokens.record(7, {"gen_ai.token.type": "input", "gen_ai.request.model": "gpt"})
        meter.create_counter("http.requests").add(1)
        provider.shutdown()
    assert {i.reason for i in rows(Intake)} == {"metrics"}
    point = rows(MetricPoint)[-1]
    assert (point.name, point.unit, point.n, point.total) == ("gen_ai.client.token.usage", "{token}", 2, 12.0)
    assert point.is_cumulative
    assert point.labels == {"gen_ai.token.type": "input", "gen_ai.request.model": "gpt"}


def test_an_export_that_met_an_overload_arrives_later(sqlite_store, app_of, serve):
    budget = Budget(room=10_000_000)
    with serve(app_of(Collector(budget))) as port:
        provider = TracerProvider()
        provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(f"http://127.0.0.1:{port}/v1/traces")))
        budget.take(10_000_000)
        call(provider.get_tracer("test"), 1)
        Timer(0.5, budget.give_back, [10_000_000]).start()
        start = time.monotonic()
        provider.force_flush()
        assert 1 <= time.monotonic() - start < 4  # the exporter obeyed Retry-After
        provider.shutdown()
    assert len(rows()) == 1
