"""From a page's context to HTML: the template environment, what every page carries, live parts and notices."""

import hashlib
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any

from fastapi import Depends
from itsdangerous import BadSignature, URLSafeTimedSerializer
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup
from sqlmodel import col, func, select
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response

from dashboard import assets, identity
from dashboard.figures.marks import interval_marks, sparkline
from dashboard.formats import FILTERS, path
from driftline.moment import iso, now_us
from driftline.store.engine import reading
from driftline.store.projects import Caller
from driftline.store.secrets import installation_key
from driftline.store.tables import Alert, DriftEvent, Project, Reoptimization

Viewer = Annotated[Caller, Depends(identity.viewer)]
Operator = Annotated[Caller, Depends(identity.operator)]
Administrator = Annotated[Caller, Depends(identity.administrator)]

_NOTICE = "driftline_notice"
_NOTICE_S = 60


@lru_cache(maxsize=1)
def environment() -> Environment:
    """Jinja with everything escaped and every missing name an error."""
    made = Environment(
        loader=FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    made.filters.update(FILTERS)
    made.globals.update(asset=assets.url, path=path, marks=interval_marks, sparkline=sparkline, iso=iso)
    return made


def page(request: Request, caller: Caller, template: str, **context: Any) -> HTMLResponse:
    """A whole page."""
    notice = _read_notice(request)
    html = environment().get_template(template).render(
        who=caller, here=request.url.path, badges=_badges(caller.project_id), notice=notice, now=now_us(), **context
    )  # fmt: skip
    response = HTMLResponse(html, headers={"Cache-Control": "no-store"})
    if notice:
        response.delete_cookie(_NOTICE)
    return response


def live(url: str, every_s: float, template: str, caller: Caller, **context: Any) -> Markup:
    """A part of a page that asks anew every so often and is replaced when it has changed."""
    html = environment().get_template(template).render(who=caller, **context)
    joint = "&" if "?" in url else "?"
    return Markup(
        '<div class="live" hx-get="{}{}seen={}" hx-trigger="every {:g}s" hx-swap="outerHTML">{}</div>'
    ).format(url, joint, _digest(html), every_s, Markup(html))  # noqa: S704  Jinja has escaped it


def renewed(request: Request, part: Markup) -> Response:
    """The answer to a live part that asks: 204, which changes nothing, while it is what the page shows."""
    if f'seen={request.query_params.get("seen")}"' in part:
        return Response(status_code=204)
    return HTMLResponse(part, headers={"Cache-Control": "no-store"})


def _digest(html: str) -> str:
    return hashlib.blake2b(html.encode(), digest_size=8).hexdigest()


def done(request: Request, sentence: str, to: str) -> RedirectResponse:
    """After an act: back to the page, which then says what was done."""
    response = RedirectResponse(to, status_code=303)
    response.set_cookie(
        _NOTICE, str(_signer().dumps(sentence)), max_age=_NOTICE_S, httponly=True, samesite="lax",
        secure=identity.is_secure(request),
    )  # fmt: skip
    return response


def _read_notice(request: Request) -> str | None:
    try:
        return str(_signer().loads(request.cookies.get(_NOTICE, ""), max_age=_NOTICE_S))
    except BadSignature:
        return None


def _signer() -> URLSafeTimedSerializer:
    return URLSafeTimedSerializer(installation_key(), salt="notice")


def _badges(project_id: int) -> dict[str, Any]:
    """What the navigation counts, and the project's name."""
    waiting: dict[str, tuple[Any, Any]] = {
        "drift_events": (DriftEvent, DriftEvent.state == "open"),
        "alerts": (Alert, Alert.state == "firing"),
        "reoptimizations": (Reoptimization, col(Reoptimization.state).in_(("proposed", "ready"))),
    }
    counted: list[Any] = [
        select(func.count(col(table.id))).where(table.project_id == project_id, condition).scalar_subquery().label(name)
        for name, (table, condition) in waiting.items()
    ]
    counted.append(select(Project.name).where(Project.id == project_id).scalar_subquery().label("project"))
    with reading() as session:  # asked together, as every page asks it
        told = session.connection().execute(select(*counted)).mappings().one()
    return {**told, "project": told["project"] or ""}
