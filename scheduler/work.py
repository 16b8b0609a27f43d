"""Doing one job: claim the row, keep its lease alive, run, and write how it ended.

A task may be delivered twice, late or never, and a worker may die at any point; the row decides. Whoever claims it
works, and whatever a handler commits must be safe to find half done on the next attempt.
"""

import importlib
import logging
import os
import socket
import threading
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from sqlalchemy import and_, or_
from sqlalchemy.exc import OperationalError
from sqlmodel import Session, col

from driftline.errors import DriftlineError, StoreUnavailable
from driftline.moment import SECOND, now_us
from driftline.queue import send_after_commit
from driftline.settings import settings
from driftline.store.claims import claim
from driftline.store.engine import explain_failure, writing
from driftline.store.tables import Job
from scheduler.tasks import TASKS, Task

log = logging.getLogger("driftline.work")
LONGEST_PAUSE_S = 300.0
MOST_SURPRISES = (
    3  # attempts of a job that ends in an error nobody named: probably a defect, which repeating does not mend
)


@dataclass(frozen=True, slots=True)
class Later:
    """What a handler returns to be called again: not a failure, so attempts are counted anew from here."""

    delay_s: float = 0.0
    note: str | None = None


class LostJob(Exception):
    """The row is no longer ours: cancelled, or taken over after our lease ran out. What was not committed is void."""


class TryAgain(Exception):
    """The far side cannot now; the attempt counts, and the next one comes after `delay_s`."""

    def __init__(self, reason: str, delay_s: float | None = None) -> None:
        super().__init__(reason)
        self.delay_s = delay_s


class Work:
    """A claimed job in the hands of its handler."""

    def __init__(self, job: Job, worker: str) -> None:
        self.job_id = job.id
        self.kind = job.kind
        self.args: dict[str, Any] = job.args
        self.project_id = job.project_id
        self.attempt = job.attempt
        self.last_attempt = job.attempt >= job.max_attempts
        self._worker = worker
        self._lost = threading.Event()
        self._done = threading.Event()

    @property
    def project(self) -> int:
        """The project the job works for; every job that handles a project's rows has one."""
        assert self.project_id is not None, self.kind
        return self.project_id

    def progress(self, done: int, total: int, note: str | None = None) -> None:
        """Shows how far the job is, and renews its lease.

        Raises:
            LostJob: The job was cancelled or taken over.
        """
        with writing() as session:
            self.mark(session, done, total, note)

    def mark(self, session: Session, done: int, total: int, note: str | None = None) -> None:
        """As `progress`, in a transaction that writes what was done.

        Raises:
            LostJob: The job was cancelled or taken over, so the caller's transaction must not commit.
        """
        self.hold(session)
        claim(session, Job, Job.id == self.job_id, progress_done=done, progress_total=total, note=note)

    def hold(self, session: Session) -> None:
        """Call inside a transaction that writes results: it commits only if the job is still ours.

        Raises:
            LostJob: It is not, so the caller's transaction must not commit.
        """
        if self._lost.is_set() or not claim(session, Job, *self._ours(), lease_until=_lease_end()):
            self._lost.set()
            raise LostJob(f"job {self.job_id} was cancelled or taken over")

    def _ours(self) -> tuple[Any, ...]:
        return Job.id == self.job_id, Job.state == "running", Job.worker == self._worker, Job.attempt == self.attempt

    def _keep_alive(self) -> None:
        pause = settings().lease_s / 3
        while not self._done.wait(pause):
            try:
                with writing() as session:
                    self.hold(session)
            except LostJob:
                return
            except OperationalError as error:
                log.warning("Job %s could not renew its lease: %s", self.job_id, error.orig)

    def __enter__(self) -> "Work":
        threading.Thread(target=self._keep_alive, name=f"lease of job {self.job_id}", daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()


def _lease_end() -> int:
    return now_us() + int(settings().lease_s * SECOND)


def this_worker() -> str:
    """The name of this process among all workers; each child of a pool has its own."""
    return f"{socket.gethostname()}:{os.getpid()}"


def claim_job(job_id: int, worker: str | None = None) -> Work | None:
    """The job, claimed for this worker; None when it is not due, is done, or somebody else has it."""
    now, worker = now_us(), worker or this_worker()
    free = or_(col(Job.state) == "queued", and_(col(Job.state) == "running", col(Job.lease_until) < now))
    with writing() as session:
        taken = claim(
            session, Job, Job.id == job_id, free, Job.due_at <= now,
            state="running", worker=worker, lease_until=_lease_end(), attempt=Job.attempt + 1, started_at=now,
        )  # fmt: skip
        if not taken:
            return None
        job = session.get_one(Job, job_id, populate_existing=True)
        work, died = Work(job, worker), job.error or ""
    if job.attempt <= job.max_attempts:
        return work
    _end(work, error=f"Its workers died or failed {job.max_attempts} times. {died}".strip())
    return None


def run_job(job_id: int) -> str | None:
    """Claims and runs a job; returns the state it was left in, None when there was nothing to do for this worker."""
    try:
        work = claim_job(job_id)
    except OperationalError as error:
        log.warning("Job %s cannot be claimed now: %s", job_id, error.orig)
        return None  # the sweeper sends it again
    if work is None:
        return None
    with work:
        try:
            outcome = resolve(_task(work.kind).run)(work)
        except LostJob as lost:
            log.info("%s", lost)
            return "lost"
        except TryAgain as error:
            return _retry(work, str(error), error.delay_s)
        except StoreUnavailable as error:
            return _retry(work, error.message, None)
        except OperationalError as error:
            return _retry(work, explain_failure(error).message, None)
        except DriftlineError as error:
            return _end(work, error=error.message)
        except Exception:
            log.exception("Job %s (%s) failed", work.job_id, work.kind)
            if work.attempt >= MOST_SURPRISES:
                return _end(work, error=traceback.format_exc(limit=20))
            return _retry(work, traceback.format_exc(limit=20), None)
    if isinstance(outcome, Later):
        return _requeue(work, outcome)
    return _end(work, result=outcome)


def _requeue(work: Work, later: Later) -> str:
    with writing() as session:
        due = now_us() + int(later.delay_s * SECOND)
        mine = claim(
            session, Job, *work._ours(), state="queued", due_at=due, attempt=0, sent_at=now_us(),
            lease_until=None, worker=None, **({"note": later.note} if later.note else {}),
        )  # fmt: skip
        if mine and later.delay_s <= 0:
            send_after_commit(session, session.get_one(Job, work.job_id, populate_existing=True))
    return "queued" if mine else "lost"


def _retry(work: Work, reason: str, delay_s: float | None) -> str:
    if work.last_attempt:
        return _end(work, error=reason)
    pause = delay_s if delay_s is not None else min(LONGEST_PAUSE_S, 2.0**work.attempt)
    with writing() as session:
        due = now_us() + int(pause * SECOND)
        mine = claim(
            session, Job, *work._ours(), state="queued", due_at=due, sent_at=now_us(), error=reason, lease_until=None,
            worker=None,
        )  # fmt: skip
    return "queued" if mine else "lost"


def _end(work: Work, *, result: dict[str, Any] | None = None, error: str | None = None) -> str:
    try:
        return _write_end(work, result, error)
    except OperationalError:
        raise
    except Exception:
        if error is None:
            raise
        log.exception("What follows the failure of job %s (%s) could not be done", work.job_id, work.kind)
        more = f"{error}\nWhat follows it could not be done either:\n{traceback.format_exc(limit=5)}"
        return _write_end(work, None, more, alone=True)


def _write_end(work: Work, result: dict[str, Any] | None, error: str | None, alone: bool = False) -> str:
    """Writes how the job ended and, unless `alone`, what follows a failure of its kind; in one transaction."""
    with writing() as session:
        job = session.get_one(Job, work.job_id)
        if not claim(session, Job, *work._ours(), worker=None, lease_until=None):
            return "lost"
        session.refresh(job)
        if error is not None:
            log.error("Job %s (%s) failed for good: %s", job.id, job.kind, error)
            job.state, job.error, job.finished_at, job.dedup_key = "failed", error, now_us(), None
            session.add(job)
            task = TASKS.get(job.kind)
            if task is not None and task.failed is not None and not alone:
                resolve(task.failed)(session, job.args, error)
            return "failed"
        if _task(work.kind).routine:
            session.delete(job)
            return "done"
        job.state, job.result, job.finished_at, job.dedup_key, job.error = "done", result, now_us(), None, None
        session.add(job)
    return "done"


def _task(kind: str) -> Task:
    if kind not in TASKS:
        raise DriftlineError(f"This version of Driftline knows no job {kind}.")
    return TASKS[kind]


@lru_cache(maxsize=64)
def resolve(path: str) -> Callable[..., Any]:
    """The function behind "module:function"."""
    module, _, name = path.partition(":")
    function: Callable[..., Any] = getattr(importlib.import_module(module), name)
    return function
