"""OTLP over gRPC, on port 4317 by convention: an optional part that needs the package grpcio.

Back-pressure is UNAVAILABLE with a RetryInfo, which every exporter obeys; what will never fit is INVALID_ARGUMENT.
"""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

from collector import wire
from collector.body import MAX_BODY, TooLarge
from collector.core import RETRY_AFTER_S, Collector
from collector.otlp_http import rpc_code, success
from collector.signals import READERS, Read
from driftline.errors import DriftlineError, MissingPackage, StoreUnavailable

_SERVICES = {"traces": "trace.v1.TraceService", "logs": "logs.v1.LogsService", "metrics": "metrics.v1.MetricsService"}


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
    server = grpc.aio.server(options=[("grpc.max_receive_message_length", MAX_BODY), ("grpc.so_reuseport", 0)])
    for signal, service in _SERVICES.items():
        method = grpc.unary_unary_rpc_method_handler(_export(collector, READERS[signal]))
        name = f"opentelemetry.proto.collector.{service}"
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(name, {"Export": method}),))
    try:
        port = server.add_insecure_port(address)
    except RuntimeError:
        raise DriftlineError(f"gRPC cannot listen at {address}; is the port taken? Choose another.") from None
    await server.start()
    try:
        yield port
    finally:
        await server.stop(grace=5)


def _export(collector: Collector, read: Read) -> Callable[[bytes, Any], Awaitable[bytes]]:
    async def export(body: bytes, context: Any) -> bytes:
        try:
            given = dict(context.invocation_metadata() or ())
            sender = await collector.admission.admit(given.get("authorization"))
            if len(body) > MAX_BODY:
                raise TooLarge("The request is too large. Send smaller batches.")
            collector.budget.take(len(body))
            try:
                batch, refused = await collector.read(body, read, sender, False)
                await collector.store(batch, len(body))
            finally:
                collector.budget.give_back(len(body))
        except DriftlineError as error:
            await _abort(context, error)
        return success(refused)

    return export


async def _abort(context: Any, error: DriftlineError) -> None:
    import grpc

    code = rpc_code(error)
    trailers: tuple[tuple[str, bytes], ...] = ()
    if isinstance(error, StoreUnavailable):
        status = wire.RpcStatus(code=code, message=error.message)
        retry = wire.RetryInfo(retry_delay={"seconds": RETRY_AFTER_S})
        status.details.add(type_url="type.googleapis.com/google.rpc.RetryInfo", value=retry.SerializeToString())
        trailers = (("grpc-status-details-bin", status.SerializeToString()),)
    known = {c.value[0]: c for c in grpc.StatusCode}
    await context.abort(known[code], error.message, trailers)
