"""Acknowledging, resolving and silencing alerts; rules and channels."""

import json
from typing import Any
from urllib.parse import urlsplit

from sqlmodel import Session, col, select

from driftline.errors import BadInput, Conflict, NotFound
from driftline.moment import iso, now_us
from driftline.queue import request
from driftline.store.claims import claim
from driftline.store.projects import audit
from driftline.store.secrets import seal
from driftline.store.tables import Alert, AlertRule, Channel, Job, Silence

CHANNEL_KINDS = {"slack": ("url",), "webhook": ("url", "secret")}  # kind → the fields of its secret
OCCASIONS = ("drift", "comparison", "benefit")


def acknowledge(session: Session, alert: Alert, actor: str) -> None:
    """Says that somebody looks into it.

    Raises:
        Conflict: It does not fire (any more).
    """
    _move(session, alert, ("firing",), state="acknowledged", acknowledged_at=now_us(), acknowledged_by=actor)
    audit(session, alert.project_id, actor, "alert.acknowledged", f"alert:{alert.id}", {})


def resolve(session: Session, alert: Alert, actor: str) -> None:
    """Ends the incident; the same happening later opens a new alert.

    Raises:
        Conflict: It is resolved already.
    """
    _move(
        session, alert, ("firing", "acknowledged"), state="resolved", resolved_at=now_us(), resolved_by=actor,
        dedup_key=f"{alert.dedup_key}#{alert.id}",
    )  # fmt: skip
    audit(session, alert.project_id, actor, "alert.resolved", f"alert:{alert.id}", {})
    request(
        session, "alert.notify", "notify", {"alert_id": alert.id, "happening": "resolved"},
        project_id=alert.project_id, subject=f"alert:{alert.id}", dedup_key=f"notify:{alert.id}:resolved",
    )  # fmt: skip


def _move(session: Session, alert: Alert, from_states: tuple[str, ...], **values: Any) -> None:
    if not claim(session, Alert, Alert.id == alert.id, col(Alert.state).in_(from_states), **values):
        session.refresh(alert)
        raise Conflict(f"Alert {alert.id} is {alert.state} already.")
    session.refresh(alert)


def silence(
    session: Session, project_id: int, matchers: dict[str, str], until_us: int, actor: str, comment: str = ""
) -> Silence:
    """Mutes the alerts that carry all these labels, until the moment.

    Raises:
        BadInput: No matchers, or a moment that has passed.
    """
    if not matchers:
        raise BadInput(
            "A silence needs at least one label to match, e.g. route=default; an empty one would mute everything."
        )
    if until_us <= now_us():
        raise BadInput(f"A silence ends in the future; {iso(until_us)} has passed.")
    row = Silence(
        project_id=project_id, matchers=matchers, until=until_us, created_by=actor, comment=comment, created_at=now_us()
    )
    session.add(row)
    session.flush()
    audit(session, project_id, actor, "silence.created", f"silence:{row.id}", {"matchers": matchers, "until": until_us})
    return row


def add_channel(
    session: Session, project_id: int, name: str, kind: str, address: dict[str, str], actor: str
) -> Channel:
    """A channel; its address is encrypted and never shown again. An address given anew replaces the old one.

    Raises:
        BadInput: An unknown kind, or an address without its fields.
    """
    if kind not in CHANNEL_KINDS:
        raise BadInput(f"There is no channel kind {kind!r}. Known: {', '.join(CHANNEL_KINDS)}.")
    wanted = CHANNEL_KINDS[kind]
    if not _is_web_address(address.get("url", "")) or set(address) - set(wanted):
        raise BadInput(f"A {kind} channel has {' and '.join(wanted)}; `url` starts with https:// or http://.")
    row = session.exec(select(Channel).where(Channel.project_id == project_id, Channel.name == name)).first()
    row = row or Channel(project_id=project_id, name=name, kind=kind, created_at=now_us())
    row.kind, row.secret = kind, seal(json.dumps(address))
    session.add(row)
    session.flush()
    audit(session, project_id, actor, "channel.set", f"channel:{row.id}", {"name": name, "kind": kind})
    return row


def _is_web_address(url: str) -> bool:
    try:
        parts = urlsplit(url)
        return parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port or 1) > 0
    except ValueError:  # a port that is none, a bracket that stays open
        return False


def add_rule(
    session: Session, project_id: int, name: str, on: str, actor: str, *,
    channels: list[str], severity: str = "page", matchers: dict[str, str] | None = None,
) -> AlertRule:  # fmt: skip
    """Which happenings become alerts and where they are told; the same name again replaces the rule.

    Raises:
        BadInput: An unknown occasion.
        NotFound: A channel that does not exist.
    """
    if on not in OCCASIONS:
        raise BadInput(f"An alert rule is on one of {', '.join(OCCASIONS)}; got {on!r}.")
    known = session.exec(select(Channel.name).where(Channel.project_id == project_id)).all()
    for channel in channels:
        if channel not in known:
            raise NotFound("channel", channel, known)
    row = session.exec(select(AlertRule).where(AlertRule.project_id == project_id, AlertRule.name == name)).first()
    row = row or AlertRule(project_id=project_id, name=name, on=on, created_at=now_us())
    row.on, row.channels, row.severity, row.matchers = on, channels, severity, matchers or {}
    session.add(row)
    session.flush()
    audit(session, project_id, actor, "rule.set", f"rule:{row.id}", {"name": name, "on": on, "channels": channels})
    return row


def test_channel(session: Session, channel: Channel, actor: str) -> Job:
    """A job that sends a test notice through the channel."""
    audit(session, channel.project_id, actor, "channel.tested", f"channel:{channel.id}", {})
    return request(
        session, "channel.test", "notify", {"channel_id": channel.id, "actor": actor},
        project_id=channel.project_id, subject=f"channel:{channel.id}", max_attempts=1,
    )  # fmt: skip
