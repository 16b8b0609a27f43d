"""OTLP over HTTP: `/v1/traces`, `/v1/logs` and `/v1/metrics`, answered as the protocol demands.

The answer has the type of the request; errors are a `google.rpc.Status`; a batch of which something was refused is a
success that says so; what may be sent again is 503 with Retry-After, nothing else is.
"""

from typing import Any

import msgspec
from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from collector import wire
from collector.body import body_of
from collector.core import REFUSALS, Collector, retry_after_s
from collector.items import Refused
from driftline.errors import DriftlineError

PROTOBUF = "application/x-protobuf"
JSON = "application/json"

# HTTP status → code of google.rpc.Status
_RPC_CODES = {400: 3, 401: 16, 403: 7, 408: 4, 413: 8, 415: 3, 422: 3, 429: 8, 503: 14}


class UnknownType(DriftlineError):
    """The Content-Type is none of OTLP's."""

    status = 415


def add_routes(router: APIRouter, collector: Collector) -> None:
    """Adds the OTLP endpoints to a router."""

    async def export(request: Request, signal: str, counted: str) -> Response:
        as_json = False
        try:
            as_json = _is_json(request.headers.get("content-type", ""))
            sender = await collector.admit(request.headers.get("authorization"))
            async with body_of(request, collector.budget) as body:
                batch, refused = await collector.read_signal(signal, body.take(), sender, as_json)
                await collector.store(batch, body.size, sender)
        except DriftlineError as error:
            collector.answered[error.status] += 1
            return _failure(error, as_json=as_json)
        collector.answered[200] += 1
        return _success(refused, counted, as_json=as_json)

    @router.post(
        "/api/public/otel/v1/traces", include_in_schema=False, response_model=None
    )  # where Langfuse's SDKs send
    @router.post("/v1/traces", openapi_extra=_describe("traces"), response_model=None)
    async def post_traces(request: Request) -> Response:
        """Takes spans of any OpenTelemetry exporter: calls of models are stored, other spans are counted."""
        return await export(request, "traces", "rejectedSpans")

    @router.post("/v1/logs", openapi_extra=_describe("logs"), response_model=None)
    async def post_logs(request: Request) -> Response:
        """Takes message events and evaluation results; other log records are refused in words."""
        return await export(request, "logs", "rejectedLogRecords")

    @router.post("/v1/metrics", openapi_extra=_describe("metrics"), response_model=None)
    async def post_metrics(request: Request) -> Response:
        """Takes points of `gen_ai.*` metrics as series beside the calls; other metrics are refused in words."""
        return await export(request, "metrics", "rejectedDataPoints")


def _is_json(content_type: str) -> bool:
    kind = content_type.partition(";")[0].strip().lower()
    if kind in (PROTOBUF, "application/protobuf", ""):
        return False
    if kind == JSON:
        return True
    raise UnknownType(f"Content-Type {kind[:80]!r} is not taken; send {PROTOBUF} or {JSON}.")


def _success(refused: Refused, counted: str, *, as_json: bool) -> Response:
    if not as_json:
        return Response(success(refused), media_type=PROTOBUF)
    partial = {"partialSuccess": {counted: str(refused.n), "errorMessage": str(refused)}} if refused.n else {}
    return Response(msgspec.json.encode(partial), media_type=JSON)


def success(refused: Refused) -> bytes:
    """The answer to an export in Protocol Buffers: empty, or a partial success that says what was refused."""
    answer = wire.ExportResponse()
    if refused.n:
        answer.partial_success.rejected = refused.n
        answer.partial_success.error_message = str(refused)
    return bytes(answer.SerializeToString())


def rpc_code(error: DriftlineError) -> int:
    """The code of google.rpc.Status for an error."""
    return _RPC_CODES.get(error.status, 2)


def _failure(error: DriftlineError, *, as_json: bool) -> Response:
    status, code = error.status, rpc_code(error)
    wait = retry_after_s(error)
    headers = {} if wait is None else {"Retry-After": str(wait)}
    if as_json:
        body = msgspec.json.encode({"code": code, "message": error.message})
        return Response(body, status, headers, media_type=JSON)
    message = wire.RpcStatus(code=code, message=error.message)
    return Response(message.SerializeToString(), status, headers, media_type=PROTOBUF)


def _describe(signal: str) -> dict[str, Any]:
    binary = {"schema": {"type": "string", "format": "binary"}}
    either = {PROTOBUF: binary, JSON: {"schema": {"type": "object"}}}
    text = f"An OTLP export request of {signal}, as the OpenTelemetry protocol defines it."
    answers = {
        200: "What was taken in, with the count and reason of what was not.",
        **REFUSALS,
        415: "An unknown type.",
    }
    return {
        "requestBody": {"description": f"{text} An empty one is a success.", "content": either},
        "responses": {str(status): {"description": said, "content": either} for status, said in answers.items()},
    }
