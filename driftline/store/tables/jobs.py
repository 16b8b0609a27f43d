"""Work: jobs are the truth, messages only hints; schedules say when."""

from typing import Any

from sqlalchemy import Index, UniqueConstraint
from sqlmodel import Field, SQLModel

from driftline.store.tables.columns import (
    count,
    document,
    key,
    may_document,
    may_moment,
    may_refer,
    may_text,
    moment,
    refers,
)

QUEUES = ("replay", "build", "drift", "notify")


class Job(SQLModel, table=True):
    """A piece of work. States: queued, running, done, failed, cancelled.

    Whoever sets `running` by a conditional UPDATE holds the lease until `lease_until` and renews it while working;
    after that moment anyone may take the job over. `dedup_key` allows one unfinished job of its name.
    """

    __tablename__ = "job"
    __table_args__ = (
        Index("ix_job_state_due", "state", "due_at"),
        Index("ix_job_state_lease", "state", "lease_until"),
        Index("ix_job_subject", "subject"),
    )
    id: int = key()
    project_id: int | None = may_refer("project.id")
    kind: str
    queue: str
    subject: str = ""  # what it works for: "replay:7"
    dedup_key: str | None = Field(default=None, unique=True, max_length=200)
    args: dict[str, Any] = document()
    state: str = "queued"
    attempt: int = 0
    max_attempts: int = 5
    due_at: int = moment()
    sent_at: int | None = may_moment()
    worker: str | None = None
    lease_until: int | None = may_moment()
    progress_done: int = count()
    progress_total: int = count()
    note: str | None = may_text()
    error: str | None = may_text()
    result: dict[str, Any] | None = may_document()
    created_at: int = moment()
    started_at: int | None = may_moment()
    finished_at: int | None = may_moment()


class Schedule(SQLModel, table=True):
    """When a kind of job is due: a cron line in an IANA time zone, or every so many seconds."""

    __tablename__ = "schedule"
    __table_args__ = (UniqueConstraint("project_id", "name"),)
    id: int = key()
    project_id: int = refers("project.id", index=False)
    name: str = Field(max_length=64)
    kind: str
    queue: str
    args: dict[str, Any] = document()
    cron: str | None = None
    every_s: float | None = None
    timezone: str = "UTC"
    jitter_s: float = 0.0  # up to so much later, the same for every clock
    catch_up: str = "once"  # once | skip | each: what becomes of moments that came while no clock ran
    catch_up_s: float = 3600.0  # how old a missed moment may be
    enabled: bool = True
    created_at: int = moment()
    updated_at: int = moment()


class Firing(SQLModel, table=True):
    """A moment at which a schedule came due; unique, so that it becomes one job however many clocks run."""

    __tablename__ = "firing"
    __table_args__ = (UniqueConstraint("schedule_id", "due_at"),)
    id: int = key()
    schedule_id: int = refers("schedule.id", index=False)
    due_at: int = moment()
    job_id: int | None = may_refer("job.id")


class Bookmark(SQLModel, table=True):
    """How far a reader of a stream has read, by the stream's order of arrival."""

    __tablename__ = "bookmark"
    name: str = Field(primary_key=True, max_length=200)
    position: int = count()
