"""Single calls: the newest, one of them, and all of a conversation or a trace in the order they were made."""

import json
from collections.abc import Callable, Sequence
from typing import Any

from fastapi import APIRouter
from sqlalchemy import ColumnElement
from sqlmodel import Session, col, select
from starlette.requests import Request
from starlette.responses import Response

from dashboard.api.lists import LISTS, keyset_page, stretches_of
from dashboard.lookups import named_variant, variant_names
from dashboard.newest import Named
from dashboard.pages.failing import PageRoute
from dashboard.views import Viewer, page
from driftline.errors import NotFound
from driftline.store.engine import reading
from driftline.store.generations import of_trace
from driftline.store.ids import SPAN_CHARS, TRACE_CHARS
from driftline.store.projects import Caller
from driftline.store.tables import Feedback, Generation, Score

router = APIRouter(route_class=PageRoute)
SHOWN = 50
LONGEST = 200  # calls of one conversation that are shown
STATUSES = ("ok", "error", "aborted")


@router.get("/generations")
def calls(
    request: Request, caller: Viewer, variant: str = "", status: str = "", user: str = "", cursor: str | None = None
) -> Response:
    """The newest calls, page by page."""
    conditions: list[ColumnElement[bool]] = []
    with reading() as session:
        variant_id = named_variant(session, caller.project_id, variant).id if variant else None
        if variant_id is not None:
            conditions.append(col(Generation.variant_id) == variant_id)
        known = status if status in STATUSES else None
        if known is not None:
            conditions.append(col(Generation.status) == known)
        if user:
            conditions.append(col(Generation.user_id) == user)
        lying = (None, None) if user else (variant_id, known)
        named: Named | None = ("user_id", user) if user else None
        look = stretches_of(session, caller.project_id, SHOWN, *lying, named=named)
        rows, following = keyset_page(
            session, LISTS["generations"], caller.project_id, SHOWN, cursor, tuple(conditions), look
        )
        names = variant_names(session, (row.variant_id for row in rows))
    asked = {"variant": variant, "status": status, "user": user}
    return page(
        request, caller, "generations.html", rows=rows, names=names, following=following, asked=asked,
        statuses=STATUSES, first={row.seq: last_message(row) for row in rows},
    )  # fmt: skip


@router.get("/generations/{seq}")
def call(request: Request, caller: Viewer, seq: int) -> Response:
    """One call, whole."""
    with reading() as session:
        row = session.get(Generation, seq)
        if row is None or row.project_id != caller.project_id:
            raise NotFound("call", seq)
        others = _around(session, row)
        context = _context(session, [row])
    return page(request, caller, "generation.html", row=row, trace=trace_of(row), others=others, **context)


@router.get("/conversations/{session_id:path}")
def conversation(request: Request, caller: Viewer, session_id: str) -> Response:
    """All calls of a session, oldest first."""
    return _in_order(request, caller, "Session", session_id, lambda _: col(Generation.session_id) == session_id)


@router.get("/traces/{trace_id}")
def trace(request: Request, caller: Viewer, trace_id: str) -> Response:
    """All calls of an OpenTelemetry trace, oldest first."""

    def spans(session: Session) -> ColumnElement[bool]:
        return of_trace(session.connection(), caller.project_id, trace_id)

    return _in_order(request, caller, "Trace", trace_id, spans)


def _in_order(
    request: Request, caller: Caller, kind: str, name: str, condition: Callable[[Session], ColumnElement[bool]]
) -> Response:
    with reading() as session:
        found = session.exec(
            select(Generation)
            .where(Generation.project_id == caller.project_id, condition(session))
            .order_by(col(Generation.started_at), col(Generation.seq))
            .limit(LONGEST + 1)
        ).all()
        if not found:
            raise NotFound(kind.lower(), name)
        rows = found[:LONGEST]
        context = _context(session, rows, name if kind == "Trace" else None)
    return page(
        request, caller, "conversation.html", kind=kind, title=name, rows=rows, is_cut=len(found) > LONGEST,
        new=_new_messages(rows), **context,
    )  # fmt: skip


def _context(session: Session, rows: Sequence[Generation], trace_id: str | None = None) -> dict[str, Any]:
    """What belongs to calls: names of variants, what people and judges said, and messages as they are shown."""
    ids = [row.id for row in rows]
    said: dict[str, list[Feedback]] = {}
    wanted = [*ids, trace_id or trace_of(rows[0]) or ids[0]]
    told = select(Feedback).where(Feedback.project_id == rows[0].project_id, col(Feedback.generation_id).in_(wanted))
    for feedback in session.exec(told.order_by(col(Feedback.seq))):
        said.setdefault(feedback.generation_id, []).append(feedback)
    scored: dict[int, list[Score]] = {}
    for score in session.exec(select(Score).where(col(Score.generation_seq).in_([row.seq for row in rows]))):
        scored.setdefault(score.generation_seq or 0, []).append(score)
    return {
        "names": variant_names(session, (row.variant_id for row in rows)),
        "said": said,
        "scored": scored,
        "messages": {row.seq: messages_of(row) for row in rows},
    }


def messages_of(row: Generation) -> list[dict[str, str]]:
    """The prompt's messages; none where its text was not sent or is not kept."""
    try:
        read = json.loads(row.input) if row.input else []
    except ValueError:
        return []
    return [message for message in read if isinstance(message, dict)]


def last_message(row: Generation) -> str:
    """What was asked last."""
    messages = messages_of(row)
    return str(messages[-1].get("content", "")) if messages else ""


def trace_of(row: Generation) -> str | None:
    """The trace of a call that came as a span: its id begins with it."""
    trace_id = row.id[:TRACE_CHARS]
    is_span = len(row.id) == SPAN_CHARS and all(c in "0123456789abcdef" for c in row.id)
    return trace_id if is_span else None


def _around(session: Session, row: Generation) -> int:
    """How many calls share the session or the trace with this one, itself included; at most LONGEST."""
    same: list[ColumnElement[bool]] = []
    if row.session_id:
        same.append(col(Generation.session_id) == row.session_id)
    if (trace_id := trace_of(row)) is not None:
        same.append(of_trace(session.connection(), row.project_id, trace_id))
    of_project = select(Generation.seq).where(Generation.project_id == row.project_id).limit(LONGEST)
    found = {row.seq}.union(*(session.exec(of_project.where(condition)) for condition in same))
    return min(len(found), LONGEST)


def _new_messages(rows: Sequence[Generation]) -> dict[int, int]:
    """How many messages at the head of each prompt were shown with the calls before: apps send the whole history."""
    shown: dict[int, int] = {}
    seen: list[dict[str, str]] = []
    for row in rows:
        messages = messages_of(row)
        n = 0
        while n < min(len(seen), len(messages)) and seen[n] == messages[n]:
            n += 1
        shown[row.seq] = n
        seen = [*messages, {"role": "assistant", "content": row.output or ""}]
    return shown
