"""What Langfuse's SDKs send beside spans: scores become Feedback, so that an application changes nothing but two keys.

Its spans come to `/api/public/otel/v1/traces`, see `collector.otlp_http`. A score of an observation belongs to that
call; a score of a whole trace is kept under the trace's id, and is shown with the trace.
"""

import asyncio
from collections.abc import Callable
from typing import Any

import msgspec
from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from collector.body import body_of
from collector.core import REFUSALS, Collector
from collector.record import MAX_RECORDS, BadRecord, FeedbackRecord, refuse_dense
from collector.rows import feedback_row
from collector.sender import Sender
from collector.writer import Batch
from driftline.errors import BadInput, TooLarge
from driftline.moment import now_us
from driftline.store.engine import reading
from driftline.store.tables import Project

Taken = tuple[Batch, list[str], list[tuple[str, str | None]]]  # rows, ids, and of each id why it was refused

_JSON = "application/json"
_TRUTH = "expected"  # the name that Driftline gives a true answer


def read_scores(body: bytes, sender: Sender) -> Taken:
    """The batch of a request to `/api/public/scores`: a list of scores, or one.

    Raises:
        BadInput: It is neither.
    """
    sent = _json(body)
    if not isinstance(sent, list | dict):
        raise BadInput("The body must be a score, or a list of scores.")
    return _sort_out([(item, item) for item in (sent if isinstance(sent, list) else [sent])], sender)


def read_events(body: bytes, sender: Sender) -> Taken:
    """The batch of a request to `/api/public/ingestion`, where older SDKs send scores as events.

    Raises:
        BadInput: The body holds no list of events.
    """
    sent = _json(body)
    events = sent.get("batch") if isinstance(sent, dict) else None
    if not isinstance(events, list):
        raise BadInput('The body must be an object with a list "batch".')
    return _sort_out([(event, _score_in(event)) for event in events], sender)


def _json(body: bytes) -> Any:
    refuse_dense(body)
    try:
        return msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BadInput(f"The body is not JSON in UTF-8: {error}.") from None


def _score_in(event: Any) -> Any:
    if not isinstance(event, dict) or event.get("type") == "score-create":
        return event.get("body") if isinstance(event, dict) else event
    return f"an event of type {str(event.get('type'))[:40]!r}: only scores are taken here, calls are taken as spans"


def _sort_out(items: list[tuple[Any, Any]], sender: Sender) -> Taken:
    if len(items) > MAX_RECORDS:
        raise TooLarge(
            f"The request holds {len(items)} scores; at most {MAX_RECORDS} are taken. Send several requests."
        )
    batch = Batch(sender.project_id)
    told: list[tuple[str, str | None]] = []
    now = now_us()
    for place, (item, score) in enumerate(items):
        named = str(item.get("id") or place)[:64] if isinstance(item, dict) else str(place)
        try:
            batch.feedback.append(feedback_row(feedback_of(score), sender.project_id, sender.privacy, now))
            told.append((named, None))
        except BadRecord as refusal:
            told.append((named, str(refusal)))
    refused = sum(reason is not None for _, reason in told)
    if refused:
        batch.intake["rejected"] = refused
    return batch, [row.id for row in batch.feedback], told


def feedback_of(score: Any) -> FeedbackRecord:
    """The feedback that a score says.

    Raises:
        BadRecord: It is none, or is about neither an observation nor a trace.
    """
    if isinstance(score, str):
        raise BadRecord(score)
    if not isinstance(score, dict):
        raise BadRecord("a score must be an object")
    trace, span, kind = score.get("traceId"), score.get("observationId"), score.get("dataType")
    if not isinstance(trace, str) or not trace or not (span is None or isinstance(span, str)):
        raise BadRecord("a score needs a traceId, and may have an observationId; sessions and runs are not scored here")
    value: Any = score.get("value")
    if kind == "BOOLEAN" and value in (0, 1):
        value = bool(value)
    told = {
        "generation_id": trace + (span or ""), "name": _TRUTH if kind == "CORRECTION" else score.get("name"),
        "value": value, "comment": score.get("comment"), "id": score.get("id"),
    }  # fmt: skip
    try:
        return msgspec.convert(told, FeedbackRecord)
    except msgspec.ValidationError as error:
        raise BadRecord(str(error)) from None


def add_routes(router: APIRouter, collector: Collector) -> None:
    """Adds the endpoints to a router."""

    async def take_in(request: Request, read: Callable[[bytes, Sender], Taken]) -> Taken:
        sender = await collector.admit(request.headers.get("authorization"))
        async with body_of(request, collector.budget) as body:
            taken = await collector.read(body.take(), read, sender)
            await collector.store(taken[0], body.size, sender)
        return taken

    @router.post("/api/public/scores", openapi_extra=_describe("scores"), response_model=None)
    async def post_scores(request: Request) -> Response:
        """Takes scores as Langfuse's SDKs send them: one, or a list."""
        batch, ids, told = await take_in(request, read_scores)
        reasons = [{"message": reason} for _, reason in told if reason is not None]
        if reasons:
            answer: Any = {"accepted": len(batch.feedback), "rejected": len(reasons), "errors": reasons}
            return Response(msgspec.json.encode(answer), 207, media_type=_JSON)
        answer = {"message": "Accepted"} | ({"id": ids[0]} if len(ids) == 1 else {})
        return Response(msgspec.json.encode(answer), 202, media_type=_JSON)

    @router.post("/api/public/ingestion", openapi_extra=_describe("ingestion"), response_model=None)
    async def post_ingestion(request: Request) -> Response:
        """Takes scores as older SDKs of Langfuse send them: as events in a batch."""
        _, _, told = await take_in(request, read_events)
        answer = {
            "successes": [{"id": named, "status": 201} for named, reason in told if reason is None],
            "errors": [{"id": named, "status": 400, "message": reason} for named, reason in told if reason is not None],
        }
        return Response(msgspec.json.encode(answer), 207, media_type=_JSON)

    @router.post("/api/public/media", include_in_schema=False, response_model=None)
    async def post_media(request: Request) -> Response:
        """Asks for no upload: pictures and sounds are named where they stood, and not kept."""
        await collector.admit(request.headers.get("authorization"))
        async with body_of(request, collector.budget) as body:
            sent = _json(body.take())
        digest = sent.get("sha256Hash") if isinstance(sent, dict) else None
        if not isinstance(digest, str):
            raise BadInput('The body must be an object with "sha256Hash".')
        named = digest.translate(str.maketrans("+/", "-_"))[:22]  # as the SDKs name it themselves
        return Response(msgspec.json.encode({"mediaId": named, "uploadUrl": None}), 201, media_type=_JSON)

    @router.get("/api/public/projects", include_in_schema=False)
    async def projects(request: Request) -> Response:
        """The one project that a key opens: what `auth_check()` asks for."""
        sender = await collector.admit(request.headers.get("authorization"))
        named = {"id": str(sender.project_id), "name": await asyncio.to_thread(_name_of, sender.project_id)}
        answer = {"data": [{**named, "organization": named, "metadata": {}}]}
        return Response(msgspec.json.encode(answer), media_type=_JSON)


def _name_of(project_id: int) -> str:
    with reading() as session:
        return session.get_one(Project, project_id).name


_SHAPES = {
    "scores": {"anyOf": [{"type": "object"}, {"type": "array", "maxItems": MAX_RECORDS}]},
    "ingestion": {
        "type": "object",
        "required": ["batch"],
        "properties": {"batch": {"type": "array", "maxItems": MAX_RECORDS}},
    },
}


def _describe(name: str) -> dict[str, Any]:
    problem = {"application/problem+json": {"schema": {"type": "object"}}}
    refusals = {**REFUSALS, 422: "The body cannot be read, or is not of this shape."}
    responses: dict[str, Any] = {str(n): {"description": said, "content": problem} for n, said in refusals.items()}
    told = {"description": "What was stored, and why the rest was not.", "content": {_JSON: {"schema": {}}}}
    responses |= {"202": {**told, "description": "Everything was stored."}, "207": told}
    body = {"required": True, "content": {_JSON: {"schema": _SHAPES[name]}}}
    return {"requestBody": body, "responses": responses}
