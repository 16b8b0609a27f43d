"""The outbox: one row per alert, channel and happening; sent at least once, with a key by which repeats are dropped."""

import json
import random
from typing import Any

from sqlmodel import Session, col, select

from driftline.errors import DriftlineError
from driftline.moment import iso, now_us
from driftline.queue import request
from driftline.settings import settings
from driftline.store.claims import claim
from driftline.store.engine import reading, writing
from driftline.store.secrets import unseal
from driftline.store.tables import Alert, AlertRule, Channel, Notification, Silence
from scheduler.channels import CHANNELS, Notice
from scheduler.channels.sending import post
from scheduler.work import TryAgain, Work, resolve

LONGEST_PAUSE_S = 600.0


def notify(work: Work) -> dict[str, Any]:
    """Puts args["happening"] of args["alert_id"] into the outbox of every channel of its rule, unless silenced."""
    happening = str(work.args["happening"])
    with writing() as session:
        work.hold(session)
        alert = session.get_one(Alert, work.args["alert_id"])
        rule = session.get_one(AlertRule, alert.rule_id)
        muted = silenced(session, alert)
        rows = 0
        for channel in _channels(session, rule):
            known = select(Notification.id).where(
                Notification.alert_id == alert.id,
                Notification.channel_id == channel.id,
                Notification.happening == happening,
            )
            if session.exec(known).first() is not None:
                continue
            row = Notification(
                alert_id=alert.id, channel_id=channel.id, happening=happening, due_at=now_us(),
                state="silenced" if muted else "queued",
            )  # fmt: skip
            session.add(row)
            session.flush()
            rows += 1
            if not muted:
                request(
                    session, "notification.send", "notify", {"notification_id": row.id}, project_id=alert.project_id,
                    subject=f"alert:{alert.id}", dedup_key=f"send:{row.id}", max_attempts=12,
                )  # fmt: skip
    return {"notifications": rows, "silenced": muted}


def silenced(session: Session, alert: Alert) -> bool:
    """Whether a silence that has not expired matches the alert's labels."""
    standing = select(Silence).where(Silence.project_id == alert.project_id, Silence.until > now_us())
    return any(
        all(alert.labels.get(name) == wanted for name, wanted in silence.matchers.items())
        for silence in session.exec(standing)
    )


def deliver(work: Work) -> dict[str, Any]:
    """Sends args["notification_id"]; a crash between sending and writing it down sends it again with the same key."""
    with reading() as session:
        row = session.get_one(Notification, work.args["notification_id"])
        alert = session.get_one(Alert, row.alert_id)
        channel = session.get_one(Channel, row.channel_id)
    if row.state in ("sent", "silenced"):
        return {"state": row.state}
    _write(work, row, state="sending", attempt=work.attempt)
    try:
        said = _send(channel, notice_of(alert, row.happening), f"notification-{row.id}")
    except TryAgain as error:
        pause = error.delay_s or min(LONGEST_PAUSE_S, 2.0**work.attempt) * random.uniform(0.5, 1.0)
        _write(work, row, state="queued", response=str(error))
        raise TryAgain(str(error), pause) from None
    _write(work, row, state="sent", sent_at=now_us(), response=said)
    return {"state": "sent", "answer": said}


def test(work: Work) -> dict[str, Any]:
    """Sends a test notice through args["channel_id"]."""
    with reading() as session:
        channel = session.get_one(Channel, work.args["channel_id"])
    notice = Notice(
        "test", "info", "Driftline reaches you here",
        f"{work.args['actor']} asked for this test of the channel {channel.name}.", settings().base_url,
    )  # fmt: skip
    return {"answer": _send(channel, notice, f"test-{work.job_id}")}


def failed(session: Session, args: dict[str, Any], reason: str) -> None:
    """Shows on the notification that it could not be delivered."""
    claim(
        session, Notification, Notification.id == args["notification_id"], col(Notification.state) != "sent",
        state="failed", response=reason,
    )  # fmt: skip


def notice_of(alert: Alert, happening: str) -> Notice:
    """What people are told of an alert."""
    body = alert.body
    began = body.get("began_at")
    facts = {
        "Variant": str(body.get("variant") or ""),
        "Route": str(body.get("route") or ""),
        "Began": iso(began) if isinstance(began, int) else "",
        "Cause": str(body.get("cause") or ""),
        "Effect": str(body.get("effect_text") or ""),
        "Records since": str(body.get("items_since") or ""),
    }
    title = alert.title if happening == "fired" else f"Resolved: {alert.title}"
    link = f"{settings().base_url}/alerts/{alert.id}"
    return Notice(happening, alert.severity, title, str(body.get("summary", "")), link, facts, alert.labels, body)


def _channels(session: Session, rule: AlertRule) -> list[Channel]:
    of_rule = select(Channel).where(Channel.project_id == rule.project_id, col(Channel.name).in_(rule.channels))
    return list(session.exec(of_rule.order_by(col(Channel.id))))


def _send(channel: Channel, notice: Notice, key: str) -> str:
    if channel.secret is None:
        raise DriftlineError(f"The channel {channel.name} has no address. Set it with `driftline alert channel`.")
    compose = resolve(CHANNELS[channel.kind])
    return post(compose(notice, json.loads(unseal(channel.secret)), key))


def _write(work: Work, row: Notification, **values: Any) -> None:
    with writing() as session:
        work.hold(session)
        claim(session, Notification, Notification.id == row.id, **values)
