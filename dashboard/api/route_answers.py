"""Answers to "which variant?", kept for a second each: apps ask before every call, routes change once a week."""

import hashlib
import time
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, Field
from sqlmodel import Session, col, select
from starlette.concurrency import run_in_threadpool

from driftline.acts.routes import approval_of, assigned, rollout_of
from driftline.errors import NotFound
from driftline.moment import iso
from driftline.store.engine import reading
from driftline.store.tables import Route, Variant

FRESH_S = 1.0
ROOM = 10_000  # answers kept at most

_answers: dict[tuple[int, str], tuple[float, "Answer"]] = {}


class RouteNow(BaseModel):
    """Where a route points. `version` grows with every change of what it points at."""

    route: str
    variant: str | None = Field(None, description="Whom the asked key belongs to; production without a key.")
    production: str | None
    baseline: str | None = Field(description="Whom production is judged against.")
    canary: str | None
    canary_share: float
    version: int
    approval: str = Field(description="Who says yes to repairs: manual or auto.")
    rollout: dict[str, float] = Field(description="How a repair comes to serve.")
    updated_at: str


@dataclass(frozen=True, slots=True)
class Answer:
    """A route as it was looked up, ready to be sent: to production's keys, and to the canary's."""

    now: RouteNow
    to_production: tuple[bytes, str]
    to_canary: tuple[bytes, str]

    def of(self, key: str | None) -> tuple[bytes, str]:
        """The body and its ETag for a session or user."""
        chosen = assigned(self.now.route, self.now.canary, self.now.canary_share, key)
        return self.to_canary if chosen else self.to_production


async def answer_of(project_id: int, route: str) -> Answer:
    """The answer for a route of a project, looked up again when it is older than a second.

    Raises:
        NotFound: No such route in the project; lists those there are.
    """
    known = _answers.get((project_id, route))
    if known is not None and time.monotonic() - known[0] < FRESH_S:
        return known[1]
    return await run_in_threadpool(_look_up, project_id, route)


def forget(project_id: int, route: str) -> None:
    """Drops what is kept of a route, because this process has just changed it."""
    _answers.pop((project_id, route), None)


def _look_up(project_id: int, route: str) -> Answer:
    asked_at = time.monotonic()
    with reading() as session:
        of_project = select(Route).where(Route.project_id == project_id)
        row = session.exec(of_project.where(Route.name == route)).first()
        if row is None:
            raise NotFound("route", route, [known.name for known in session.exec(of_project.limit(20))])
        now = now_of(session, row)
    answer = Answer(now, _sealed(now), _sealed(now.model_copy(update={"variant": now.canary})))
    if len(_answers) >= ROOM:
        _answers.clear()
    _answers[(project_id, route)] = (asked_at, answer)
    return answer


def now_of(session: Session, row: Route) -> RouteNow:
    """Where a route points now."""
    ids = [row.production_variant_id, row.baseline_variant_id, row.canary_variant_id]
    wanted = [key for key in ids if key is not None]
    names = dict(session.exec(select(Variant.id, Variant.name).where(col(Variant.id).in_(wanted))).all())
    production, baseline, canary = (names.get(key) if key is not None else None for key in ids)
    rollout = rollout_of(row)
    shown: dict[str, Any] = {name: getattr(rollout, name) for name in rollout.__slots__}
    return RouteNow(
        route=row.name, variant=production, production=production, baseline=baseline, canary=canary,
        canary_share=row.canary_share, version=row.version, approval=approval_of(session, row), rollout=shown,
        updated_at=iso(row.updated_at),
    )  # fmt: skip


def _sealed(now: RouteNow) -> tuple[bytes, str]:
    body = now.model_dump_json().encode()
    return body, f'"{hashlib.blake2b(body, digest_size=12).hexdigest()}"'
