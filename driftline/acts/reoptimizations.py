"""Asking for a repair and deciding on it: approve, release, reject, cancel, undo. The scheduler does the rest."""

from typing import Any

from sqlmodel import Session, col, or_, select

from driftline.acts.routes import end_canary
from driftline.acts.variants import find_route, rollback, show_state
from driftline.errors import BadInput, Conflict, NotFound
from driftline.moment import DAY, now_us
from driftline.queue import request
from driftline.settings import settings
from driftline.store.claims import claim
from driftline.store.projects import audit
from driftline.store.tables import Job, Reoptimization

WAITING = ("proposed", "ready")  # for a person; these expire
ROLLING = ("shadow", "canary")
AT_WORK = ("approved", "building", "replaying", "gated", *ROLLING)
STANDING = ("requested", *WAITING, *AT_WORK)
ENDED = ("promoted", "rejected", "rolled_back", "expired", "failed", "cancelled")
CAUSES = ("variant", "input", "latency", "cost", "third_party")  # what a plan can answer


def ask(
    session: Session, project_id: int, route: str, actor: str, *, trigger: str = "person", cause: str = "variant",
    because: str = "", **wishes: Any,
) -> Reoptimization:  # fmt: skip
    """A re-optimization of what answers the route now; a worker plans its candidates, then it waits for a yes.

    Args:
        route: The route; its production is what shall be replaced.
        trigger: Who asks: `person` or `schedule`.
        cause: What the plan answers, one of `CAUSES`.
        because: Why, in words.
        wishes: Of the plan: `golden_version_id`, `evaluator`, `margin`, `max_candidates`, `budget_hours`.

    Raises:
        BadInput: An unknown cause.
        NotFound: The route has no production variant.
        Conflict: One stands already.
    """
    if cause not in CAUSES:
        raise BadInput(f"A plan answers one of {', '.join(CAUSES)}; got {cause!r}.")
    there = find_route(session, project_id, route)
    if there.production_variant_id is None:
        raise NotFound("production variant on route", route)
    standing = standing_of(session, project_id, there.production_variant_id)
    if standing is not None:
        raise Conflict(f"Re-optimization {standing.id} of the same variant is {standing.state}. Decide on it first.")
    now = now_us()
    plan = {"cause": cause, "because": because or f"Asked for by {actor}.", "candidates": []}
    row = Reoptimization(
        project_id=project_id, route=route, subject_variant_id=there.production_variant_id,
        baseline_variant_id=there.baseline_variant_id, state="requested", trigger=trigger,
        plan=plan | {name: value for name, value in wishes.items() if value is not None},
        created_at=now, updated_at=now,
    )  # fmt: skip
    session.add(row)
    session.flush()
    audit(session, project_id, actor, "reoptimization.requested", f"reoptimization:{row.id}", {"cause": cause})
    request(
        session, "reoptimization.plan", "drift", {"reoptimization_id": row.id}, project_id=project_id,
        subject=f"reoptimization:{row.id}", dedup_key=f"plan:{row.id}",
    )  # fmt: skip
    return row


def standing_of(session: Session, project_id: int, variant_id: int) -> Reoptimization | None:
    """The re-optimization of a variant that has not ended, None where there is none."""
    of_variant = select(Reoptimization).where(
        Reoptimization.project_id == project_id, Reoptimization.subject_variant_id == variant_id
    )
    return session.exec(of_variant.where(col(Reoptimization.state).in_(STANDING))).first()


def approve(session: Session, row: Reoptimization, actor: str, *, hold: bool = False) -> Job:
    """Sets the repair going: candidates are built, replayed and gated, and the best is rolled out, or none.

    With `hold` the best waits for `release` when it has passed, with its evidence.

    Raises:
        Conflict: It is not waiting for a decision (any more), or it has expired.
    """
    move(session, row, ("proposed",), "approved", actor, decided_by=actor, plan=row.plan | {"hold": hold},
         expires_at=None)  # fmt: skip
    return advance(session, row)


def release(session: Session, row: Reoptimization, actor: str, reason: str = "") -> Job:
    """Says yes to the candidate that passed the gate: its roll-out begins.

    Raises:
        Conflict: None waits for that (any more), or it has expired.
    """
    move(session, row, ("ready",), "gated", actor, reason, action="released", decided_by=actor,
         plan=row.plan | {"hold": False}, expires_at=None)  # fmt: skip
    return advance(session, row)


def reject(session: Session, row: Reoptimization, actor: str, reason: str = "") -> None:
    """Says no to a proposal, or to the candidate that passed.

    Raises:
        Conflict: It is not waiting for a decision (any more).
    """
    move(session, row, WAITING, "rejected", actor, reason, decided_by=actor, finished_at=now_us())


def cancel(session: Session, row: Reoptimization, actor: str, reason: str = "") -> None:
    """Stops a repair under way; production stays as it is, and a canary is taken off.

    Raises:
        Conflict: It is not under way.
    """
    end(session, row, STANDING, "cancelled", actor, reason)


def undo(session: Session, row: Reoptimization, actor: str, reason: str = "") -> None:
    """Takes a promotion or a canary back: the route points at what it pointed at before.

    Raises:
        Conflict: It was not promoted and has no canary, or the route has moved on since.
    """
    if row.state in ROLLING:
        end(session, row, ROLLING, "rolled_back", actor, reason)
        return
    route = find_route(session, row.project_id, row.route)
    if row.state == "promoted" and route.production_variant_id != row.candidate_variant_id:
        raise Conflict(
            f"The route {row.route} has moved on since re-optimization {row.id} was promoted, so undoing it would undo "
            "something else. Choose what shall answer with `driftline variant promote`."
        )
    move(session, row, ("promoted",), "rolled_back", actor, reason)
    if row.subject_variant_id != row.candidate_variant_id:
        rollback(session, row.project_id, row.route, actor, reason or f"re-optimization {row.id} undone")


def end(
    session: Session, row: Reoptimization, from_states: tuple[str, ...], to_state: str, actor: str, reason: str,
    told: dict[str, Any] | None = None,
) -> None:  # fmt: skip
    """Ends a repair before it is promoted; whatever of it serves already is taken off.

    Raises:
        Conflict: The row is in none of `from_states`.
    """
    move(session, row, from_states, to_state, actor, reason, finished_at=now_us(), told=told)
    if row.candidate_variant_id is not None:
        route = find_route(session, row.project_id, row.route)
        words = f"re-optimization {row.id} {to_state}" + (f": {reason}" if reason else "")
        if not end_canary(session, route, row.candidate_variant_id, actor, words):
            show_state(session, row.candidate_variant_id)


def advance(session: Session, row: Reoptimization) -> Job:
    """A job that takes the repair as far as it can go now; it re-queues itself while builds and replays run."""
    return request(
        session, "reoptimization.advance", "drift", {"reoptimization_id": row.id}, project_id=row.project_id,
        subject=f"reoptimization:{row.id}", dedup_key=f"reoptimize:{row.id}", max_attempts=10_000,
    )  # fmt: skip


def move(
    session: Session, row: Reoptimization, from_states: tuple[str, ...], to_state: str, actor: str, reason: str = "",
    *, action: str = "", told: dict[str, Any] | None = None, **values: object,
) -> None:  # fmt: skip
    """One step of the state machine, taken by exactly one caller and written into the audit.

    `told` is what the audit shall say beside who, from where and why; `action` its word where it is not `to_state`.

    Raises:
        Conflict: The row is in none of `from_states`, or what is decided on has expired.
    """
    now = now_us()
    if reason:
        values["reason"] = reason
    in_time = or_(to_state == "expired", col(Reoptimization.expires_at).is_(None), col(Reoptimization.expires_at) > now)
    taken = claim(
        session, Reoptimization, Reoptimization.id == row.id, col(Reoptimization.state).in_(from_states), in_time,
        state=to_state, updated_at=now, **values,
    )  # fmt: skip
    before = row.state
    session.refresh(row)
    if not taken:
        if row.state in from_states:
            raise Conflict(f"Re-optimization {row.id} waited too long for a decision and has expired.")
        wanted = " or ".join(from_states)
        raise Conflict(f"Re-optimization {row.id} is {row.state}; only one that is {wanted} can become {to_state}.")
    audit(
        session, row.project_id, actor, f"reoptimization.{action or to_state}", f"reoptimization:{row.id}",
        {"from": before, "reason": reason, **(told or {})},
    )  # fmt: skip


def expiry() -> int:
    """The moment at which a question that is asked now is withdrawn."""
    return now_us() + int(settings().decide_within_days * DAY)
