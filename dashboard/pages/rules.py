"""Alert rules: try one on stored history, then save it."""

import re
from typing import Annotated, Any

from fastapi import APIRouter, Form
from markupsafe import Markup
from sqlmodel import select
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from dashboard.acts import find_row
from dashboard.formats import path
from dashboard.pages.failing import PageRoute
from dashboard.views import Operator, Viewer, done, live, page, renewed
from driftline.acts import rules
from driftline.acts.matching import read_matchers, write_matcher
from driftline.errors import BadInput
from driftline.store.engine import reading, writing
from driftline.store.projects import Caller
from driftline.store.tables import AlertRule, Channel, Job

router = APIRouter(route_class=PageRoute)
Field = Annotated[str, Form()]
UNITS = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86_400}
DAYS = 30.0


@router.get("/rules")
def listed(request: Request, caller: Viewer) -> Response:
    """All rules, and the form for a new one."""
    return _page(request, caller, {"on": "error_rate", "condition": "threshold=0.05"})


@router.post("/rules/preview")
def preview(
    request: Request, caller: Operator, on: Field, condition: Field = "", matchers: Field = "", lasting: Field = "",
    group_by: Field = "",
) -> Response:  # fmt: skip
    """Asks what the rule would have done, and goes to the answer."""
    given = {"on": on, "condition": condition, "matchers": matchers, "lasting": lasting, "group_by": group_by}
    with writing() as session:
        job = rules.request_preview(session, caller.project_id, _wish(given), DAYS)
        job.args = job.args | {"given": given}
        session.add(job)
    return RedirectResponse(path("rules", "preview", job.id), status_code=303)


@router.get("/rules/preview/{job_id}")
def previewed(request: Request, caller: Viewer, job_id: int) -> Response:
    """The answer as soon as it is there, and the form to save the rule or try another."""
    job = _job(job_id, caller)
    return _page(request, caller, job.args.get("given", {}), _answer(job, caller))


@router.get("/parts/rules/preview/{job_id}")
def preview_part(request: Request, caller: Viewer, job_id: int) -> Response:
    """What moves of it."""
    return renewed(request, _answer(_job(job_id, caller), caller))


@router.post("/rules")
def save(
    request: Request, caller: Operator, name: Field, on: Field, channels: Annotated[list[str] | None, Form()] = None,
    condition: Field = "", matchers: Field = "", lasting: Field = "", group_by: Field = "", severity: Field = "page",
) -> Response:  # fmt: skip
    """Saves the rule."""
    given = {"on": on, "condition": condition, "matchers": matchers, "lasting": lasting, "group_by": group_by}
    with writing() as session:
        rules.add_rule(
            session, caller.project_id, name.strip(), actor=caller.name, channels=channels or [], severity=severity,
            **_wish(given),
        )  # fmt: skip
    return done(request, f"The rule {name.strip()} is saved.", "/rules")


def _page(request: Request, caller: Caller, given: dict[str, str], answer: Markup | None = None) -> Response:
    with reading() as session:
        rows = session.exec(
            select(AlertRule).where(AlertRule.project_id == caller.project_id).order_by(AlertRule.name)
        ).all()
        channels = session.exec(
            select(Channel.name).where(Channel.project_id == caller.project_id).order_by(Channel.name)
        ).all()
    shown = {row.id: ", ".join(write_matcher(*pair) for pair in sorted(row.matchers.items())) for row in rows}
    return page(
        request, caller, "rules.html", rules=rows, matchers=shown, channels=channels, occasions=rules.OCCASIONS,
        severities=rules.SEVERITIES, given=given, answer=answer,
    )  # fmt: skip


def _job(job_id: int, caller: Caller) -> Job:
    with reading() as session:
        job: Job = find_row(session, Job, job_id, caller.project_id, "preview")
    return job


def _answer(job: Job, caller: Caller) -> Markup:
    return live(path("parts", "rules", "preview", job.id), 1, "parts/rule_preview.html", caller, job=job)


def _wish(given: dict[str, str]) -> dict[str, Any]:
    """What the form's texts say, as `add_rule` takes it."""
    condition = {}
    for text in filter(None, re.split(r"[\s,]+", given["condition"])):
        field, _, value = text.partition("=")
        try:
            condition[field] = float(value)
        except ValueError:
            raise BadInput(f"{text!r} is no number of a condition; write e.g. threshold=0.05.") from None
    return {
        "on": given["on"], "condition": condition, "for_s": _seconds(given["lasting"]),
        "matchers": read_matchers(text for text in re.split(r"[\s,]+", given["matchers"]) if text),
        "group_by": [label for label in re.split(r"[\s,]+", given["group_by"]) if label],
    }  # fmt: skip


def _seconds(text: str) -> float:
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)?\s*([smhd]?)\s*", text)
    if match is None:
        raise BadInput(f"{text!r} is no length of time; write e.g. 90s, 15m, 2h or 1d.")
    return float(match[1] or 0) * UNITS[match[2]]
