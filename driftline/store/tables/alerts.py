"""Telling people: rules, alerts, channels, the outbox and silences, in Alertmanager's words."""

from typing import Any

from sqlalchemy import UniqueConstraint
from sqlmodel import Field, SQLModel

from driftline.store.tables.columns import document, key, may_bytes, may_moment, may_refer, may_text, moment, refers


class Channel(SQLModel, table=True):
    """Where notices go. The address is a secret and is stored encrypted."""

    __tablename__ = "channel"
    __table_args__ = (UniqueConstraint("project_id", "name"),)
    id: int = key()
    project_id: int = refers("project.id", index=False)
    name: str = Field(max_length=64)
    kind: str
    secret: bytes | None = may_bytes()
    created_at: int = moment()


class AlertRule(SQLModel, table=True):
    """Which happenings become alerts, how severe, told through which channels (names)."""

    __tablename__ = "alert_rule"
    __table_args__ = (UniqueConstraint("project_id", "name"),)
    id: int = key()
    project_id: int = refers("project.id", index=False)
    name: str = Field(max_length=64)
    on: str  # drift | comparison | benefit
    severity: str = "page"
    matchers: dict[str, str] = document()
    channels: list[str] = document(list)
    enabled: bool = True
    created_at: int = moment()


class Alert(SQLModel, table=True):
    """One incident. `dedup_key` is unique among those not resolved; a resolved one gets its id appended."""

    __tablename__ = "alert"
    __table_args__ = (UniqueConstraint("project_id", "dedup_key"),)
    id: int = key()
    project_id: int = refers("project.id", index=False)
    rule_id: int = refers("alert_rule.id", index=False)
    dedup_key: str = Field(max_length=200)
    state: str = "firing"  # firing | acknowledged | resolved
    severity: str
    title: str
    labels: dict[str, str] = document()
    body: dict[str, Any] = document()
    drift_event_id: int | None = may_refer("drift_event.id", index=True)
    comparison_id: int | None = may_refer("comparison.id")
    fired_at: int = moment()
    acknowledged_at: int | None = may_moment()
    acknowledged_by: str | None = None
    resolved_at: int | None = may_moment()
    resolved_by: str | None = None


class Notification(SQLModel, table=True):
    """Outbox row: one alert's one happening to one channel. States: queued, sending, sent, failed, silenced."""

    __tablename__ = "notification"
    __table_args__ = (UniqueConstraint("alert_id", "channel_id", "happening"),)
    id: int = key()
    alert_id: int = refers("alert.id", index=False)
    channel_id: int = refers("channel.id", index=False)
    happening: str  # fired | resolved | …
    state: str = "queued"
    attempt: int = 0
    due_at: int = moment(index=True)
    sent_at: int | None = may_moment()
    response: str | None = may_text()


class Silence(SQLModel, table=True):
    """Mutes alerts whose labels match, until it expires."""

    __tablename__ = "silence"
    id: int = key()
    project_id: int = refers("project.id")
    matchers: dict[str, str] = document()
    until: int = moment()
    created_by: str
    comment: str = ""
    created_at: int = moment()


class Reoptimization(SQLModel, table=True):
    """The way back: a repair, proposed with its evidence, built, proved and promoted, or not.

    States: requested, proposed, approved, building, replaying, gated, shadow, canary, promoted; and the other ends:
    rejected, rolled_back, expired, failed, cancelled.
    """

    __tablename__ = "reoptimization"
    id: int = key()
    project_id: int = refers("project.id")
    route: str = Field(default="default", max_length=64)
    drift_event_id: int | None = may_refer("drift_event.id", index=True)
    subject_variant_id: int = refers("variant.id", index=False)  # what shall be replaced
    baseline_variant_id: int | None = may_refer("variant.id")
    candidate_variant_id: int | None = may_refer("variant.id")
    state: str = "proposed"
    plan: dict[str, Any] = document()  # why, candidates (specs), golden version, margin, evaluator
    evidence: dict[str, Any] = document()
    decided_by: str | None = None
    reason: str | None = may_text()
    trigger: str = Field(default="drift", max_length=16)  # drift | person | schedule
    expires_at: int | None = may_moment()  # when a question that nobody answers is withdrawn
    bundle_sha256: str | None = Field(default=None, max_length=64)  # the evidence, an Artifact
    created_at: int = moment()
    updated_at: int = moment()
    finished_at: int | None = may_moment()
