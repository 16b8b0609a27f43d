"""The pages, one file each: its query and its view. A page that cannot be shown says why."""

from fastapi import APIRouter

from dashboard.pages import (
    alerts,
    buttons,
    calls,
    comparison,
    drift_event,
    golden,
    golden_forms,
    intake,
    jobs,
    login,
    monitor_forms,
    monitors,
    overview,
    people,
    reference,
    reoptimizations,
    replay,
    replay_forms,
    rules,
    variants,
)
from dashboard.pages import (
    routes as route_pages,
)
from dashboard.pages.failing import error_page

__all__ = ["error_page", "routes"]

PAGES = (
    overview, calls, variants, comparison, drift_event, alerts, reoptimizations, golden, golden_forms, replay, monitors,
    monitor_forms, replay_forms, jobs, intake, reference, rules, login, people, route_pages, buttons,
)  # fmt: skip


def routes() -> APIRouter:
    """All pages, their live parts and what their buttons post to."""
    router = APIRouter(include_in_schema=False)
    for page in PAGES:
        router.include_router(page.router)
    return router
