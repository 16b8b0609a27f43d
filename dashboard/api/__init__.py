"""The JSON API: everything the pages show, to be read page by page, and everything people can do there."""

from fastapi import APIRouter

from dashboard.api import (
    acts,
    app_metrics,
    counts,
    keeping,
    lists,
    monitors,
    requests,
    route,
    schemas,
    series,
    slack,
)
from dashboard.api.failing import REFUSALS


def routes() -> APIRouter:
    """All routes under /api."""
    router = APIRouter(prefix="/api", responses=REFUSALS)
    for part in (monitors, lists, counts, series, route, acts, requests, schemas, slack, keeping, app_metrics):
        router.include_router(part.routes())
    return router
