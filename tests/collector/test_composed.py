"""The collector as `driftline collect` serves it: gRPC beside HTTP, and what machines ask."""

import asyncio
import json
import logging
import os
import secrets
import signal
import socket
import subprocess
import sys
import time

import pytest
from fastapi.testclient import TestClient
from prometheus_client.parser import text_string_to_metric_families

from collector.core import Collector
from collector.otlp_grpc import serving_if_possible
from driftline.cli.web import application
from driftline.errors import DriftlineError, MissingPackage
from driftline.settings import settings


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


@pytest.fixture
def composed(sqlite_store, monkeypatch):
    """The app of `driftline collect`, gRPC at a port of its own; give it settings."""

    def make(**values: str) -> TestClient:
        for name, value in values.items():
            monkeypatch.setenv(f"DRIFTLINE_{name.upper()}", value)
        settings.cache_clear()
        return TestClient(application(collector=True, dashboard=False))

    return make


def figures(client) -> dict[str, float]:
    text = client.get("/metrics").text
    return {
        s.name + "".join(s.labels.values()): s.value
        for family in text_string_to_metric_families(text)
        for s in family.samples
    }


def test_what_the_collector_does_and_holds_is_counted(composed):
    with composed(grpc_port="0") as client:
        body = json.dumps({"records": [{"id": "a", "started_at": time.time(), "output": "x"}]})
        for sent in (body, body, "no json"):
            client.post("/v1/records", content=sent)
        found = figures(client)
    assert found["driftline_collector_stored_total"] == 1
    assert found["driftline_collector_commits_total"] == 2
    assert found["driftline_collector_requests_total200"] == 2
    assert found["driftline_collector_requests_total422"] == 1
    assert found["driftline_collector_held_bytes"] == 0
    assert found["driftline_store_up"] == 1
    assert found["process_resident_memory_bytes"] > 0


def test_a_collector_without_its_broker_goes_on_without_its_store_it_is_not_ready(composed, monkeypatch):
    from driftline.queue import messenger

    messenger.cache_clear()
    with composed(grpc_port="0", broker_url="redis://127.0.0.1:1/0") as client:
        ready = client.get("/readyz")
        assert (ready.status_code, ready.json()) == (200, {"store": "ok", "broker": "does not answer", "room": "ok"})
        monkeypatch.setenv("DRIFTLINE_DATABASE_URL", "postgresql://nobody@127.0.0.1:1/none")
        settings.cache_clear()
        assert client.get("/readyz").status_code == 503
        assert client.get("/healthz").status_code == 200
        assert figures(client)["driftline_store_up"] == 0
    messenger.cache_clear()


def test_grpc_is_served_beside_http(composed):
    grpc = pytest.importorskip("grpc")
    from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

    request = ExportTraceServiceRequest()
    now = time.time_ns()
    span = request.resource_spans.add().scope_spans.add().spans.add(
        trace_id=secrets.token_bytes(16), span_id=secrets.token_bytes(8), start_time_unix_nano=now,
        end_time_unix_nano=now + 10**6,
    )  # fmt: skip
    span.attributes.add(key="gen_ai.completion").value.string_value = "Berlin"
    port = free_port()
    with composed(grpc_port=str(port)) as client, grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        export = channel.unary_unary("/opentelemetry.proto.collector.trace.v1.TraceService/Export")
        assert export(request.SerializeToString(), timeout=20) == b""
        assert figures(client)["driftline_collector_stored_total"] == 1


def test_a_taken_port_is_a_warning_unless_it_was_asked_for(composed, caplog):
    pytest.importorskip("grpc")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(DriftlineError, match="DRIFTLINE_GRPC_PORT"), composed(grpc_port=str(port)):
            pass

        async def serve() -> None:
            collector = Collector()
            async with collector.lifespan(None), serving_if_possible(collector, "127.0.0.1", port, insist=False):
                pass

        with caplog.at_level(logging.WARNING):
            asyncio.run(serve())
    assert "HTTP is not concerned" in caplog.text


def test_without_grpcio_http_is_served_unless_grpc_was_asked_for(composed, monkeypatch):
    monkeypatch.setitem(sys.modules, "grpc", None)
    with composed() as client:
        assert client.get("/healthz").status_code == 200
    with pytest.raises(MissingPackage, match="grpcio"), composed(grpc_port=str(free_port())):
        pass


def test_the_command_serves_both(sqlite_store):
    pytest.importorskip("grpc")
    ports = {"DRIFTLINE_PORT": str(free_port()), "DRIFTLINE_GRPC_PORT": str(free_port())}
    process = subprocess.Popen([sys.executable, "-m", "driftline", "collect"], env=os.environ | ports)
    try:
        waiting = list(ports.values())
        until = time.monotonic() + 60
        while waiting and time.monotonic() < until:
            try:
                socket.create_connection(("127.0.0.1", int(waiting[-1]))).close()
                waiting.pop()
            except OSError:
                assert process.poll() is None
                time.sleep(0.05)
        assert waiting == []
    finally:
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0
