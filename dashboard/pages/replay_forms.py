"""What the form of a golden set's page posts to: a replay now, or one by cron line, within a budget."""

from typing import Annotated, Any

from fastapi import APIRouter, Form
from pydantic import BaseModel
from starlette.requests import Request
from starlette.responses import Response

from dashboard.formats import path
from dashboard.pages.failing import PageRoute
from dashboard.views import Operator, done
from driftline.acts import golden, replays, schedules, variants
from driftline.acts.budgets import Budget, spending
from driftline.errors import BadInput
from driftline.store.engine import writing

router = APIRouter(route_class=PageRoute)


class ReplayForm(BaseModel):
    """What is replayed, beside what, and how much it may spend; an empty field is no limit."""

    variant: str
    golden_set: str
    baseline: str = ""
    margin: str = ""
    calls: str = ""
    tokens: str = ""
    usd: str = ""
    seconds: str = ""
    joules: str = ""
    early_stop: str = ""

    def plan(self) -> dict[str, Any]:
        """Margin, budget and early stop as a replay takes them.

        Raises:
            BadInput: A field that is no number.
        """
        given = {name: getattr(self, name).strip() for name in Budget.__dataclass_fields__}
        plan: dict[str, Any] = {"budget": spending([f"{name}={text}" for name, text in given.items() if text])}
        if self.margin.strip():
            plan["margin"] = _margin(self.margin)
        return plan | ({"early_stop": True} if self.early_stop else {})


class ScheduleForm(ReplayForm):
    """The same, and when."""

    name: str = ""
    cron: str = ""
    timezone: str = ""


@router.post("/replays")
def replay(request: Request, caller: Operator, form: Annotated[ReplayForm, Form()]) -> Response:
    """Asks for a replay and goes to its page."""
    with writing() as session:
        baseline = variants.find_variant(session, caller.project_id, form.baseline) if form.baseline else None
        row = replays.request_replay(
            session, caller.project_id, variants.find_variant(session, caller.project_id, form.variant),
            golden.find_version(session, caller.project_id, form.golden_set), caller.name, baseline=baseline,
            **form.plan(),
        )  # fmt: skip
    return done(request, "The replay is queued.", path("replays", row.id))


@router.post("/schedules")
def schedule(request: Request, caller: Operator, form: Annotated[ScheduleForm, Form()]) -> Response:
    """Replays the newest version of the set by a cron line."""
    wishes = {"variant": form.variant, "golden": form.golden_set.partition("@")[0], "baseline": form.baseline}
    args = {name: text for name, text in wishes.items() if text} | form.plan()
    if not form.name.strip() or not form.cron.strip():
        raise BadInput("A schedule needs a name and a cron line, such as 0 3 * * *.")
    with writing() as session:
        golden.find_version(session, caller.project_id, args["golden"])
        for asked in filter(None, (form.variant, form.baseline)):
            variants.find_variant(session, caller.project_id, asked)
        schedules.add(
            session, caller.project_id, form.name.strip(), "replay", args, caller.name, cron=form.cron.strip(),
            timezone=form.timezone.strip() or "UTC",
        )  # fmt: skip
    return done(request, f"{form.name.strip()} is scheduled.", "/jobs")


def _margin(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise BadInput(f"The margin is a number such as 0.02; got {text!r}.") from None
