"""What the project keeps, and forgetting one user."""

from typing import Any

from fastapi import APIRouter
from pydantic import BaseModel, Field

from dashboard.api.caller import Administrator, Reader
from dashboard.api.failing import ApiRoute, Wish
from dashboard.api.shapes import shape, shaped
from driftline.acts import projects
from driftline.store.engine import reading, writing
from driftline.store.tables import Job, Project


class ProjectSettings(BaseModel):
    """What of a project people set."""

    name: str
    store_text: str = Field(description="full, redacted, hashed or none: what is kept of texts that come in.")
    keep_days: int | None = Field(description="Calls older than this are forgotten; null keeps them.")


class ProjectChange(Wish):
    """What is left out stays as it is."""

    store_text: str | None = Field(None, description="full, redacted, hashed or none.")
    keep_days: int | None = Field(None, ge=0, le=projects.LONGEST_DAYS, description="0 keeps calls for ever.")


class ErasureWish(Wish):
    """Whose calls shall be deleted."""

    user_id: str = Field(min_length=1, max_length=1000, description="As the app sends it.")


def routes() -> APIRouter:
    """GET and PATCH /project, POST /erasures."""
    router = APIRouter(tags=["project"], route_class=ApiRoute)

    @router.get("/project", summary="What the project keeps")
    def show(caller: Reader) -> ProjectSettings:
        """The project's rule for texts, and how long its calls stay."""
        with reading() as session:
            return _settings(session.get_one(Project, caller.project_id))

    @router.patch("/project", summary="Change what the project keeps")
    def change(wish: ProjectChange, caller: Administrator) -> ProjectSettings:
        """Takes effect for what comes in within seconds, and for what is stored within the hour."""
        with writing() as session:
            project = session.get_one(Project, caller.project_id)
            projects.configure(
                session, project, caller.name, store_text=wish.store_text, keep_days=wish.keep_days
            )  # fmt: skip
            return _settings(project)

    @router.post("/erasures", status_code=202, response_model=shape(Job), summary="Erase a user")
    def erase(wish: ErasureWish, caller: Administrator) -> Any:
        """Deletes all calls of a user with their feedback and scores; the job is gone from the list when it is done."""
        with writing() as session:
            project = session.get_one(Project, caller.project_id)
            job = projects.request_erasure(session, project, wish.user_id, caller.name)
        with reading() as session:
            return shaped(session, Job, [job])[0]

    return router


def _settings(project: Project) -> ProjectSettings:
    return ProjectSettings(name=project.name, store_text=project.store_text, keep_days=project.keep_days)
