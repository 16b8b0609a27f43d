"""Telling people: rules, alerts, channels, the outbox and silences, in Alertmanager's words."""

from typing import Any

from sqlalchemy import Index, UniqueConstraint
from sqlmodel import Field, SQLModel

from driftline.store.tables.columns import (
    count,
    document,
    key,
    may_bytes,
    may_document,
    may_moment,
    may_refer,
    may_text,
    moment,
    refers,
)


class Channel(SQLModel, table=True):
    """Where notices go. The address is a secret and is stored encrypted."""

    __tablename__ = "channel"
    __table_args__ = (UniqueConstraint("project_id", "name"),)
    id: int = key()
    project_id: int = refers("project.id", index=False)
    name: str = Field(max_length=64)
    kind: str
    secret: bytes | None = may_bytes()
    failing_since: int | None = may_moment()  # the first attempt that failed since the last that did not
    last_error: str | None = may_text()
    created_at: int = moment()


class AlertRule(SQLModel, table=True):
    """Which happenings become alerts, how severe, told through which channels (names)."""

    __tablename__ = "alert_rule"
    __table_args__ = (UniqueConstraint("project_id", "name"),)
    id: int = key()
    project_id: int = refers("project.id", index=False)
    name: str = Field(max_length=64)
    on: str  # drift | comparison | error_rate | …
    severity: str = "page"
    matchers: dict[str, str] = document()
    channels: list[str] = document(list)
    condition: dict[str, Any] = document()  # what a measured rule compares with: threshold, window_s, …
    for_s: float = 0.0  # how long it must hold before anybody is told
    group_by: list[str] = document(list)  # labels that name an incident: what shares them joins one alert
    renotify_s: float | None = None  # tell again while it fires and nobody has acknowledged it
    escalation: list[dict[str, Any]] = document(list)  # [{"after_s", "channels"}]: unacknowledged for so long
    problem: str | None = may_text()  # why it cannot be evaluated
    enabled: bool = True
    created_at: int = moment()


class RuleState(SQLModel, table=True):
    """What a measured rule remembers of one of the things it watches, e.g. one route."""

    __tablename__ = "rule_state"
    __table_args__ = (UniqueConstraint("rule_id", "key"),)
    id: int = key()
    rule_id: int = refers("alert_rule.id", index=False)
    key: str = Field(max_length=200)
    state: dict[str, Any] = document()
    breached_since: int | None = may_moment()
    updated_at: int = moment()


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
    flapping: bool = False  # it keeps coming back: told once, stays until it has held still
    certificate: dict[str, Any] | None = may_document()  # the test that said it is over
    next_at: int | None = may_moment(index=True)  # when a reminder or an escalation is due
    reminders: int = 0
    escalated: int = 0
    fired_at: int = moment()
    acknowledged_at: int | None = may_moment()
    acknowledged_by: str | None = None
    resolved_at: int | None = may_moment()
    resolved_by: str | None = None


class AlertPart(SQLModel, table=True):
    """One of the things that make up an incident; the alert stands until the last of them has ended."""

    __tablename__ = "alert_part"
    __table_args__ = (UniqueConstraint("alert_id", "key"),)
    id: int = key()
    alert_id: int = refers("alert.id", index=False)
    key: str = Field(max_length=200, index=True)  # drift_event:7, comparison:3, rule:2:route=chat
    title: str
    labels: dict[str, str] = document()
    at: int = moment()
    ended_at: int | None = may_moment()


class Notification(SQLModel, table=True):
    """Outbox row: one alert's one happening to one channel.

    States: queued, sending, sent, failed, silenced, inhibited, moot (it was over before anybody was told). Rows that
    went out in one message name its first row as their lead; the lead's number is the message's idempotency key.
    """

    __tablename__ = "notification"
    __table_args__ = (
        UniqueConstraint("alert_id", "channel_id", "happening"),
        Index("ix_notification_channel_state", "channel_id", "state", "due_at"),
    )
    id: int = key()
    alert_id: int = refers("alert.id", index=False)
    channel_id: int = refers("channel.id", index=False)
    happening: str  # fired | resolved | …
    state: str = "queued"
    lead_id: int | None = may_refer("notification.id", index=True)
    attempt: int = 0
    due_at: int = moment(index=True)
    created_at: int = count()
    sent_at: int | None = may_moment()
    response: str | None = may_text()
    remote: dict[str, Any] | None = may_document()  # by what the far side finds the message again


class Silence(SQLModel, table=True):
    """Mutes alerts whose labels match, from `since` until it expires.

    A maintenance window has a cron line as well, and mutes for `lasts_s` from each of its moments.
    """

    __tablename__ = "silence"
    id: int = key()
    project_id: int = refers("project.id")
    matchers: dict[str, str] = document()
    since: int = count()
    until: int = moment()
    cron: str | None = Field(default=None, max_length=100)
    lasts_s: float | None = None
    timezone: str = Field(default="UTC", max_length=64)
    created_by: str
    comment: str = ""
    created_at: int = moment()


class Inhibition(SQLModel, table=True):
    """While an alert that matches `source` stands, those that match `target` and share the labels `equal` are mute."""

    __tablename__ = "inhibition"
    __table_args__ = (UniqueConstraint("project_id", "name"),)
    id: int = key()
    project_id: int = refers("project.id", index=False)
    name: str = Field(max_length=64)
    source: dict[str, str] = document()
    target: dict[str, str] = document()
    equal: list[str] = document(list)
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
