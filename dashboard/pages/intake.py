"""What comes in and what is kept of it: counts, the project's settings, and the metrics that apps export."""

from typing import Annotated

from fastapi import APIRouter, Form
from sqlmodel import Session
from starlette.requests import Request
from starlette.responses import Response

from dashboard.figures.app_metrics import metric_figure
from dashboard.figures.canvas import Drawn
from dashboard.measures import captured
from dashboard.metric_series import metric_names, metric_series
from dashboard.pages.failing import PageRoute
from dashboard.views import Administrator, Viewer, done, page
from dashboard.windows import CHOICES, Window, choose
from driftline.acts import projects
from driftline.errors import BadInput
from driftline.store.engine import reading, writing
from driftline.store.projects import Caller
from driftline.store.tables import Project

router = APIRouter(route_class=PageRoute)
Field = Annotated[str, Form()]
SHOWN = 6  # metrics drawn
RULES = {
    "redacted": "emails, numbers, keys and addresses are replaced",
    "full": "as sent",
    "hashed": "fingerprints only",
    "none": "lengths only",
}


@router.get("/intake")
def intake(request: Request, caller: Viewer, window: str | None = None) -> Response:
    """What comes in, and what is kept of it."""
    with reading() as session:
        chosen = choose(session, caller.project_id, window)
        project = session.get_one(Project, caller.project_id)
        counts = captured(session, caller.project_id)
        figures = _figures(session, caller, chosen)
    return page(
        request, caller, "intake.html", project=project, counts=counts, figures=figures, window=chosen,
        windows=CHOICES, rules=RULES,
    )  # fmt: skip


@router.post("/intake/keeping")
def change(request: Request, caller: Administrator, store_text: Field, keep_days: Field = "") -> Response:
    """Changes what the project keeps."""
    try:
        days = int(keep_days.strip() or 0)
    except ValueError:
        raise BadInput(f"{keep_days!r} is no number of days.") from None
    with writing() as session:
        project = session.get_one(Project, caller.project_id)
        projects.configure(session, project, caller.name, store_text=store_text, keep_days=days)
    return done(request, "Saved. New calls follow within seconds, stored ones within the hour.", "/intake")


@router.post("/intake/erase")
def erase(request: Request, caller: Administrator, user_id: Field) -> Response:
    """Asks for all calls of a user to be deleted."""
    with writing() as session:
        project = session.get_one(Project, caller.project_id)
        projects.request_erasure(session, project, user_id.strip(), caller.name)
    return done(request, "The user's calls are being deleted.", "/intake")


def _figures(session: Session, caller: Caller, window: Window) -> list[Drawn]:
    drawn = []
    for name, unit in list(metric_names(session, caller.project_id).items())[:SHOWN]:
        spans = metric_series(session, caller.project_id, name, window.since, window.until, window.step)
        if spans:
            drawn.append(metric_figure(name, unit, spans, window))
    return drawn
