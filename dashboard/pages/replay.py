"""Replays: how far one is, what it scored, what it answered."""

from collections.abc import Sequence
from typing import Any

from fastapi import APIRouter
from markupsafe import Markup
from sqlmodel import Session, col, func, or_, select
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response

from dashboard.acts import find_row
from dashboard.lookups import golden_names, judged, replay_means, variant_names
from dashboard.pages.failing import PageRoute
from dashboard.views import Viewer, environment, live, page, renewed
from driftline.acts.budgets import NANO
from driftline.moment import SECOND, now_us
from driftline.store.engine import reading
from driftline.store.projects import Caller
from driftline.store.tables import Answer, Comparison, GoldenItem, Job, Replay, Score

router = APIRouter(route_class=PageRoute)
ANSWERS = 20


@router.get("/replays")
def replays(request: Request, caller: Viewer) -> Response:
    """The newest replays."""
    with reading() as session:
        rows = session.exec(
            select(Replay).where(Replay.project_id == caller.project_id).order_by(col(Replay.id).desc()).limit(100)
        ).all()
        names = variant_names(session, (row.variant_id for row in rows))
        goldens = golden_names(session, (row.golden_version_id for row in rows))
        means = replay_means(session, (row.id for row in rows[:30]))
    return page(request, caller, "replays.html", rows=rows, names=names, goldens=goldens, means=means)


@router.get("/replays/{row_id}")
def replay(request: Request, caller: Viewer, row_id: int) -> Response:
    """One replay."""
    with reading() as session:
        row, part = _progress(session, caller, row_id)
        comparisons = session.exec(
            select(Comparison)
            .where(or_(col(Comparison.candidate_replay_id) == row.id, col(Comparison.baseline_replay_id) == row.id))
            .order_by(col(Comparison.id).desc())
            .limit(20)
        ).all()
        context: dict[str, Any] = {
            "variant": variant_names(session, [row.variant_id])[row.variant_id],
            "golden": golden_names(session, [row.golden_version_id])[row.golden_version_id],
            "comparisons": judged(session, comparisons),
            "answers": _answers(session, row, 0),
        }
    return page(request, caller, "replay.html", row=row, part=part, start=0, per_page=ANSWERS, **context)


@router.get("/parts/replays/{row_id}/progress")
def progress_part(request: Request, caller: Viewer, row_id: int) -> Response:
    """State, progress, scores and latencies."""
    with reading() as session:
        return renewed(request, _progress(session, caller, row_id)[1])


@router.get("/parts/replays/{row_id}/answers")
def answers_part(caller: Viewer, row_id: int, start: int = 0) -> Response:
    """Some more answers."""
    start = max(0, start)
    with reading() as session:
        row: Replay = find_row(session, Replay, row_id, caller.project_id, "replay")
        answers = _answers(session, row, start)
    html = environment().get_template("parts/answers.html").render(
        row=row, answers=answers, start=start, per_page=ANSWERS
    )  # fmt: skip
    return HTMLResponse(html)


def _progress(session: Session, caller: Caller, row_id: int) -> tuple[Replay, Markup]:
    row: Replay = find_row(session, Replay, row_id, caller.project_id, "replay")
    of_replay = Answer.replay_id == row.id
    latencies = sorted(ms for ms in session.exec(select(Answer.latency_ms).where(of_replay)) if ms is not None)
    answered, errors = session.exec(
        select(func.count(col(Answer.id)), func.count(col(Answer.error))).where(of_replay)
    ).one()
    job = session.exec(select(Job).where(Job.subject == f"replay:{row.id}").order_by(col(Job.id).desc())).first()
    return row, live(
        f"/parts/replays/{row.id}/progress", 2 if row.state in ("queued", "running") else 30, "parts/replay.html",
        caller, row=row, job=job, answered=answered, errors=errors, p50=_quantile(latencies, 0.5),
        p95=_quantile(latencies, 0.95), spent=_spent(row), means=replay_means(session, [row.id]).get(row.id, {}),
    )  # fmt: skip


def _spent(row: Replay) -> list[tuple[str, float, float | None]]:
    """What it spent and, where there is one, the limit of its budget; seconds only where they are limited."""
    seconds = ((row.finished_at or now_us()) - row.started_at) / SECOND if row.started_at else 0.0
    used = {
        "calls": ("Calls", row.calls), "tokens": ("Tokens", row.tokens), "usd": ("Dollars", row.cost_nano / NANO),
        "seconds": ("Seconds", seconds), "joules": ("Joules, about", row.joules),
    }  # fmt: skip
    most = row.plan.get("budget") or {}
    return [
        (label, amount, most.get(name))
        for name, (label, amount) in used.items()
        if name in most or (amount and name != "seconds")
    ]


def _quantile(ranked: Sequence[float], share: float) -> float | None:
    return ranked[min(len(ranked) - 1, int(share * len(ranked)))] if ranked else None


def _answers(session: Session, row: Replay, start: int) -> list[tuple[Answer, GoldenItem, list[Score]]]:
    """Answers with their items and scores, in the order of the items."""
    pairs = session.exec(
        select(Answer, GoldenItem)
        .join(GoldenItem, col(GoldenItem.id) == Answer.item_id)
        .where(Answer.replay_id == row.id)
        .order_by(col(GoldenItem.position))
        .offset(start)
        .limit(ANSWERS)
    ).all()
    scores: dict[int | None, list[Score]] = {}
    ids = [answer.id for answer, _ in pairs]
    for score in session.exec(select(Score).where(col(Score.answer_id).in_(ids)).order_by(Score.evaluator)):
        scores.setdefault(score.answer_id, []).append(score)
    return [(answer, item, scores.get(answer.id, [])) for answer, item in pairs]
