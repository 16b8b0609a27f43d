"""Deciding on a proposed repair: approve, reject, cancel, undo. The scheduler does the rest."""

from sqlmodel import Session, col

from driftline.acts.variants import find_route, rollback
from driftline.errors import Conflict
from driftline.moment import now_us
from driftline.queue import request
from driftline.store.claims import claim
from driftline.store.projects import audit
from driftline.store.tables import Job, Reoptimization

AT_WORK = ("approved", "building", "replaying", "gated")
ENDED = ("promoted", "rejected", "rolled_back", "expired", "failed", "cancelled")


def approve(session: Session, row: Reoptimization, actor: str) -> Job:
    """Sets the repair going: candidates are built, replayed and gated, and the best is promoted or none.

    Raises:
        Conflict: It is not waiting for a decision (any more).
    """
    move(session, row, ("proposed",), "approved", actor, decided_by=actor)
    return advance(session, row)


def reject(session: Session, row: Reoptimization, actor: str, reason: str = "") -> None:
    """Says no to a proposal.

    Raises:
        Conflict: It is not waiting for a decision (any more).
    """
    move(session, row, ("proposed",), "rejected", actor, reason, decided_by=actor, finished_at=now_us())


def cancel(session: Session, row: Reoptimization, actor: str, reason: str = "") -> None:
    """Stops a repair under way; production stays as it is.

    Raises:
        Conflict: It is not under way.
    """
    move(session, row, ("proposed", *AT_WORK), "cancelled", actor, reason, finished_at=now_us())


def undo(session: Session, row: Reoptimization, actor: str, reason: str = "") -> None:
    """Takes a promotion back: the route points at what it pointed at before.

    Raises:
        Conflict: It was not promoted, or the route has moved on since.
    """
    route = find_route(session, row.project_id, row.route)
    if row.state == "promoted" and route.production_variant_id != row.candidate_variant_id:
        raise Conflict(
            f"The route {row.route} has moved on since re-optimization {row.id} was promoted, so undoing it would undo "
            "something else. Choose what shall answer with `driftline variant promote`."
        )
    move(session, row, ("promoted",), "rolled_back", actor, reason)
    rollback(session, row.project_id, row.route, actor, reason or f"re-optimization {row.id} undone")


def advance(session: Session, row: Reoptimization) -> Job:
    """A job that takes the repair as far as it can go now; it re-queues itself while builds and replays run."""
    return request(
        session, "reoptimization.advance", "drift", {"reoptimization_id": row.id}, project_id=row.project_id,
        subject=f"reoptimization:{row.id}", dedup_key=f"reoptimize:{row.id}", max_attempts=10_000,
    )  # fmt: skip


def move(
    session: Session, row: Reoptimization, from_states: tuple[str, ...], to_state: str, actor: str, reason: str = "",
    **values: object,
) -> None:  # fmt: skip
    """One step of the state machine, taken by exactly one caller and written into the audit.

    Raises:
        Conflict: The row is in none of `from_states`.
    """
    now = now_us()
    if reason:
        values["reason"] = reason
    taken = claim(
        session, Reoptimization, Reoptimization.id == row.id, col(Reoptimization.state).in_(from_states),
        state=to_state, updated_at=now, **values,
    )  # fmt: skip
    before = row.state
    session.refresh(row)
    if not taken:
        wanted = " or ".join(from_states)
        raise Conflict(f"Re-optimization {row.id} is {row.state}; only one that is {wanted} can become {to_state}.")
    audit(
        session, row.project_id, actor, f"reoptimization.{to_state}", f"reoptimization:{row.id}",
        {"from": before, "reason": reason},
    )  # fmt: skip
