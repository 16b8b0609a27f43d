"""OTLP over HTTP: `/v1/traces`, `/v1/logs` and `/v1/metrics`, answered as the protocol demands.

The answer has the type of the request; errors are a `google.rpc.Status`; a batch of which something was refused is a
success that says so; what may be sent again is 503 with Retry-After, nothing else is.
"""

import asyncio
from collections.abc import Callable

import msgspec
from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from collector import wire
from collector.admission import Sender
from collector.body import body_of
from collector.core import LARGE, RETRY_AFTER_S, Collector
from collector.otlp import Refused, Undecodable, read_spans
from collector.otlp_logs import count_data_points, read_log_records
from collector.writer import Batch
from driftline.errors import DriftlineError
from driftline.moment import now_us

PROTOBUF = "application/x-protobuf"
JSON = "application/json"

# HTTP status → code of google.rpc.Status
_RPC_CODES = {400: 3, 401: 16, 403: 7, 413: 8, 415: 3, 422: 3, 429: 8, 503: 14}

Read = Callable[[bytes, Sender, bool], tuple[Batch, Refused]]


class UnknownType(DriftlineError):
    """The Content-Type is none of OTLP's."""

    status = 415


def add_routes(router: APIRouter, collector: Collector) -> None:
    """Adds the OTLP endpoints to a router."""

    async def export(request: Request, read: Read, counted: str) -> Response:
        as_json = False
        try:
            as_json = _is_json(request.headers.get("content-type", ""))
            sender = await collector.admission.admit(request.headers.get("authorization"))
            async with body_of(request, collector.budget) as body:
                if len(body) > LARGE:
                    batch, refused = await asyncio.to_thread(read, body, sender, as_json)
                else:
                    batch, refused = read(body, sender, as_json)
                await collector.store(batch)
        except DriftlineError as error:
            return _failure(error, as_json=as_json)
        return _success(refused, counted, as_json=as_json)

    @router.post("/v1/traces", openapi_extra=_describe("traces"), response_model=None)
    async def post_traces(request: Request) -> Response:
        """Takes spans of any OpenTelemetry exporter: calls of models are stored, other spans are counted."""
        return await export(request, read_traces, "rejectedSpans")

    @router.post("/v1/logs", openapi_extra=_describe("logs"), response_model=None)
    async def post_logs(request: Request) -> Response:
        """Takes message events and evaluation results; other log records are refused in words."""
        return await export(request, read_logs, "rejectedLogRecords")

    @router.post("/v1/metrics", openapi_extra=_describe("metrics"), response_model=None)
    async def post_metrics(request: Request) -> Response:
        """Counts data points and refuses them in words: spans carry the same times and tokens, call by call."""
        return await export(request, read_metrics, "rejectedDataPoints")


def read_traces(body: bytes, sender: Sender, as_json: bool) -> tuple[Batch, Refused]:
    """The batch of a trace request, and what of it is refused.

    Raises:
        Undecodable: The body is no OTLP trace request.
    """
    rows, refused, others = read_spans(body, sender, now_us(), as_json=as_json)
    batch = Batch(sender.project_id, rows=rows, fills=True)
    if refused.n:
        batch.intake["rejected"] = refused.n
    if others:
        batch.intake["other_spans"] = others
    return batch, refused


def read_logs(body: bytes, sender: Sender, as_json: bool) -> tuple[Batch, Refused]:
    """The batch of a log request, and what of it is refused.

    Raises:
        Undecodable: The body is no OTLP log request.
    """
    taken = read_log_records(body, sender, now_us(), as_json=as_json)
    batch = Batch(sender.project_id, feedback=taken.feedback, messages=taken.messages)
    if taken.refused.n:
        batch.intake["other_logs"] = taken.refused.n
    return batch, taken.refused


def read_metrics(body: bytes, sender: Sender, as_json: bool) -> tuple[Batch, Refused]:
    """A batch that counts what was sent, all of it refused: a metric does not say which calls it stands for.

    Raises:
        Undecodable: The body is no OTLP metrics request.
    """
    points = count_data_points(body, as_json=as_json)
    batch = Batch(sender.project_id, intake={"metrics": points} if points else {})
    reason = "Metrics are not stored: latency, tokens and errors are taken from spans, call by call. Send spans here"
    return batch, Refused(points, [f"{reason}, and metrics to a metrics store."])


def _is_json(content_type: str) -> bool:
    kind = content_type.partition(";")[0].strip().lower()
    if kind in (PROTOBUF, "application/protobuf", ""):
        return False
    if kind == JSON:
        return True
    raise UnknownType(f"Content-Type {kind[:80]!r} is not taken; send {PROTOBUF} or {JSON}.")


def _success(refused: Refused, counted: str, *, as_json: bool) -> Response:
    if as_json:
        partial = {"partialSuccess": {counted: str(refused.n), "errorMessage": str(refused)}} if refused.n else {}
        return Response(msgspec.json.encode(partial), media_type=JSON)
    answer = wire.ExportResponse()
    if refused.n:
        answer.partial_success.rejected = refused.n
        answer.partial_success.error_message = str(refused)
    return Response(answer.SerializeToString(), media_type=PROTOBUF)


def _failure(error: DriftlineError, *, as_json: bool) -> Response:
    status = 400 if isinstance(error, Undecodable) else error.status
    code = _RPC_CODES.get(status, 2)
    headers = {"Retry-After": str(RETRY_AFTER_S)} if status in (429, 503) else {}
    if as_json:
        body = msgspec.json.encode({"code": code, "message": error.message})
        return Response(body, status, headers, media_type=JSON)
    message = wire.RpcStatus(code=code, message=error.message)
    return Response(message.SerializeToString(), status, headers, media_type=PROTOBUF)


def _describe(signal: str) -> dict[str, object]:
    binary = {"schema": {"type": "string", "format": "binary"}}
    text = f"An OTLP export request of {signal}, as the OpenTelemetry protocol defines it."
    content = {PROTOBUF: binary, JSON: {"schema": {"type": "object"}}}
    return {"requestBody": {"description": text, "required": True, "content": content}}
