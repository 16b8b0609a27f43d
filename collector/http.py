"""The collector's endpoints: its own record at `/v1/records` and `/v1/feedback`, and OTLP."""

from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext
from http import HTTPStatus
from typing import Any

import msgspec
from fastapi import APIRouter, FastAPI
from fastapi.routing import APIRoute
from starlette.requests import Request
from starlette.responses import Response

from collector import langfuse, otlp_http
from collector.body import body_of
from collector.core import REFUSALS, Collector, retry_after_s
from collector.limits import TooMany
from collector.messages import clean
from collector.record import (
    MAX_RECORDS,
    BadRecord,
    Record,
    check_moment,
    check_tags,
    client_schema,
    feedback_schema,
    moment_of,
    parse_feedback,
    parse_records,
    record_schema,
)
from collector.rows import feedback_row, row_of
from collector.sender import Sender
from collector.writer import Batch
from driftline.errors import DriftlineError, StoreUnavailable
from driftline.moment import now_us

Rejected = list[dict[str, Any]]


def read_records(body: bytes, sender: Sender) -> tuple[Batch, Rejected]:
    """The batch of a native request, and what of it is refused.

    Raises:
        BadInput: The body as a whole cannot be read.
    """
    records, client = parse_records(body)
    if client is not None:  # its names as rows have them, and as every database takes them
        client.id = clean(client.id)
        for drop in client.counts:
            drop.variant, drop.reason = sender.privacy.name(drop.variant)[:128], clean(drop.reason)
    batch = Batch(sender.project_id, client=client)
    now = now_us()

    def take(record: Record) -> None:
        if record.output is None and record.error is None:
            raise BadRecord("one of output and error is required")
        check_tags(record.tags or {})
        started = moment_of(record.started_at, now)
        check_moment(started, now)
        batch.rows.append(row_of(record, started, sender.project_id, sender.privacy, now))

    return batch, _sort_out(records, take, batch)


def read_feedback(body: bytes, sender: Sender) -> tuple[Batch, Rejected]:
    """The batch of a feedback request, and what of it is refused.

    Raises:
        BadInput: The body as a whole cannot be read.
    """
    batch = Batch(sender.project_id)
    now = now_us()
    return batch, _sort_out(
        parse_feedback(body),
        lambda record: batch.feedback.append(feedback_row(record, sender.project_id, sender.privacy, now)),
        batch,
    )


def _sort_out(records: list[Any], take: Callable[[Any], None], batch: Batch) -> Rejected:
    rejected: Rejected = []
    for index, record in enumerate(records):
        try:
            if isinstance(record, BadRecord):
                raise record
            take(record)
        except BadRecord as refusal:
            rejected.append({"index": index, "reason": str(refusal)})
    if rejected:
        batch.intake["rejected"] = len(rejected)
    return rejected


class BareRoute(APIRoute):
    """A route whose function takes the request and gives the response: there is nothing to inject or to validate."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """The endpoint itself; FastAPI's own handler costs as much as decoding ten calls."""
        endpoint: Callable[[Request], Coroutine[Any, Any, Response]] = self.endpoint
        return endpoint


Beside = Callable[[Collector], AbstractAsyncContextManager[None]]


def routes(collector: Collector | None = None, beside: Beside | None = None) -> APIRouter:
    """The collector as a router with its own lifespan; include it in an app. `beside` runs with it: another way in."""
    collector = collector or Collector()

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with collector.lifespan(app), beside(collector) if beside else nullcontext():
            yield

    router = APIRouter(lifespan=lifespan, tags=["collector"], route_class=BareRoute)

    async def take_in(request: Request, read: Callable[[bytes, Sender], tuple[Batch, Rejected]]) -> Response:
        try:
            sender = await collector.admit(request.headers.get("authorization"))
            async with body_of(request, collector.budget) as body:
                batch, rejected = await collector.read(body.take(), read, sender)
                outcome = await collector.store(batch, body.size, sender)
        except (StoreUnavailable, TooMany) as failure:
            collector.answered[failure.status] += 1
            return problem(failure)
        except DriftlineError as refusal:
            collector.answered[refusal.status] += 1
            raise
        collector.answered[200] += 1
        answer = {"accepted": outcome.accepted, "duplicates": outcome.duplicates, "rejected": rejected}
        return Response(msgspec.json.encode(answer), media_type="application/json")

    @router.post("/v1/records", openapi_extra=_describe("records", record_schema()), response_model=None)
    async def post_records(request: Request) -> Response:
        """Stores production calls. Answers when they are on disk; an id that is there already changes nothing."""
        return await take_in(request, read_records)

    @router.post("/v1/feedback", openapi_extra=_describe("feedback", feedback_schema()), response_model=None)
    async def post_feedback(request: Request) -> Response:
        """Stores scores, labels and true answers of calls, which may come before or days after the call itself."""
        return await take_in(request, read_feedback)

    otlp_http.add_routes(router, collector)
    langfuse.add_routes(router, collector)
    return router


def problem(failure: StoreUnavailable | TooMany) -> Response:
    """The refusal as problem details (RFC 9457), with the time after which to try again."""
    title = HTTPStatus(failure.status).phrase
    body = {"type": "about:blank", "title": title, "status": failure.status, "detail": failure.message}
    headers = {"Retry-After": str(retry_after_s(failure))}
    return Response(msgspec.json.encode(body), failure.status, headers, media_type="application/problem+json")


def _describe(name: str, item: dict[str, Any]) -> dict[str, Any]:
    properties = {name: {"type": "array", "items": item, "maxItems": MAX_RECORDS}}
    if name == "records":
        properties["client"] = client_schema()
    body = {"type": "object", "required": [name], "properties": properties}
    refusals = {**REFUSALS, 422: "The body is JSON, but not of this shape."}
    problem = {"application/problem+json": {"schema": {"type": "object"}}}
    responses: dict[str, Any] = {str(n): {"description": said, "content": problem} for n, said in refusals.items()}
    responses["200"] = {"description": "What was stored.", "content": {"application/json": {"schema": _ANSWER}}}
    return {
        "requestBody": {"required": True, "content": {"application/json": {"schema": body}}},
        "responses": responses,
    }


_COUNT = {"type": "integer", "minimum": 0}
_REFUSAL = {"type": "object", "properties": {"index": _COUNT, "reason": {"type": "string"}}}
_ANSWER = {
    "type": "object",
    "required": ["accepted", "duplicates", "rejected"],
    "properties": {"accepted": _COUNT, "duplicates": _COUNT, "rejected": {"type": "array", "items": _REFUSAL}},
}
