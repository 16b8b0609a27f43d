"""What is at work: unfinished jobs with their progress, and the processes with signs of life."""

from dataclasses import dataclass
from typing import Any

from sqlmodel import Session, col, func, select

from driftline.moment import DAY, MINUTE, SECOND, now_us
from driftline.store.tables import Job, Process

SHOWN = 8
SILENT_AFTER_US = 30 * SECOND
GONE_AFTER_US = DAY  # a process unseen for so long belongs to the past and is not listed


@dataclass(frozen=True, slots=True)
class Alive:
    """A process and whether it still shows itself: alive, restarted (lately), silent."""

    process: Process
    state: str


def running(session: Session, project_id: int, shown: int = SHOWN) -> dict[str, Any]:
    """Jobs of the project that run or wait, how many there are, and the installation's processes."""
    now = now_us()
    mine = (Job.project_id == project_id, col(Job.state).in_(["running", "queued"]))
    jobs = session.exec(
        select(Job).where(*mine).order_by(col(Job.state).desc(), col(Job.due_at), col(Job.id)).limit(shown)
    ).all()
    failing = (Job.project_id == project_id, Job.state == "failed", col(Job.finished_at) > now - DAY)
    counts: list[Any] = [select(func.count(col(Job.id))).where(*where).scalar_subquery() for where in (mine, failing)]
    total, failed = session.connection().execute(select(*counts)).one()
    processes = session.exec(
        select(Process).where(col(Process.seen_at) > now - GONE_AFTER_US).order_by(Process.host, Process.name)
    ).all()
    return {
        "jobs": jobs,
        "jobs_total": total,
        "failed": failed,
        "processes": [Alive(process, _life(process, now)) for process in processes],
    }


def _life(process: Process, now: int) -> str:
    if now - process.seen_at > SILENT_AFTER_US:
        return "silent"
    return "restarted" if process.restarts and now - process.started_at < 10 * MINUTE else "alive"
