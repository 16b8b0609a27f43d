"""Monitors and what they saw."""

from typing import Any

from sqlalchemy import BigInteger, Index, UniqueConstraint
from sqlmodel import Field, SQLModel

from driftline.store.tables.columns import count, document, key, may_document, may_moment, may_refer, moment, refers

MONITOR_STATES = ("collecting", "watching", "alarmed", "paused")


class Monitor(SQLModel, table=True):
    """A watched stream: signal × route (× variant × tags), with its detector and the detector's state.

    State `collecting` gathers the reference, `watching` judges blocks, `alarmed` waits for the event to be closed.
    """

    __tablename__ = "monitor"
    __table_args__ = (UniqueConstraint("project_id", "name"),)
    id: int = key()
    project_id: int = refers("project.id", index=False)
    name: str = Field(max_length=128)
    signal: str  # errors | empty | quality | latency | …
    source: str = ""  # for quality: the evaluator whose scores it reads
    route: str = Field(default="default", max_length=64)
    variant_id: int | None = may_refer("variant.id")
    detector: str
    params: dict[str, Any] = document()  # direction, margin, block_s, reference_items, tags, season, …
    weight: float = 1.0  # share of the project's false-alarm budget, relative to its other monitors
    status: str = "collecting"
    state: dict[str, Any] | None = may_document()  # the detector's state
    pending: dict[str, Any] = document()  # the block that is still open
    cursor: int = Field(default=0, sa_type=BigInteger)  # last seq (or score id) read
    created_at: int = moment()


class Observation(SQLModel, table=True):
    """A value that a job of ours measured for a monitor: of a probe, an anchor, a pair of answers, a captured share.

    `value` is None for what the later ones are measured against. All of one `run` arrive at one moment.
    """

    __tablename__ = "observation"
    __table_args__ = (
        UniqueConstraint("monitor_id", "run", "item"),
        Index("ix_observation_monitor_id_id", "monitor_id", "id"),
    )
    id: int = key()
    monitor_id: int = refers("monitor.id", index=False)
    run: int = count()
    item: str = Field(default="", max_length=64)
    variant_id: int | None = may_refer("variant.id")
    value: float | None = None
    detail: dict[str, Any] = document()
    created_at: int = moment()


class Reference(SQLModel, table=True):
    """The frozen window a monitor judges against."""

    __tablename__ = "reference"
    id: int = key()
    monitor_id: int = refers("monitor.id")
    content_hash: str = Field(max_length=64)
    n: int
    since: int = moment()
    until: int = moment()
    frozen: dict[str, Any] = document()
    frozen_at: int = moment()
    frozen_by: str = "rule"
    replaced_at: int | None = may_moment()


class Reading(SQLModel, table=True):
    """One evaluation of a monitor: one block."""

    __tablename__ = "reading"
    __table_args__ = (Index("ix_reading_monitor_block", "monitor_id", "block_start"),)
    id: int = key()
    monitor_id: int = refers("monitor.id", index=False)
    reference_id: int = refers("reference.id", index=False)
    block_start: int = moment()
    block_end: int = moment()
    n: int
    value: float | None = None
    statistic: float
    threshold: float
    alarmed: bool = False
    evidence: dict[str, Any] = document()  # row range, their hash, variant shares, block values
    created_at: int = moment()


class DriftEvent(SQLModel, table=True):
    """A detector crossed its line. States: open, closed."""

    __tablename__ = "drift_event"
    id: int = key()
    project_id: int = refers("project.id")
    monitor_id: int = refers("monitor.id")
    reading_id: int = refers("reading.id", index=False)
    variant_id: int | None = may_refer("variant.id")  # the variant that carried most traffic after the change
    state: str = "open"
    detected_at: int = moment()
    began_at: int | None = may_moment()
    began_low: int | None = may_moment()
    began_high: int | None = may_moment()
    items_since: int | None = None  # records between the change and its detection
    effect: dict[str, Any] = document()  # reference, current, estimate with interval, unit
    cause: str | None = None
    evidence: dict[str, Any] = document()
    report_sha256: str | None = None
    release: dict[str, Any] | None = may_document()  # the test of "back within the margin", while the event is open
    explained_at: int | None = may_moment()
    closed_at: int | None = may_moment()
