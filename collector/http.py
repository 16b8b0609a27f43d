"""The collector's endpoints for its own record: `POST /v1/records` and `POST /v1/feedback`."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import msgspec
from fastapi import APIRouter, FastAPI
from starlette.requests import Request
from starlette.responses import Response

from collector.admission import Admission, Sender
from collector.body import body_of
from collector.budget import Budget
from collector.record import (
    MAX_RECORDS,
    BadRecord,
    client_schema,
    feedback_schema,
    parse_feedback,
    parse_records,
    record_schema,
)
from collector.rows import feedback_row, row_of
from collector.writer import Batch, Outcome, Writer
from driftline.errors import StoreUnavailable
from driftline.moment import now_us
from driftline.store.engine import engine

RETRY_AFTER_S = 1
PATIENCE_S = 8.0  # a request is answered within this: OpenTelemetry's exporters give up after ten seconds
_LARGE = 2**20  # bytes from which on a body is read in a thread, so that others are answered meanwhile

Rejected = list[dict[str, Any]]


class Collector:
    """What the endpoints share: the writer, what may be held, and who may send."""

    def __init__(self) -> None:
        self.budget = Budget()
        self.admission = Admission()
        self.writer: Writer | None = None

    @asynccontextmanager
    async def lifespan(self, _app: FastAPI) -> AsyncIterator[None]:
        """Runs the writer while the app runs; at the end what was submitted is written."""
        self.writer = Writer(engine())
        self.writer.start()
        try:
            yield
        finally:
            await asyncio.to_thread(self.writer.stop)
            self.writer = None

    async def store(self, batch: Batch) -> Outcome:
        """Waits until the batch is on disk.

        Raises:
            StoreUnavailable: It could not be stored now, or not in time. Sending it again does no harm.
        """
        if batch.empty:
            return Outcome(0, 0)
        if self.writer is None:
            raise StoreUnavailable("The collector is not running. Start the app with its lifespan.")
        try:
            return await asyncio.wait_for(asyncio.wrap_future(self.writer.submit(batch)), PATIENCE_S)
        except TimeoutError:
            raise StoreUnavailable(f"The store did not answer within {PATIENCE_S:.0f} seconds. Send again.") from None


def read_records(body: bytes, sender: Sender) -> tuple[Batch, Rejected]:
    """The batch of a native request, and what of it is refused.

    Raises:
        BadInput: The body as a whole cannot be read.
    """
    records, client = parse_records(body)
    batch = Batch(sender.project_id, client=client)
    now = now_us()
    return batch, _sort_out(
        records, lambda record: batch.rows.append(row_of(record, sender.project_id, sender.privacy, now)), batch
    )


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


def routes() -> APIRouter:
    """The collector as a router with its own lifespan; include it in an app."""
    collector = Collector()
    router = APIRouter(lifespan=collector.lifespan, tags=["collector"])

    async def take_in(request: Request, read: Callable[[bytes, Sender], tuple[Batch, Rejected]]) -> Response:
        try:
            sender = await collector.admission.admit(request.headers.get("authorization"))
            async with body_of(request, collector.budget) as body:
                batch, rejected = (
                    await asyncio.to_thread(read, body, sender) if len(body) > _LARGE else read(body, sender)
                )
                outcome = await collector.store(batch)
        except StoreUnavailable as failure:
            return problem(failure)
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

    return router


def problem(failure: StoreUnavailable) -> Response:
    """The refusal as problem details (RFC 9457), with the time after which to try again."""
    body = {"type": "about:blank", "title": "Service Unavailable", "status": 503, "detail": failure.message}
    headers = {"Retry-After": str(RETRY_AFTER_S)}
    return Response(msgspec.json.encode(body), 503, headers, media_type="application/problem+json")


def _describe(name: str, item: dict[str, Any]) -> dict[str, Any]:
    properties = {name: {"type": "array", "items": item, "maxItems": MAX_RECORDS}}
    if name == "records":
        properties["client"] = client_schema()
    body = {"type": "object", "required": [name], "properties": properties}
    return {"requestBody": {"required": True, "content": {"application/json": {"schema": body}}}}
