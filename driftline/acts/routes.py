"""Routes: who says yes to a repair, how it comes to serve, and the canary beside production."""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from hashlib import blake2b
from typing import Any, Self

from sqlmodel import Session

from driftline.acts.variants import show_state
from driftline.errors import BadInput, Conflict
from driftline.moment import now_us
from driftline.store.projects import audit
from driftline.store.tables import Project, Route, Variant

APPROVALS = ("manual", "auto")


@dataclass(frozen=True, slots=True)
class Rollout:
    """The way from a passed gate to production.

    Attributes:
        shadow_items: So many of the newest stored prompts are answered by the candidate first, unseen; 0 leaves it out.
        canary_share: Share of the sessions that the canary answers; 0 leaves the canary out.
        canary_items: Answers of the canary (one a session) without a sign of harm until it becomes production.
        canary_hours: Hours it takes at least.
        canary_days: Days after which a canary that got too few answers is taken back.
    """

    shadow_items: int = 0
    canary_share: float = 0.0
    canary_items: int = 200
    canary_hours: float = 0.0
    canary_days: float = 7.0

    def __post_init__(self) -> None:
        numbers = asdict(self)
        for name, value in numbers.items():
            if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value) or value < 0:
                raise BadInput(f"`{name}` of a roll-out must be a number from 0; got {value!r}.")
        if self.canary_share > 0.5:
            raise BadInput(f"A canary answers at most half of the sessions; got the share {self.canary_share}.")
        if self.canary_share and not (self.canary_items >= 1 and self.canary_days > self.canary_hours / 24):
            raise BadInput("A canary needs at least one answer, and more days at most than hours at least.")

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> Self:
        """The roll-out that a row holds; what it leaves out is as by default.

        Raises:
            BadInput: A value or name that cannot be used.
        """
        known = {field.name for field in fields(cls)}
        unknown = sorted(set(stored) - known)
        if unknown:
            raise BadInput(f"A roll-out has no {unknown[0]!r}; it has {', '.join(sorted(known))}.")
        return cls(**stored)


def rollout_of(route: Route) -> Rollout:
    """How repairs of this route come to serve."""
    return Rollout.from_json(route.rollout)


def approval_of(session: Session, route: Route) -> str:
    """Who says yes to repairs of this route: `manual` or `auto`, the project's word where the route has none."""
    return route.approval or session.get_one(Project, route.project_id).approval


def assigned(route: str, canary: str | None, share: float, key: str | None) -> bool:
    """Whether a session or user belongs to the canary; the SDK computes the same (`driftline_sdk.routes`).

    The same key always gets the same answer for a canary, and stays in it when its share grows. Without a key nobody
    belongs to it: whoever cannot be recognized would be tossed to and fro.

    >>> [assigned("qa", "new", share, "session-1") for share in (0.0, 1.0)]
    [False, True]
    """
    if canary is None or key is None or share <= 0.0:
        return False
    digest = blake2b(f"{route}\n{canary}\n{key}".encode("utf-8", "replace"), digest_size=8).digest()
    return int.from_bytes(digest, "big") / 2.0**64 < share


def set_policy(
    session: Session, route: Route, actor: str, *, approval: str | None = None, **rollout: float | None
) -> None:
    """Changes what is given of a route's policy. `approval` may be "project", to follow the project again.

    Raises:
        BadInput: A value that cannot be used.
    """
    session.refresh(route, with_for_update=True)
    if approval is not None:
        route.approval = None if approval == "project" else _checked(approval)
    given = {name: value for name, value in rollout.items() if value is not None}
    known = {field.name for field in fields(Rollout)}
    unknown = sorted(set(given) - known)
    if unknown:
        raise BadInput(f"A roll-out has no {unknown[0]!r}; it has {', '.join(sorted(known))}.")
    route.rollout = asdict(replace(rollout_of(route), **given))  # type: ignore[arg-type]
    route.updated_at = now_us()
    session.add(route)
    detail = {"approval": approval_of(session, route), **route.rollout}
    audit(session, route.project_id, actor, "route.policy_set", f"route:{route.name}", detail)


def set_project_approval(session: Session, project: Project, approval: str, actor: str) -> None:
    """Who says yes to repairs where a route has no word of its own.

    Raises:
        BadInput: Neither manual nor auto.
    """
    project.approval = _checked(approval)
    session.add(project)
    audit(session, project.id, actor, "project.policy_set", f"project:{project.id}", {"approval": approval})


def _checked(approval: str) -> str:
    if approval not in APPROVALS:
        raise BadInput(f"Repairs are approved by {' or '.join(APPROVALS)}; got {approval!r}.")
    return approval


def start_canary(session: Session, route: Route, variant: Variant, share: float, actor: str, reason: str) -> None:
    """Lets the variant answer a share of the route's sessions beside production.

    Raises:
        Conflict: The route has another canary, or no production to stand beside.
    """
    session.refresh(route, with_for_update=True)
    if route.canary_variant_id not in (None, variant.id):
        raise Conflict(f"The route {route.name} has a canary already. End it first.")
    if route.production_variant_id in (None, variant.id):
        raise Conflict(f"The route {route.name} has no other production variant that a canary could stand beside.")
    route.canary_variant_id, route.canary_share = variant.id, share
    _changed(session, route)
    show_state(session, variant.id)
    detail = {"variant_id": variant.id, "variant": variant.name, "share": share, "reason": reason}
    audit(session, route.project_id, actor, "route.canary_started", f"route:{route.name}", detail)


def end_canary(session: Session, route: Route, variant_id: int, actor: str, reason: str) -> bool:
    """Takes a canary off the route; False when it is not (any more) the route's canary."""
    session.refresh(route, with_for_update=True)
    if route.canary_variant_id != variant_id:
        return False
    route.canary_variant_id, route.canary_share = None, 0.0
    _changed(session, route)
    show_state(session, variant_id)
    audit(session, route.project_id, actor, "route.canary_ended", f"route:{route.name}",
          {"variant_id": variant_id, "reason": reason})  # fmt: skip
    return True


def _changed(session: Session, route: Route) -> None:
    route.version, route.updated_at = route.version + 1, now_us()
    session.add(route)
    session.flush()
