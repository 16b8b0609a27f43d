"""Scoring production answers by the evaluators that monitors read.

Evaluators that need a true answer follow the feedback named "expected", which may come days late; the others follow the
traffic. A bookmark per route and evaluator says how far it has been read. When more waits than can be scored in time, a
uniform share of it is scored, chosen by the records' keys, so that the cost does not grow with the traffic.
"""

import json
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Select, insert, null, select
from sqlmodel import Session, col, func

from driftline.errors import DriftlineError
from driftline.moment import SECOND, now_us
from driftline.protocols import Answered, Messages
from driftline.settings import settings
from driftline.store.claims import claim
from driftline.store.engine import reading, writing
from driftline.store.generations import feedback_with_calls
from driftline.store.tables import Bookmark, Feedback, Generation, Monitor, Route, Score, Variant
from evaluators.scorers import scorer
from scheduler.models import weigher_of
from scheduler.work import Later, Work

BATCH = 32  # scored in one turn of the job
MOST_WAITING = 1024  # a backlog beyond this many is thinned out evenly
NEEDS_BASELINE = frozenset({"baseline_likelihood", "baseline_top1"})
LABEL_FREE = NEEDS_BASELINE | {"refusal", "empty", "json_valid", "language"}


@dataclass(frozen=True, slots=True)
class Waiting:
    """An answer that waits to be scored. `place` counts arrivals in the stream that the evaluator follows."""

    place: int
    generation_seq: int
    arrived_at: int
    answered: Answered


def score(work: Work) -> Later | dict[str, int]:
    """Scores with args["evaluator"] what arrived on args["route"] since last time."""
    route, evaluator = str(work.args["route"]), str(work.args["evaluator"])
    name = bookmark_of(work.project, route, evaluator)
    horizon = now_us() - int(settings().settle_s * SECOND)
    with reading() as session:
        position = _position(session, name)
        arrived = _stream(session, work.project, route, evaluator, position, horizon)
        place = arrived.selected_columns[0]
        counted = select(func.count()).select_from(arrived.with_only_columns(place).order_by(None).subquery())
        backlog = session.connection().scalar(counted) or 0
        looked_at = min(backlog, max(BATCH, backlog * BATCH // MOST_WAITING))
        last = session.connection().scalar(arrived.with_only_columns(place).offset(max(looked_at, 1) - 1).limit(1))
        if last is None:
            return {"scored": 0}
        # Of those looked at the ones with the smallest keys: no more than are scored are ever read into memory.
        shuffled = arrived.selected_columns["sample_key"]
        drawn = arrived.where(place <= last).order_by(None).order_by(shuffled).limit(BATCH)
        turn = sorted(_read(session, drawn), key=lambda one: one.place)
        baseline = _baseline(session, work.project, route) if evaluator in NEEDS_BASELINE else None
    if evaluator in NEEDS_BASELINE and baseline is None:
        return {"scored": 0}
    try:
        model = weigher_of(baseline) if baseline is not None else None
    except DriftlineError as problem:
        _tell_monitors(work, route, evaluator, problem.message)
        return {"scored": 0}
    judge = scorer(evaluator, model=model)
    values = judge([one.answered for one in turn])
    now = now_us()
    rows: list[dict[str, Any]] = [
        {"project_id": work.project, "evaluator": judge.name, "version": judge.version, "value": scored.value,
         "arrived_at": one.arrived_at, "generation_seq": one.generation_seq, "because": scored.because,
         "created_at": now}
        for one, scored in zip(turn, values, strict=True)
    ]  # fmt: skip
    with writing() as session:
        work.hold(session)
        if not claim(session, Bookmark, Bookmark.name == name, Bookmark.position == position, position=last):
            return {"scored": 0}  # another run of this job was faster
        known = select(col(Score.generation_seq)).where(
            col(Score.evaluator) == judge.name, col(Score.version) == judge.version,
            col(Score.generation_seq).in_([row["generation_seq"] for row in rows]),
        )  # fmt: skip
        already = set(session.connection().scalars(known))
        fresh = {row["generation_seq"]: row for row in rows if row["generation_seq"] not in already}
        if fresh:
            session.connection().execute(insert(Score), list(fresh.values()))
    return Later(note=f"{backlog - looked_at} wait to be scored") if backlog > looked_at else {"scored": len(turn)}


def _tell_monitors(work: Work, route: str, evaluator: str, problem: str) -> None:
    """Shows on the monitors that wait for the scores why none come."""
    with writing() as session:
        work.hold(session)
        of_stream = select(col(Monitor.id)).where(
            col(Monitor.project_id) == work.project, col(Monitor.route) == route, col(Monitor.source) == evaluator,
            col(Monitor.status) == "collecting",
        )  # fmt: skip
        for monitor_id in session.connection().scalars(of_stream).all():
            claim(session, Monitor, Monitor.id == monitor_id, pending={"problem": problem})


def is_due(session: Session, monitor: Monitor) -> bool:
    """Whether answers wait that the monitor's evaluator has not read."""
    return _waiting(session, monitor) is not None


def _waiting(session: Session, monitor: Monitor) -> Any:
    """The first row of the stream that is not scored yet."""
    position = _position(session, bookmark_of(monitor.project_id, monitor.route, monitor.source))
    horizon = now_us() - int(settings().settle_s * SECOND)
    query = _stream(session, monitor.project_id, monitor.route, monitor.source, position, horizon)
    return session.connection().execute(query.limit(1)).first()


def scored_until(session: Session, monitor: Monitor) -> int | None:
    """Up to when all that arrived for the monitor's evaluator has been scored; None when nothing waits."""
    waiting = _waiting(session, monitor)
    return None if waiting is None else int(waiting.arrived)


def bookmark_of(project_id: int, route: str, evaluator: str) -> str:
    """The name of the bookmark that says how far an evaluator has read a route."""
    return f"score:{project_id}:{route}:{evaluator}"


def ensure_bookmark(session: Session, monitor: Monitor) -> None:
    """Makes the bookmark that the monitor's evaluator starts from."""
    name = bookmark_of(monitor.project_id, monitor.route, monitor.source)
    if session.get(Bookmark, name) is None:
        session.add(Bookmark(name=name))


def _position(session: Session, name: str) -> int:
    bookmark = session.get(Bookmark, name)
    return bookmark.position if bookmark is not None else 0


def _stream(session: Session, project_id: int, route: str, evaluator: str, position: int, horizon: int) -> Select[Any]:
    """What follows the bookmark in order of arrival: place, moment, the record's columns, true answer or null, key."""
    call = Generation
    answer: Any = null()
    if evaluator in LABEL_FREE:
        place, arrived = col(Generation.seq), col(Generation.received_at)
        query: Any = select(place, arrived.label("arrived"))
    else:
        told, call = feedback_with_calls(session.connection())
        place, arrived, answer = col(Feedback.seq), col(Feedback.received_at), col(Feedback.label)
        query = select(place, arrived.label("arrived")).select_from(told).where(col(Feedback.name) == "expected")
    query = query.add_columns(
        col(call.seq), col(call.input), col(call.output), col(call.status), col(call.error), answer,
        col(call.sample_key),
    )  # fmt: skip
    query = query.where(place > position, arrived < horizon)
    chosen: Select[Any] = query.where(col(call.project_id) == project_id, col(call.route) == route)
    return chosen.order_by(place)


def _read(session: Session, query: Select[Any]) -> list[Waiting]:
    found = []
    for place, arrived, seq, stored, text, status, error, expected, _key in session.connection().execute(query):
        problem = None if status == "ok" else error or status
        answered = Answered(messages_of(stored), text or "", (expected,) if expected else (), error=problem)
        found.append(Waiting(place, seq, arrived, answered))
    return found


def messages_of(stored: str | None) -> Messages:
    """The prompt of a generation as messages; empty where its text is not stored."""
    if not stored:
        return ()
    try:
        value = json.loads(stored)
    except json.JSONDecodeError:
        value = stored
    if isinstance(value, list):
        parts = (message for message in value if isinstance(message, dict))
        return tuple({"role": str(m.get("role", "user")), "content": str(m.get("content", ""))} for m in parts)
    return ({"role": "user", "content": str(value)},)


def _baseline(session: Session, project_id: int, route: str) -> Variant | None:
    of_route = select(Route).where(col(Route.project_id) == project_id, col(Route.name) == route)
    row = session.scalars(of_route).first()
    return session.get(Variant, row.baseline_variant_id) if row is not None and row.baseline_variant_id else None
