"""POST /{list}/{id}/{act}: the buttons of the pages, one route for every row of `ACTS`."""

from typing import Any

from fastapi import APIRouter
from pydantic import Field

from dashboard.acts import ACTS, Act, carry_out
from dashboard.api.caller import Doer
from dashboard.api.failing import ApiRoute, Wish
from dashboard.api.shapes import shape, shaped
from driftline.store.engine import reading
from driftline.store.projects import Caller


class Reason(Wish):
    """Why; it is written into the audit."""

    reason: str = Field("", max_length=2000)


def routes() -> APIRouter:
    """All acts on one row."""
    router = APIRouter(tags=["acts"], route_class=ApiRoute)
    for act in ACTS:
        _add(router, act)
    return router


def _add(router: APIRouter, act: Act) -> None:
    def perform(row_id: int, caller: Doer) -> Any:
        return _answer(act, row_id, caller, {})

    def perform_with_reason(row_id: int, caller: Doer, why: Reason | None = None) -> Any:
        return _answer(act, row_id, caller, {"reason": why.reason if why else ""})

    router.post(
        f"/{act.of}/{{row_id}}/{act.verb}",
        response_model=shape(act.table),
        summary=f"{act.verb.capitalize()} one of {act.of}",
        description="Who did it is written into the audit. 409 when the state has moved on.",
    )(perform_with_reason if act.takes_reason else perform)


def _answer(act: Act, row_id: int, caller: Caller, given: dict[str, str]) -> dict[str, Any]:
    row = carry_out(act, row_id, caller, given)
    with reading() as session:
        return shaped(session, act.table, [row])[0]
