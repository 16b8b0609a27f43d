import asyncio
import secrets
import time

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from sqlmodel import select

from collector.budget import Budget
from collector.core import Collector
from collector.otlp_grpc import serving
from collector.wire import RetryInfo, RpcStatus
from driftline.access import forget_callers
from driftline.store.engine import reading, writing
from driftline.store.projects import create_key, ensure_project
from driftline.store.tables import Generation

grpc = pytest.importorskip("grpc")
EXPORT = "/opentelemetry.proto.collector.trace.v1.TraceService/Export"


def request(spans: int = 1, **more) -> bytes:
    made = ExportTraceServiceRequest()
    scope = made.resource_spans.add().scope_spans.add()
    for _ in range(spans):
        now = time.time_ns()
        span = scope.spans.add(
            **{"trace_id": secrets.token_bytes(16), "span_id": secrets.token_bytes(8), "name": "chat",
               "start_time_unix_nano": now, "end_time_unix_nano": now + 10**6} | more
        )  # fmt: skip
        span.attributes.add(key="gen_ai.completion").value.string_value = "Berlin"
    return made.SerializeToString()


def export(*bodies: bytes, budget: Budget | None = None, metadata=(), compression=None):
    """What each body is answered: the response, or the error."""

    async def run():
        collector = Collector(budget)
        answers = []
        async with (
            collector.lifespan(None),
            serving(collector, "127.0.0.1:0") as port,
            grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel,
        ):
            call = channel.unary_unary(EXPORT)
            for body in bodies:
                try:
                    answers.append(await call(body, metadata=metadata, compression=compression, timeout=20))
                except grpc.aio.AioRpcError as error:
                    answers.append(error)
        return answers

    forget_callers()
    return asyncio.run(run())


def outputs() -> list[str | None]:
    with reading() as session:
        return list(session.exec(select(Generation.output)))


def test_spans_are_stored_and_refused_as_over_http(sqlite_store):
    good, compressed = export(request(3), request(), compression=grpc.Compression.Gzip)
    assert good == compressed == b""
    (partial,) = export(request(trace_id=b""))
    assert ExportTraceServiceResponse.FromString(partial).partial_success.rejected_spans == 1
    assert outputs() == ["Berlin"] * 4


def test_what_cannot_be_decoded_is_an_invalid_argument(sqlite_store):
    (error,) = export(b"\xff" * 20)
    assert error.code() == grpc.StatusCode.INVALID_ARGUMENT


def test_overload_is_unavailable_with_the_time_to_wait(sqlite_store):
    (error,) = export(request(), budget=Budget(room=10))
    assert error.code() == grpc.StatusCode.UNAVAILABLE
    trailers = dict(error.trailing_metadata())
    (detail,) = RpcStatus.FromString(trailers["grpc-status-details-bin"]).details
    assert RetryInfo.FromString(detail.value).retry_delay.seconds == 1
    assert outputs() == []


def test_calls_beyond_the_bound_are_told_to_wait_and_leavers_free_their_place(sqlite_store, monkeypatch):
    monkeypatch.setattr("collector.otlp_grpc.AT_ONCE", 2)
    forget_callers()

    async def run():
        collector = Collector()
        held = asyncio.Event()
        store = collector.store

        async def wait_then_store(*given):
            await held.wait()
            return await store(*given)

        collector.store = wait_then_store
        async with (
            collector.lifespan(None),
            serving(collector, "127.0.0.1:0") as port,
            grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel,
        ):
            call = channel.unary_unary(EXPORT)
            first, leaver = call(request(), timeout=20), call(request(), timeout=20)
            while collector.budget.taken < 2 * len(request()) - 100:
                await asyncio.sleep(0.01)
            with pytest.raises(grpc.aio.AioRpcError) as refused:
                await call(request(), timeout=20)
            leaver.cancel()
            late = None
            for _ in range(200):  # the server hears of the cancellation a moment later
                late = call(request(), timeout=20)
                await asyncio.sleep(0.02)
                if not late.done():
                    break
            held.set()
            return refused.value, await first, await late, collector.budget.taken

    refused, first, late, taken = asyncio.run(run())
    assert refused.code() == grpc.StatusCode.UNAVAILABLE
    (detail,) = RpcStatus.FromString(dict(refused.trailing_metadata())["grpc-status-details-bin"]).details
    assert RetryInfo.FromString(detail.value).retry_delay.seconds == 1
    assert (first, late, taken) == (b"", b"", 0)
    assert outputs() == ["Berlin"] * 2


def test_too_large_a_request_is_refused(sqlite_store):
    (error,) = export(b"\0" * 25_000_000)
    assert error.code() == grpc.StatusCode.RESOURCE_EXHAUSTED


def test_keys_are_asked_for(sqlite_store):
    with writing() as session:
        key = create_key(session, ensure_project(session, "shop"), "app", ["ingest"], "test")
    (refused,) = export(request())
    assert refused.code() == grpc.StatusCode.UNAUTHENTICATED
    (taken,) = export(request(), metadata=(("authorization", f"Bearer {key}"),))
    assert taken == b""
