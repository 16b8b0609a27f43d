"""The life of alerts: acknowledging, resolving, silencing; and one door to their rules and channels."""

from typing import Any

from sqlmodel import Session, col, or_, select

from driftline.acts.channels import add_channel, find_channel, test_channel
from driftline.acts.matching import check_matchers
from driftline.acts.rules import OCCASIONS, add_rule, find_rule
from driftline.acts.schedules import read_cron
from driftline.acts.telling import tell
from driftline.errors import BadInput, Conflict
from driftline.moment import SECOND, iso, now_us
from driftline.store.claims import claim
from driftline.store.projects import audit
from driftline.store.tables import Alert, AlertPart, Inhibition, Silence

__all__ = ["OCCASIONS", "acknowledge", "add_channel", "add_rule", "end_part", "end_silence", "find_channel",
           "find_rule", "inhibit", "resolve", "silence", "test_channel"]  # fmt: skip

ACTOR = "driftline"
HELD_STILL_S = 3600.0  # how long an alert that keeps coming back must be well before it is resolved
LONGEST_WINDOW_S = 86_400.0


def acknowledge(session: Session, alert: Alert, actor: str) -> None:
    """Says that somebody looks into it; reminders and escalations end.

    Raises:
        Conflict: It does not fire (any more).
    """
    _move(session, alert, ("firing",), state="acknowledged", acknowledged_at=now_us(), acknowledged_by=actor,
          next_at=None)  # fmt: skip
    audit(session, alert.project_id, actor, "alert.acknowledged", f"alert:{alert.id}", {})
    tell(session, alert, "acknowledged")


def resolve(session: Session, alert: Alert, actor: str, certificate: dict[str, Any] | None = None) -> None:
    """Ends the incident and all its parts; the same happening later opens a new alert.

    Raises:
        Conflict: It is resolved already.
    """
    now = now_us()
    _move(
        session, alert, ("firing", "acknowledged"), state="resolved", resolved_at=now, resolved_by=actor,
        dedup_key=f"{alert.dedup_key}#{alert.id}", next_at=None, certificate=certificate or alert.certificate,
    )  # fmt: skip
    parts = select(AlertPart).where(AlertPart.alert_id == alert.id, col(AlertPart.ended_at).is_(None))
    for part in session.exec(parts).all():
        part.ended_at = now
        session.add(part)
    audit(session, alert.project_id, actor, "alert.resolved", f"alert:{alert.id}", certificate or {})
    tell(session, alert, "resolved")


def end_part(
    session: Session, project_id: int, key: str, actor: str, certificate: dict[str, Any] | None = None
) -> list[Alert]:
    """One thing is over: resolves the alerts of which nothing else stands; gives these.

    An alert that keeps coming back is resolved by its own accord only after it has held still for an hour.
    """
    now, ended = now_us(), []
    of_key = select(AlertPart.alert_id).where(AlertPart.key == key, col(AlertPart.ended_at).is_(None))
    event = int(key.partition(":")[2]) if key.startswith("drift_event:") else None
    mine = col(Alert.id).in_(of_key) if event is None else or_(col(Alert.id).in_(of_key), Alert.drift_event_id == event)
    standing = select(Alert).where(Alert.project_id == project_id, Alert.state != "resolved", mine)
    for alert in session.exec(standing).all():
        others = 0
        for part in session.exec(select(AlertPart).where(AlertPart.alert_id == alert.id)).all():
            if part.key == key:
                part.ended_at = part.ended_at or now
                session.add(part)
            others += part.ended_at is None
        if others:
            continue
        if alert.flapping and actor == ACTOR:
            alert.next_at = now + int(HELD_STILL_S * SECOND)
            alert.certificate = certificate
            session.add(alert)
            continue
        resolve(session, alert, actor, certificate)
        ended.append(alert)
    return ended


def _move(session: Session, alert: Alert, from_states: tuple[str, ...], **values: Any) -> None:
    session.flush()
    if not claim(session, Alert, Alert.id == alert.id, col(Alert.state).in_(from_states), **values):
        session.refresh(alert)
        raise Conflict(f"Alert {alert.id} is {alert.state} already.")
    session.refresh(alert)


def silence(
    session: Session, project_id: int, matchers: dict[str, str], until_us: int, actor: str, comment: str = "", *,
    since_us: int | None = None, cron: str | None = None, lasts_s: float | None = None, timezone: str = "UTC",
) -> Silence:  # fmt: skip
    """Mutes the alerts that carry all these labels, from a moment (now) until another.

    With a cron line and `lasts_s` it is a maintenance window: it mutes for so long from each moment of the line.

    Raises:
        BadInput: No matchers, a moment that has passed, or a window that cannot be read.
    """
    if not matchers:
        raise BadInput(
            "A silence needs at least one label to match, e.g. route=default; an empty one would mute everything."
        )
    check_matchers(matchers)
    now = now_us()
    if until_us <= now:
        raise BadInput(f"A silence ends in the future; {iso(until_us)} has passed.")
    if since_us is not None and since_us >= until_us:
        raise BadInput("A silence begins before it ends.")
    if (cron is None) != (lasts_s is None):
        raise BadInput("A maintenance window has both a cron line and the seconds it lasts.")
    if cron is not None and lasts_s is not None:
        read_window(cron, lasts_s, timezone)
    row = Silence(
        project_id=project_id, matchers=matchers, since=now if since_us is None else since_us, until=until_us,
        cron=cron, lasts_s=lasts_s, timezone=timezone, created_by=actor, comment=comment, created_at=now,
    )  # fmt: skip
    session.add(row)
    session.flush()
    window = {"cron": cron, "lasts_s": lasts_s} if cron else {}
    audit(
        session, project_id, actor, "silence.created", f"silence:{row.id}",
        {"matchers": matchers, "until": until_us, **window},
    )  # fmt: skip
    return row


def read_window(cron: str, lasts_s: float, timezone: str) -> None:
    """Refuses a maintenance window that cannot be read."""
    from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

    read_cron(cron)
    if not 60 <= lasts_s <= LONGEST_WINDOW_S:
        raise BadInput(f"A maintenance window lasts between a minute and a day; got {lasts_s} seconds.")
    try:
        ZoneInfo(timezone)
    except (ZoneInfoNotFoundError, ValueError):
        raise BadInput(f"There is no time zone {timezone!r}. Use an IANA name such as Europe/Berlin.") from None


def inhibit(
    session: Session, project_id: int, name: str, source: dict[str, str], target: dict[str, str], equal: list[str],
    actor: str,
) -> Inhibition:  # fmt: skip
    """Lets alerts that match `source` speak for those that match `target` and share the labels `equal`.

    Raises:
        BadInput: Either side matches everything, or holds what cannot be read.
    """
    if not source or not target:
        raise BadInput("Both sides of an inhibition need at least one label to match.")
    check_matchers(source)
    check_matchers(target)
    row = session.exec(select(Inhibition).where(Inhibition.project_id == project_id, Inhibition.name == name)).first()
    row = row or Inhibition(project_id=project_id, name=name, created_at=now_us())
    row.source, row.target, row.equal = source, target, equal
    session.add(row)
    session.flush()
    audit(session, project_id, actor, "inhibition.set", f"inhibition:{row.id}", {"source": source, "target": target})
    return row


def end_silence(session: Session, row: Silence, actor: str) -> None:
    """Ends a silence now; what it muted and still fires is told.

    Raises:
        Conflict: It has ended already.
    """
    now = now_us()
    if row.until <= now:
        raise Conflict(f"Silence {row.id} ended at {iso(row.until)} already.")
    row.until = now
    session.add(row)
    audit(session, row.project_id, actor, "silence.ended", f"silence:{row.id}", {})
