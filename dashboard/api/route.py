"""What an app should ask: which variant a route points at. Also promoting, rolling back and a route's policy."""

from typing import Any

from fastapi import APIRouter, Query
from pydantic import Field
from sqlmodel import Session
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response

from dashboard import identity
from dashboard.api.caller import Administrator, Bearer, Doer, ProjectName, check_project
from dashboard.api.failing import ApiRoute, Wish
from dashboard.api.route_answers import RouteNow, answer_of, forget, now_of
from driftline.access import identify, known_caller
from driftline.acts import routes as acts
from driftline.acts import variants
from driftline.errors import Forbidden
from driftline.store.engine import writing
from driftline.store.projects import Caller
from driftline.store.tables import Project, Route


class Promotion(Wish):
    """Which variant becomes production, and why."""

    variant: str
    reason: str = ""


class Rollback(Wish):
    """Why."""

    reason: str = ""


class Policy(Wish):
    """What of a route's policy changes; what is left out stays."""

    approval: str | None = Field(None, description="manual, auto, or project to follow the project.")
    shadow_items: int | None = Field(None, description="Real prompts a repair answers unseen first; 0: none.")
    canary_share: float | None = Field(None, description="Share of sessions a canary answers; 0: no canary.")
    canary_items: int | None = Field(None, description="Answers without harm until a canary is promoted.")
    canary_hours: float | None = Field(None, description="Hours that takes at least.")
    canary_days: float | None = Field(None, description="Days after which a canary with too few answers goes.")


class ProjectPolicy(Wish):
    """Who says yes to repairs where a route has no word of its own."""

    approval: str = Field(description="manual or auto")


def routes() -> APIRouter:
    """GET /routes/{route}, POST …/promote and …/rollback, PATCH …/policy and /policy."""
    router = APIRouter(tags=["routes"], route_class=ApiRoute)

    @router.post("/routes/{route:path}/promote", summary="Promote a variant")
    def promote(route: str, wish: Promotion, caller: Doer) -> RouteNow:
        """Points the route's production at the variant; what it replaces is remembered for a rollback."""
        with writing() as session:
            variant = variants.find_variant(session, caller.project_id, wish.variant)
            return _changed(session, variants.promote(
                session, caller.project_id, route, variant, caller.name, wish.reason
            ))  # fmt: skip

    @router.post("/routes/{route:path}/rollback", summary="Roll back")
    def rollback(route: str, wish: Rollback, caller: Doer) -> RouteNow:
        """Points the route back at what its production replaced last."""
        with writing() as session:
            return _changed(session, variants.rollback(session, caller.project_id, route, caller.name, wish.reason))

    @router.patch("/routes/{route:path}/policy", summary="Change a route's policy")
    def policy(route: str, wish: Policy, caller: Administrator) -> RouteNow:
        """Who says yes to this route's repairs, and how they come to serve."""
        with writing() as session:
            row = variants.find_route(session, caller.project_id, route)
            acts.set_policy(session, row, caller.name, **wish.model_dump())
            return _changed(session, row)

    @router.patch("/policy", summary="Change the project's policy")
    def project_policy(wish: ProjectPolicy, caller: Administrator) -> ProjectPolicy:
        """Who says yes to repairs where a route has no word of its own."""
        with writing() as session:
            project = session.get_one(Project, caller.project_id)
            acts.set_project_approval(session, project, wish.approval, caller.name)
            return ProjectPolicy(approval=project.approval)

    @router.get("/routes/{route:path}", summary="Where a route points", response_model=RouteNow)
    async def route_now(
        request: Request, route: str, _bearer: Bearer, project: ProjectName = None,
        key: str | None = Query(None, description="A session or user id; `variant` is then whom it belongs to."),
    ) -> Any:  # fmt: skip
        """The production variant of a route and, while one is tried, the canary and its share.

        A key of the scope `ingest` may ask as well. The answer carries an ETag: with `If-None-Match` it is 304 and
        empty while nothing has changed. It is at most a second old.
        """
        caller = await _asking(request)
        if project is not None:
            await run_in_threadpool(check_project, caller, project)
        answer = await answer_of(caller.project_id, route)
        body, etag = answer.of(key)
        headers = {"etag": etag, "cache-control": "private, max-age=1", "vary": "authorization, cookie"}
        if request.headers.get("if-none-match") == etag:
            return Response(status_code=304, headers=headers)
        return Response(body, headers=headers, media_type="application/json")

    return router


async def _asking(request: Request) -> Caller:
    """Who asks: an app with a key of any scope that reads or sends, or somebody signed in."""
    authorization = request.headers.get("authorization")
    if authorization is None and identity.COOKIE in request.cookies:
        return await run_in_threadpool(identity.viewer, request)
    caller = known_caller(authorization)
    if caller is None:
        caller = await run_in_threadpool(identify, authorization, None)
    if not (caller.may("read") or caller.may("ingest")):
        raise Forbidden(f"{caller.name} may neither read nor send. Make a key with `driftline key create`.")
    return caller


def _changed(session: Session, row: Route) -> RouteNow:
    forget(row.project_id, row.name)
    return now_of(session, row)
