"""OTLP over gRPC, on port 4317 by convention: an optional part that needs the package grpcio.

Back-pressure is UNAVAILABLE with a RetryInfo, which every exporter obeys, and a key that has sent too much is
RESOURCE_EXHAUSTED with one, without which exporters would drop the batch; what will never fit is INVALID_ARGUMENT.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

from collector import wire
from collector.body import MAX_BODY
from collector.budget import Overloaded
from collector.core import Collector, retry_after_s
from collector.otlp_http import rpc_code, success
from driftline.errors import DriftlineError, MissingPackage, TooLarge

AT_ONCE = 32  # calls being received or stored; gRPC reads each message as a whole before anyone can look at it

log = logging.getLogger("collector.otlp_grpc")

_SERVICES = {"traces": "trace.v1.TraceService", "logs": "logs.v1.LogsService", "metrics": "metrics.v1.MetricsService"}


@asynccontextmanager
async def serving_if_possible(collector: Collector, host: str, port: int, *, insist: bool) -> AsyncIterator[None]:
    """Serves OTLP over gRPC while the block runs, where grpcio is installed and the port is free.

    Raises:
        MissingPackage, DriftlineError: It cannot, and `insist` says that it was asked for.
    """
    async with AsyncExitStack() as stack:
        try:
            if port:
                address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
                await stack.enter_async_context(serving(collector, address))
        except MissingPackage:
            if insist:
                raise
        except DriftlineError as error:
            if insist:
                raise
            log.warning("%s OTLP over HTTP is not concerned.", error.message)
        yield


@asynccontextmanager
async def serving(collector: Collector, address: str) -> AsyncIterator[int]:
    """Serves OTLP over gRPC while the block runs; the port.

    Raises:
        MissingPackage: grpcio is not installed.
        DriftlineError: The address is taken.
    """
    try:
        import grpc
    except ImportError:
        raise MissingPackage("grpcio", "OTLP over gRPC", "pip install grpcio") from None
    options = [("grpc.max_receive_message_length", MAX_BODY), ("grpc.so_reuseport", 0)]
    server = grpc.aio.server(interceptors=[_bound(collector)], options=options)
    for signal, service in _SERVICES.items():
        method = grpc.unary_unary_rpc_method_handler(_export(collector, signal))
        name = f"opentelemetry.proto.collector.{service}"
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(name, {"Export": method}),))
    try:
        port = server.add_insecure_port(address)
    except RuntimeError:
        raise DriftlineError(
            f"gRPC cannot listen at {address}; is the port taken? Choose another with DRIFTLINE_GRPC_PORT."
        ) from None
    await server.start()
    try:
        yield port
    finally:
        await server.stop(grace=5)


def _bound(collector: Collector) -> Any:
    """Refuses calls beyond AT_ONCE before anything of them is read; gRPC's own bound tells exporters to drop theirs."""
    import grpc

    running: set[Any] = set()

    async def refuse(_messages: Any, context: Any) -> None:
        collector.answered[Overloaded.status] += 1
        await _abort(context, Overloaded())

    refusing = grpc.stream_unary_rpc_method_handler(refuse)

    class Bound(grpc.aio.ServerInterceptor):  # type: ignore[misc]
        async def intercept_service(self, continuation: Any, details: Any) -> Any:
            if len(running) >= AT_ONCE:
                return refusing
            call = asyncio.current_task()  # lives as long as the call, also where the caller goes away before its end
            assert call is not None
            running.add(call)
            call.add_done_callback(running.discard)
            return await continuation(details)

    return Bound()


def _export(collector: Collector, signal: str) -> Callable[[bytes, Any], Awaitable[bytes]]:
    async def export(body: bytes, context: Any) -> bytes:
        try:
            given = dict(context.invocation_metadata() or ())
            sender = await collector.admit(given.get("authorization"))
            if len(body) > MAX_BODY:
                raise TooLarge("The request is too large. Send smaller batches.")
            collector.budget.take(len(body))
            try:
                batch, refused = await collector.read_signal(signal, body, sender, False)
                await collector.store(batch, len(body), sender)
            finally:
                collector.budget.give_back(len(body))
        except DriftlineError as error:
            collector.answered[error.status] += 1
            await _abort(context, error)
        collector.answered[200] += 1
        return success(refused)

    return export


async def _abort(context: Any, error: DriftlineError) -> None:
    import grpc

    code = rpc_code(error)
    trailers: tuple[tuple[str, bytes], ...] = ()
    wait = retry_after_s(error)
    if wait is not None:
        status = wire.RpcStatus(code=code, message=error.message)
        retry = wire.RetryInfo(retry_delay={"seconds": wait})
        status.details.add(type_url="type.googleapis.com/google.rpc.RetryInfo", value=retry.SerializeToString())
        trailers = (("grpc-status-details-bin", status.SerializeToString()),)
    known = {c.value[0]: c for c in grpc.StatusCode}
    await context.abort(known[code], error.message, trailers)
