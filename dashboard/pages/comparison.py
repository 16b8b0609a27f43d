"""One comparison: the verdict, what it rests on, and the items that flipped, side by side."""

from dataclasses import dataclass
from typing import Any

from fastapi import APIRouter
from sqlmodel import Session, col, select
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response

from dashboard.acts import find_row
from dashboard.figures.comparison import interval_figure
from dashboard.lookups import headline_rank, judged
from dashboard.pages.failing import PageRoute
from dashboard.views import Viewer, environment, page
from driftline.store.engine import reading
from driftline.store.tables import Answer, Comparison, GoldenItem, Replay

router = APIRouter(route_class=PageRoute)
FLIPS = 6  # shown at a time
SIDES = ("worse", "better")


@dataclass(frozen=True, slots=True)
class Flip:
    """One item on which the two answers are not equally good."""

    item: GoldenItem
    baseline: Answer | None
    candidate: Answer | None
    baseline_score: float | None
    candidate_score: float | None


@router.get("/comparisons")
def comparisons(request: Request, caller: Viewer) -> Response:
    """The newest comparisons."""
    with reading() as session:
        query = select(Comparison).where(Comparison.project_id == caller.project_id)
        rows = session.exec(query.order_by(col(Comparison.id).desc()).limit(100)).all()
        listed = judged(session, rows)
    return page(request, caller, "comparisons.html", rows=listed)


@router.get("/comparisons/{row_id}")
def comparison(request: Request, caller: Viewer, row_id: int) -> Response:
    """The page of one comparison."""
    with reading() as session:
        row: Comparison = find_row(session, Comparison, row_id, caller.project_id, "comparison")
        about = judged(session, [row])[0]
        siblings = session.exec(
            select(Comparison).where(
                Comparison.candidate_replay_id == row.candidate_replay_id,
                Comparison.baseline_replay_id == row.baseline_replay_id,
            )
        ).all()
        replays = {
            "candidate": session.get(Replay, row.candidate_replay_id),
            "baseline": session.get(Replay, row.baseline_replay_id),
        }
        sides = {side: _flip_rows(row, side) for side in SIDES}
        first = next((side for side in SIDES if sides[side]), "worse")
        flips = _flips(session, row, sides[first][:FLIPS])
    ends = [abs(one[key]) for one in row.slices or [] for key in ("low", "high") if isinstance(one.get(key), float)]
    return page(
        request, caller, "comparison.html", c=row, reach=1.15 * max([*ends, row.margin, 1e-3]), about=about,
        replays=replays, figure=interval_figure(row),
        siblings=sorted(siblings, key=lambda other: headline_rank(other.evaluator)), flips=flips, side=first,
        counts={side: len(rows) for side, rows in sides.items()}, start=0, per_page=FLIPS,
    )  # fmt: skip


@router.get("/parts/comparisons/{row_id}/flips")
def flips_part(caller: Viewer, row_id: int, side: str = "worse", start: int = 0) -> Response:
    """Some of the flipped items."""
    side, start = side if side in SIDES else "worse", max(0, start)
    with reading() as session:
        row: Comparison = find_row(session, Comparison, row_id, caller.project_id, "comparison")
        sides = {name: _flip_rows(row, name) for name in SIDES}
        flips = _flips(session, row, sides[side][start : start + FLIPS])
        about = judged(session, [row])[0]
    html = environment().get_template("parts/flips.html").render(
        c=row, about=about, flips=flips, side=side, start=start, per_page=FLIPS,
        counts={name: len(rows) for name, rows in sides.items()},
    )  # fmt: skip
    return HTMLResponse(html)


def _flip_rows(row: Comparison, side: str) -> list[dict[str, Any]]:
    """The flips to one side, largest change first."""
    rows = [
        flip for flip in row.evidence.get("flips") or []
        if isinstance(flip.get("candidate"), int | float) and isinstance(flip.get("baseline"), int | float)
    ]  # fmt: skip
    sign = 1 if side == "better" else -1
    chosen = [flip for flip in rows if sign * (flip["candidate"] - flip["baseline"]) > 0]
    return sorted(chosen, key=lambda flip: (-abs(flip["candidate"] - flip["baseline"]), flip.get("item_id", 0)))


def _flips(session: Session, row: Comparison, rows: list[dict[str, Any]]) -> list[Flip]:
    ids = [flip["item_id"] for flip in rows]
    items = {item.id: item for item in session.exec(select(GoldenItem).where(col(GoldenItem.id).in_(ids)))}
    answers = {
        (answer.replay_id, answer.item_id): answer
        for answer in session.exec(
            select(Answer).where(
                col(Answer.replay_id).in_([row.candidate_replay_id, row.baseline_replay_id]),
                col(Answer.item_id).in_(ids),
            )
        )
    }
    return [
        Flip(
            items[flip["item_id"]], answers.get((row.baseline_replay_id, flip["item_id"])),
            answers.get((row.candidate_replay_id, flip["item_id"])), flip["baseline"], flip["candidate"],
        )
        for flip in rows
        if flip["item_id"] in items
    ]  # fmt: skip
