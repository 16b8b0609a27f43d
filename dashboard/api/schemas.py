"""GET /api/schemas/alert.json: what webhooks are told of an alert, for whoever checks it. Needs no key."""

from typing import Any

from fastapi import APIRouter

from dashboard.api.failing import ApiRoute
from driftline.acts.published import alert_event_schema


def routes() -> APIRouter:
    """The published schemas."""
    router = APIRouter(tags=["schemas"], route_class=ApiRoute)

    @router.get("/schemas/alert.json", summary="JSON Schema of a webhook's alerts")
    def alert() -> dict[str, Any]:
        """The JSON Schema of `data` in the CloudEvents that webhook channels send."""
        return alert_event_schema()

    return router
