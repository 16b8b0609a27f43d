"""Jobs, schedules and processes: what works, what waits, what failed and why."""

from fastapi import APIRouter
from markupsafe import Markup
from sqlmodel import col, select
from starlette.requests import Request
from starlette.responses import Response

from dashboard.pages.failing import PageRoute
from dashboard.pages.running import running
from dashboard.views import Viewer, live, page, renewed
from driftline.store.engine import reading
from driftline.store.projects import Caller
from driftline.store.tables import Job, Schedule

router = APIRouter(route_class=PageRoute)
ENDED = ("done", "failed", "cancelled")
SHOWN = 50


@router.get("/jobs")
def jobs(request: Request, caller: Viewer) -> Response:
    """Work of the project."""
    with reading() as session:
        schedules = session.exec(
            select(Schedule).where(Schedule.project_id == caller.project_id).order_by(Schedule.name).limit(200)
        ).all()
    return page(request, caller, "jobs.html", part=_part(caller), schedules=schedules)


@router.get("/parts/jobs")
def jobs_part(request: Request, caller: Viewer) -> Response:
    """What moves of it."""
    return renewed(request, _part(caller))


def _part(caller: Caller) -> Markup:
    with reading() as session:
        ended = session.exec(
            select(Job)
            .where(Job.project_id == caller.project_id, col(Job.state).in_(ENDED))
            .order_by(col(Job.id).desc())
            .limit(SHOWN)
        ).all()
        shown = running(session, caller.project_id, SHOWN)
    return live("/parts/jobs", 2, "parts/jobs.html", caller, ended=ended, **shown)
