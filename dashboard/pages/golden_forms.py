"""Forms of a golden set's page: measuring its coverage, drafting items from traffic, and adding what people chose."""

import json
from typing import Annotated

from fastapi import APIRouter, Form
from sqlmodel import Session
from starlette.requests import Request
from starlette.responses import Response

from dashboard.formats import path
from dashboard.pages.failing import PageRoute
from dashboard.views import Operator, done, page
from driftline.acts import coverage, golden, golden_changes
from driftline.acts.golden import Item
from driftline.errors import BadInput, NotFound
from driftline.moment import DAY, now_us
from driftline.store.engine import reading, writing
from driftline.store.tables import GoldenSet, GoldenVersion

router = APIRouter(route_class=PageRoute)
Field = Annotated[str, Form()]
Fields = Annotated[list[str], Form()]
MOST = 50  # calls that are shown for choice at once


@router.post("/golden-versions/{version_id}/coverage")
def measure(request: Request, caller: Operator, version_id: int, route: Field = "", days: Field = "7") -> Response:
    """Asks which share of traffic the version does not cover."""
    with writing() as session:
        name, version = _of(session, caller.project_id, version_id)
        length = _number(days, "days", 366.0)
        coverage.request_coverage(session, caller.project_id, version, route=route.strip(), days=length)
    return done(request, "It is being compared with traffic; reload in a moment.", _page_of(name, version))


@router.get("/golden-versions/{version_id}/drafts")
def drafts(request: Request, caller: Operator, version_id: int, per_group: int = 3) -> Response:
    """Drafts from uncovered traffic, redacted, as a file for people to complete."""
    if not 1 <= per_group <= 5:
        raise BadInput(f"A group gives one to five drafts; got {per_group}.")
    with reading() as session:
        name, version = _of(session, caller.project_id, version_id)
        found = coverage.find_coverage(session, version, name)
        items = golden_changes.proposed(session, caller.project_id, request.app.state.redact, found.groups, per_group)
    lines = [json.dumps(item, ensure_ascii=False) + "\n" for item in golden_changes.exported(items)]
    told = {"content-disposition": 'attachment; filename="drafts.jsonl"'}
    return Response("".join(lines), media_type="application/x-ndjson", headers=told)


@router.get("/golden-versions/{version_id}/from-traffic")
def choose(
    request: Request, caller: Operator, version_id: int, route: str = "", days: str = "7", limit: str = "20",
    expect_answers: str = "",
) -> Response:  # fmt: skip
    """Some production calls as they would become items, redacted, for people to choose from."""
    since = now_us() - int(_number(days, "days", 366.0) * DAY)
    most = int(_number(limit, "calls", MOST))
    with reading() as session:
        name, version = _of(session, caller.project_id, version_id)
        ids = golden_changes.sample_of(session, caller.project_id, route=route.strip(), since=since, limit=most)
        redact, known = request.app.state.redact, golden_changes.questions_of(session, version)
        shown: dict[str, tuple[str, Item, bool]] = {}  # each question once
        for key in ids:
            item = golden_changes.from_traffic(
                session, caller.project_id, redact, ids=[key], expect_answers=bool(expect_answers)
            )[0]
            question = golden_changes.question_of(item)
            shown.setdefault(question, (key, item, question in known))
    return page(
        request, caller, "golden_from_traffic.html", name=name, version=version, shown=list(shown.values()),
        expect_answers=bool(expect_answers), route=route, days=days,
    )  # fmt: skip


@router.post("/golden-versions/{version_id}/add")
def add(
    request: Request, caller: Operator, version_id: int, generation: Fields = [], expect_answers: Field = "",  # noqa: B006
    confirmed: Field = "",
) -> Response:  # fmt: skip
    """A new version of the set with the calls that were chosen."""
    if not generation or not confirmed:
        raise BadInput("Nothing was added: choose the calls, and confirm that their redacted texts may be kept.")
    if len(generation) > MOST:
        raise BadInput(f"At most {MOST} calls are added at once; got {len(generation)}.")
    with writing() as session:
        name, _ = _of(session, caller.project_id, version_id)
        items = golden_changes.from_traffic(
            session, caller.project_id, request.app.state.redact, ids=generation, expect_answers=bool(expect_answers)
        )
        version, known = golden_changes.add_items(
            session, caller.project_id, name, items, caller.name, "production traffic"
        )
    said = f"{len(items) - known} added" + (f", {known} known already" if known else "") + "."
    return done(request, said, _page_of(name, version))


def _of(session: Session, project_id: int, version_id: int) -> tuple[str, GoldenVersion]:
    version = session.get(GoldenVersion, version_id)
    owner = session.get(GoldenSet, version.golden_set_id) if version is not None else None
    if version is None or owner is None or owner.project_id != project_id:
        raise NotFound("golden version", version_id)
    return owner.name, golden.find_version(session, project_id, owner.name, version.number)


def _page_of(name: str, version: GoldenVersion) -> str:
    return f"{path('golden-sets', name)}?version={version.number}"


def _number(text: str, what: str, most: float) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0.0 < value <= most:
        raise BadInput(f"Say how many {what}: a number above 0, at most {most:g}; got {text!r}.")
    return value
