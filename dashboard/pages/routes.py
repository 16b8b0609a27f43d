"""Routes: what answers them, who tries, who says yes to repairs and how these come to serve."""

from typing import Annotated

from fastapi import APIRouter, Form
from sqlmodel import col, select
from starlette.requests import Request
from starlette.responses import Response

from dashboard.lookups import variant_names
from dashboard.pages.failing import PageRoute
from dashboard.views import Administrator, Operator, Viewer, done, page
from driftline.acts import reoptimizations
from driftline.acts.routes import approval_of, rollout_of, set_policy, set_project_approval
from driftline.acts.variants import find_route
from driftline.errors import BadInput
from driftline.store.engine import reading, writing
from driftline.store.tables import AuditEntry, Project, Reoptimization, Route

router = APIRouter(route_class=PageRoute)
Field = Annotated[str, Form()]


@router.get("/routes")
def every_route(request: Request, caller: Viewer) -> Response:
    """Every route of the project, with its policy and what was done to it."""
    with reading() as session:
        rows = session.exec(select(Route).where(Route.project_id == caller.project_id).order_by(Route.name)).all()
        keys = {key for row in rows
                for key in (row.production_variant_id, row.baseline_variant_id, row.canary_variant_id)}  # fmt: skip
        subjects = [f"route:{row.name}" for row in rows]
        history = session.exec(
            select(AuditEntry)
            .where(AuditEntry.project_id == caller.project_id, col(AuditEntry.subject).in_(subjects))
            .order_by(col(AuditEntry.id).desc())
            .limit(30)
        ).all()
        standing = session.exec(
            select(Reoptimization).where(
                Reoptimization.project_id == caller.project_id,
                col(Reoptimization.state).in_(reoptimizations.STANDING),
            )
        ).all()
        context = {
            "rows": rows, "names": variant_names(session, keys), "history": history,
            "rollouts": {row.id: rollout_of(row) for row in rows},
            "approvals": {row.id: approval_of(session, row) for row in rows},
            "approval": session.get_one(Project, caller.project_id).approval,
            "standing": {row.route: row for row in standing}, "causes": reoptimizations.CAUSES,
        }  # fmt: skip
    return page(request, caller, "routes.html", **context)


@router.post("/routes/policy")
def policy(
    request: Request, caller: Administrator, route: Field, approval: Field, shadow_items: Field = "0",
    canary_percent: Field = "0", canary_items: Field = "200", canary_hours: Field = "0",
) -> Response:  # fmt: skip
    """Sets who says yes to a route's repairs, and how they come to serve."""
    given = {
        "shadow_items": int(_number(shadow_items)), "canary_share": _number(canary_percent) / 100,
        "canary_items": int(_number(canary_items)), "canary_hours": _number(canary_hours),
    }  # fmt: skip
    with writing() as session:
        set_policy(session, find_route(session, caller.project_id, route), caller.name, approval=approval, **given)
    return done(request, f"The policy of {route} is set.", "/routes")


@router.post("/policy")
def project_policy(request: Request, caller: Administrator, approval: Field) -> Response:
    """Sets who says yes where a route has no word of its own."""
    with writing() as session:
        set_project_approval(session, session.get_one(Project, caller.project_id), approval, caller.name)
    return done(request, "The project's policy is set.", "/routes")


@router.post("/reoptimizations")
def ask(request: Request, caller: Operator, route: Field, cause: Field = "variant", because: Field = "") -> Response:
    """Asks for a repair of what answers a route."""
    with writing() as session:
        row = reoptimizations.ask(session, caller.project_id, route, caller.name, cause=cause, because=because.strip())
    return done(request, "A worker plans the repair.", f"/reoptimizations/{row.id}")


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise BadInput(f"{text!r} is no number.") from None
