"""Finding work that nobody does: jobs whose message was lost, and jobs whose worker died."""

import os
import socket
from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import and_, func, or_, update
from sqlmodel import Session, col, select

from driftline.moment import SECOND, now_us
from driftline.queue import send_after_commit
from driftline.store.claims import claim
from driftline.store.tables import Job

RESEND_AFTER_S = 5  # a message that led to nothing in this time is sent again, then at doubling intervals
BATCH = 500


def sweep(session: Session, held: Mapping[str, int] | None = None) -> int:
    """Sends again what is due and was not claimed; returns how many messages were sent.

    Args:
        session: Sends when it commits.
        held: How many messages each queue of the broker holds (`driftline.queue.messages_held`). Where a queue has
            fewer than jobs that wait for one, the difference was lost, most likely what was sent longest ago.
    """
    release_dead(session)
    now = now_us()
    missing = _missing(session, held or {}, now)
    sent = 0
    for free, since in ((_waiting(now), Job.due_at), (_orphaned(now), Job.lease_until)):
        unheard = select(Job).where(free, _unheard(since, now)).order_by(col(Job.due_at))
        sent += _send(session, session.exec(unheard.limit(BATCH)).all(), missing, now)
    silent = _silent(now)
    for queue, lost in missing.items():
        if lost > 0:
            oldest = select(Job).where(Job.queue == queue, *silent).order_by(col(Job.sent_at), col(Job.id))
            sent += _send(session, session.exec(oldest.limit(min(lost, BATCH))).all(), {}, now)
    return sent


def any_silent(session: Session) -> bool:
    """Whether a job waits whose message may be lost: only then it matters what the broker holds."""
    return session.exec(select(Job.id).where(*_silent(now_us())).limit(1)).first() is not None


def _silent(now: int) -> tuple[Any, Any]:
    return or_(_waiting(now), _orphaned(now)), col(Job.sent_at) <= now - RESEND_AFTER_S * SECOND


def _missing(session: Session, held: Mapping[str, int], now: int) -> dict[str, int]:
    """By how many messages each queue falls short of the jobs that wait for one."""
    if not held:
        return {}
    free = or_(_waiting(now), _orphaned(now))
    due: dict[str, int] = dict(session.exec(select(Job.queue, func.count()).where(free).group_by(Job.queue)).all())
    return {queue: n - held[queue] for queue, n in due.items() if queue in held}


def _send(session: Session, jobs: Sequence[Job], missing: dict[str, int], now: int) -> int:
    """Sends the jobs that no other clock has sent meanwhile; what was sent is missing no more."""
    sent = 0
    for job in jobs:
        if claim(session, Job, Job.id == job.id, Job.sent_at == job.sent_at, sent_at=now):
            send_after_commit(session, job)
            sent += 1
            if job.queue in missing:
                missing[job.queue] -= 1
    return sent


def _waiting(now: int) -> Any:
    return and_(col(Job.state) == "queued", col(Job.due_at) <= now)


def _orphaned(now: int) -> Any:
    return and_(col(Job.state) == "running", col(Job.lease_until) < now)


def _unheard(free_since: Any, now: int) -> Any:
    """No message was sent since the job is free, or one that led to nothing.

    Doubling intervals keep a long queue from filling with copies of its own messages, where nobody says how many it
    holds.
    """
    silent_for = now - col(Job.sent_at)
    again = and_(silent_for >= RESEND_AFTER_S * SECOND, 2 * silent_for >= now - free_since)
    return or_(col(Job.sent_at).is_(None), col(Job.sent_at) < free_since, again)


def release_dead(session: Session) -> int:
    """Ends the leases of workers of this machine that are gone, so that their jobs need not wait for the time-out."""
    host = socket.gethostname()
    running = select(Job.worker).where(Job.state == "running", col(Job.worker).startswith(f"{host}:")).distinct()
    released = 0
    for worker in session.exec(running).all():
        if worker is not None and not _lives(int(worker.rsplit(":", 1)[1])):
            freed = session.connection().execute(
                update(Job)
                .where(col(Job.state) == "running", col(Job.worker) == worker, col(Job.lease_until) >= now_us())
                .values(lease_until=now_us() - 1)
            )
            released += freed.rowcount
    return released


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
