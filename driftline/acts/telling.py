"""Putting a happening of an alert into the outbox, in the transaction in which it happens."""

from typing import Any

from sqlmodel import Session, col, select

from driftline.acts.channels import KINDS
from driftline.moment import SECOND, now_us
from driftline.queue import request, send_after_commit
from driftline.settings import settings
from driftline.store.claims import claim
from driftline.store.tables import Alert, AlertRule, Channel, Job, Notification


def tell(
    session: Session, alert: Alert, happening: str, *, wait_s: float = 0.0, channels: list[str] | None = None
) -> list[Notification]:
    """One outbox row per channel that has none for this happening yet; they go out after `wait_s` at the earliest.

    To the channels of the alert's rule unless `channels` names others; an end also to all that were told before, an
    acknowledgement to those of them alone that keep something per alert.
    """
    now = now_us()
    told = select(Notification.channel_id).where(Notification.alert_id == alert.id)
    known = set(session.exec(told.where(Notification.happening == happening)).all())
    if happening == "acknowledged":
        keeping = [kind for kind, one in KINDS.items() if one.keeps]
        wanted: Any = col(Channel.id).in_(told) & col(Channel.kind).in_(keeping)
    else:
        named = session.get_one(AlertRule, alert.rule_id).channels if channels is None else channels
        wanted = col(Channel.name).in_(named)
        wanted = wanted | col(Channel.id).in_(told) if happening == "resolved" else wanted
    rows = []
    of_project = select(Channel).where(Channel.project_id == alert.project_id, wanted)
    for channel in session.exec(of_project.order_by(col(Channel.id))).all():
        if channel.id in known:
            continue
        row = Notification(
            alert_id=alert.id, channel_id=channel.id, happening=happening, due_at=now + int(wait_s * SECOND),
            created_at=now,
        )  # fmt: skip
        session.add(row)
        rows.append(row)
        ask_flush(session, channel, max(row.due_at, now + int(settings().group_wait_s * SECOND)))
    session.flush()
    return rows


def ask_flush(session: Session, channel: Channel, at: int) -> Job:
    """A job that sends what is due for the channel, at this moment or earlier; one at a time stands per channel."""
    job = request(
        session, "channel.flush", "notify", {"channel_id": channel.id}, project_id=channel.project_id,
        subject=f"channel:{channel.id}", dedup_key=f"flush:{channel.id}", due_at=at,
    )  # fmt: skip
    # A flush that runs already may have looked before this row: the clock asks again for what it left.
    if claim(session, Job, Job.id == job.id, Job.state == "queued", col(Job.due_at) > at, due_at=at) and at <= now_us():
        send_after_commit(session, job)
    return job
