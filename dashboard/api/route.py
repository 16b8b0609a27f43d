"""What an app should ask: which variant a route points at. Also promoting and rolling back by hand."""

from fastapi import APIRouter
from pydantic import BaseModel, Field
from sqlmodel import Session, col, select

from dashboard.api.caller import Doer, ProjectName, Reader
from dashboard.api.failing import ApiRoute
from driftline.acts import variants
from driftline.errors import NotFound
from driftline.moment import iso
from driftline.store.engine import reading, writing
from driftline.store.tables import Route, Variant


class RouteNow(BaseModel):
    """Where a route points. `version` grows with every change."""

    route: str
    production: str | None
    baseline: str | None = Field(description="Whom production is judged against.")
    canary: str | None
    canary_share: float
    version: int
    updated_at: str


class Promotion(BaseModel):
    """Which variant becomes production, and why."""

    variant: str
    reason: str = ""


class Rollback(BaseModel):
    """Why."""

    reason: str = ""


def routes() -> APIRouter:
    """GET /routes/{route}, POST …/promote and …/rollback."""
    router = APIRouter(tags=["routes"], route_class=ApiRoute)

    @router.post("/routes/{route:path}/promote", summary="Promote a variant")
    def promote(route: str, wish: Promotion, caller: Doer) -> RouteNow:
        """Points the route's production at the variant; what it replaces is remembered for a rollback."""
        with writing() as session:
            variant = variants.find_variant(session, caller.project_id, wish.variant)
            row = variants.promote(session, caller.project_id, route, variant, caller.name, wish.reason)
            return _now(session, row)

    @router.post("/routes/{route:path}/rollback", summary="Roll back")
    def rollback(route: str, wish: Rollback, caller: Doer) -> RouteNow:
        """Points the route back at what its production replaced last."""
        with writing() as session:
            return _now(session, variants.rollback(session, caller.project_id, route, caller.name, wish.reason))

    @router.get("/routes/{route:path}", summary="Where a route points")
    def route_now(route: str, caller: Reader, project: ProjectName = None) -> RouteNow:
        """The production variant of a route and, while one is tried, the canary and its share."""
        with reading() as session:
            of_project = select(Route).where(Route.project_id == caller.project_id)
            row = session.exec(of_project.where(Route.name == route)).first()
            if row is None:
                raise NotFound("route", route, [known.name for known in session.exec(of_project.limit(20))])
            return _now(session, row)

    return router


def _now(session: Session, row: Route) -> RouteNow:
    ids = [row.production_variant_id, row.baseline_variant_id, row.canary_variant_id]
    wanted = [key for key in ids if key is not None]
    names = dict(session.exec(select(Variant.id, Variant.name).where(col(Variant.id).in_(wanted))).all())
    production, baseline, canary = (names.get(key) if key is not None else None for key in ids)
    return RouteNow(
        route=row.name, production=production, baseline=baseline, canary=canary,
        canary_share=row.canary_share, version=row.version, updated_at=iso(row.updated_at),
    )  # fmt: skip
