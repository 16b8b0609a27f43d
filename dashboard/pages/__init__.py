"""The pages, one file each: its query and its view. A page that cannot be shown says why."""

from urllib.parse import urlencode

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response

from driftline.errors import DriftlineError, Unauthenticated


def routes() -> APIRouter:
    """All pages, their live parts and what their buttons post to."""
    from dashboard.pages import (
        alerts,
        buttons,
        comparison,
        drift_event,
        golden,
        jobs,
        login,
        monitors,
        overview,
        reference,
        reoptimizations,
        replay,
        variants,
    )

    router = APIRouter(include_in_schema=False)
    pages = (
        overview, variants, comparison, drift_event, alerts, reoptimizations, golden, replay, monitors, jobs, login,
        buttons, reference,
    )  # fmt: skip
    for page in pages:
        router.include_router(page.router)
    return router


def error_page(request: Request, error: DriftlineError) -> Response:
    """The page for what went wrong; whoever has to sign in first is sent to do so."""
    from dashboard.views import environment

    if isinstance(error, Unauthenticated):
        to = f"{request.url.path}?{request.url.query}" if request.url.query else request.url.path
        where = "/login?" + urlencode({"to": to if request.method == "GET" else "/"})
        if "hx-request" in request.headers:
            return Response(status_code=401, headers={"HX-Redirect": "/login"})
        return RedirectResponse(where, status_code=303)
    html = environment().get_template("error.html").render(error=error, status=error.status)
    return HTMLResponse(html, status_code=error.status, headers={"Cache-Control": "no-store"})
