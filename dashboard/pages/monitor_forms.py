"""Forms of the monitors' pages: adding one, telling it otherwise, trying a rule on stored history."""

from typing import Annotated, Any

from fastapi import APIRouter, Form
from pydantic import BaseModel
from starlette.requests import Request
from starlette.responses import Response

from dashboard.acts import find_row
from dashboard.formats import path
from dashboard.pages.failing import PageRoute
from dashboard.views import Operator, done
from driftline.acts import monitors, trials
from driftline.errors import BadInput
from driftline.store.engine import writing
from driftline.store.tables import Monitor

router = APIRouter(route_class=PageRoute)
Field = Annotated[str, Form()]
NUMBERS = ("margin", "block_s", "min_block_items", "reference_items", "reference_s", "every_s", "items")
WHOLE = ("min_block_items", "reference_items", "items")


class Filled(BaseModel):
    """The form as it was filled in: texts, None where a field was not in it."""

    weight: str = ""
    margin: str = ""
    block_s: str = ""
    min_block_items: str = ""
    reference_items: str = ""
    reference_s: str = ""
    every_s: str = ""
    items: str = ""
    season: str | None = None
    split_by: str | None = None
    tags: str | None = None


Sent = Annotated[Filled, Form()]


@router.post("/monitors")
def add(request: Request, caller: Operator, name: Field, signal: Field, route: Field, source: Field = "") -> Response:
    """Adds a monitor and goes to its page."""
    with writing() as session:
        row = monitors.add(
            session, caller.project_id, name.strip(), signal, caller.name, route=route.strip() or "default",
            source=source.strip(),
        )  # fmt: skip
    return done(request, "It collects its reference.", path("monitors", row.id))


@router.post("/monitors/{row_id}/change")
def change(request: Request, caller: Operator, row_id: int, filled: Sent) -> Response:
    """Tells a monitor otherwise."""
    weight, params = told(filled.model_dump(exclude_none=True))
    with writing() as session:
        row: Monitor = find_row(session, Monitor, row_id, caller.project_id, "monitor")
        differs = monitors.change(session, row, caller.name, weight=weight, params=params)
        anew = row.status == "collecting"
    said = "It collects a new reference." if anew else "Its share of the budget is another now."
    return done(request, said if differs else "Nothing differs.", path("monitors", row_id))


@router.post("/monitors/{row_id}/backtest")
def backtest(request: Request, caller: Operator, row_id: int, filled: Sent) -> Response:
    """Tries what was filled in on stored history; nothing is saved."""
    weight, params = told(filled.model_dump(exclude_none=True))
    with writing() as session:
        row: Monitor = find_row(session, Monitor, row_id, caller.project_id, "monitor")
        trials.request_backtest(session, caller.project_id, {"monitor": row.name, "weight": weight, "params": params})
    return done(request, "It is being tried on stored history; nothing is saved.", path("monitors", row_id))


def told(form: dict[str, Any]) -> tuple[float | None, dict[str, Any]]:
    """Weight and parameters of a filled form.

    Raises:
        BadInput: A number that is none, or tags that are not NAME=VALUE; names the field.

    >>> told({"margin": "0.02", "tags": "kind=prime, tier=gold", "weight": "2"})
    (2.0, {'margin': 0.02, 'tags': {'kind': 'prime', 'tier': 'gold'}})
    """
    params: dict[str, Any] = {}
    for name in NUMBERS:
        text = str(form.get(name, "")).strip()
        if text:
            number = _number(name, text)
            params[name] = int(number) if name in WHOLE and number.is_integer() else number
    for name in ("season", "split_by"):
        if name in form:
            params[name] = str(form[name]).strip()
    if "tags" in form:
        params["tags"] = _tags(str(form["tags"]))
    weight = str(form.get("weight", "")).strip()
    return (_number("weight", weight) if weight else None), params


def _number(name: str, text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise BadInput(f"{name.replace('_', ' ').capitalize()} is {text!r}; it must be a number.") from None


def _tags(text: str) -> dict[str, str]:
    found = {}
    for one in filter(None, (part.strip() for part in text.split(","))):
        name, equals, value = (part.strip() for part in one.partition("="))
        if not (name and equals and value):
            raise BadInput(f"Tags are NAME=VALUE with commas between; got {one!r}.")
        found[name] = value
    return found
