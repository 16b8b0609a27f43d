"""What the pages' forms post to. Each acts in one transaction, then goes back to the page it came from."""

from typing import Annotated
from urllib.parse import urlsplit

from fastapi import APIRouter, Form
from starlette.requests import Request
from starlette.responses import Response

from dashboard.acts import ACTS, Act, carry_out, find_row
from dashboard.formats import path
from dashboard.pages.failing import PageRoute
from dashboard.pages.login import own_path
from dashboard.views import Operator, done
from driftline.acts import alerts, variants
from driftline.errors import BadInput
from driftline.moment import HOUR, now_us
from driftline.store.engine import writing
from driftline.store.tables import Alert

router = APIRouter(route_class=PageRoute)
Field = Annotated[str, Form()]


def _back(request: Request, otherwise: str = "/") -> str:
    """Where the click came from; the guard has made sure that it came from here."""
    referer = urlsplit(request.headers.get("referer", ""))
    return own_path(referer.path + (f"?{referer.query}" if referer.query else "")) if referer.path else otherwise


@router.post("/routes/promote")
def promote(request: Request, caller: Operator, route: Field, variant: Field, reason: Field = "") -> Response:
    """Points a route's production at a variant."""
    with writing() as session:
        row = variants.find_variant(session, caller.project_id, variant)
        variants.promote(session, caller.project_id, route, row, caller.name, reason.strip())
    return done(request, f"{variant} is production of {route} now.", path("variants", variant))


@router.post("/routes/rollback")
def rollback(request: Request, caller: Operator, route: Field, reason: Field = "") -> Response:
    """Points a route back."""
    with writing() as session:
        variants.rollback(session, caller.project_id, route, caller.name, reason.strip())
    return done(request, f"The route {route} points back at what it pointed at before.", _back(request))


@router.post("/alerts/{row_id}/silence")
def silence(request: Request, caller: Operator, row_id: int, hours: Field, comment: Field = "") -> Response:
    """Mutes alerts that carry this alert's route, signal and variant."""
    length = hours.removesuffix("h")
    if not (length.isdecimal() and len(length) < 6 and 0 < int(length) <= 24 * 366):
        raise BadInput(f"A silence lasts between one hour and a year; got {hours!r}.")
    with writing() as session:
        row: Alert = find_row(session, Alert, row_id, caller.project_id, "alert")
        matchers = {name: row.labels[name] for name in ("route", "signal", "variant") if row.labels.get(name)}
        alerts.silence(
            session, caller.project_id, matchers or dict(row.labels), now_us() + int(length) * HOUR, caller.name,
            comment.strip(),
        )  # fmt: skip
    return done(request, "Silenced.", _back(request, path("alerts", row_id)))


def _add(act: Act) -> None:
    def press(request: Request, caller: Operator, row_id: int, reason: Field = "") -> Response:
        carry_out(act, row_id, caller, {"reason": reason})
        return done(request, act.said, _back(request, "/"))

    router.post(f"/{act.of}/{{row_id}}/{act.verb}")(press)


for _act in ACTS:
    _add(_act)
