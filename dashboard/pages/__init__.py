"""The pages, one file each: its query and its view. A page that cannot be shown says why."""

from fastapi import APIRouter

from dashboard.pages import (
    alerts,
    buttons,
    comparison,
    drift_event,
    golden,
    intake,
    jobs,
    login,
    monitors,
    overview,
    reference,
    reoptimizations,
    replay,
    rules,
    variants,
)
from dashboard.pages.failing import error_page

__all__ = ["error_page", "routes"]

PAGES = (
    overview, variants, comparison, drift_event, alerts, reoptimizations, golden, replay, monitors, jobs, intake,
    reference, rules, login, buttons,
)  # fmt: skip


def routes() -> APIRouter:
    """All pages, their live parts and what their buttons post to."""
    router = APIRouter(include_in_schema=False)
    for page in PAGES:
        router.include_router(page.router)
    return router
