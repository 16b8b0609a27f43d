"""Finding work that nobody does: jobs whose message was lost, and jobs whose worker died."""

import os
import socket
from typing import Any

from sqlalchemy import and_, or_, update
from sqlmodel import Session, col, select

from driftline.moment import SECOND, now_us
from driftline.queue import send_after_commit
from driftline.store.claims import claim
from driftline.store.tables import Job

RESEND_AFTER_S = 5  # a message that led to nothing in this time is sent again, then at doubling intervals
BATCH = 500


def sweep(session: Session) -> int:
    """Sends again what is due and was not claimed; returns how many messages were sent."""
    release_dead(session)
    now = now_us()
    waiting = select(Job).where(Job.state == "queued", Job.due_at <= now, _unheard(Job.due_at, now))
    orphaned = select(Job).where(Job.state == "running", col(Job.lease_until) < now, _unheard(Job.lease_until, now))
    sent = 0
    for query in (waiting, orphaned):
        for job in session.exec(query.order_by(col(Job.due_at)).limit(BATCH)).all():
            if claim(session, Job, Job.id == job.id, Job.sent_at == job.sent_at, sent_at=now):
                send_after_commit(session, job)
                sent += 1
    return sent


def _unheard(free_since: Any, now: int) -> Any:
    """No message was sent since the job is free, or one that led to nothing.

    Doubling intervals keep a long queue from filling with copies of its own messages.
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
                .where(col(Job.state) == "running", col(Job.worker) == worker)
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
