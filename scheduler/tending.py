"""What alerts wait for: a reminder, the next step of an escalation, an hour of calm, the end of a silence."""

from sqlmodel import Session, col, func, select

from driftline.acts.alerts import ACTOR, resolve
from driftline.acts.telling import ask_flush, tell
from driftline.moment import SECOND, now_us
from driftline.store.tables import Alert, AlertPart, AlertRule, Channel, Notification
from scheduler.muting import muting_of


def tend(session: Session, project_id: int) -> int:
    """Does what has come due for the project's alerts; gives how many things that were."""
    return _due_alerts(session, project_id) + _tell_unmuted(session, project_id)


def _due_alerts(session: Session, project_id: int) -> int:
    now = now_us()
    due = select(Alert).where(Alert.project_id == project_id, Alert.state != "resolved", col(Alert.next_at) <= now)
    alerts = session.exec(due.limit(1000)).all()
    for alert in alerts:
        standing = (
            select(func.count())
            .select_from(AlertPart)
            .where(AlertPart.alert_id == alert.id, col(AlertPart.ended_at).is_(None))
        )
        if alert.flapping and session.exec(standing).one() == 0:
            resolve(session, alert, ACTOR)
        elif alert.state == "firing":
            _press(session, alert, now)
        else:
            alert.next_at = None
            session.add(alert)
    return len(alerts)


def _press(session: Session, alert: Alert, now: int) -> None:
    """Reminds and escalates: nobody has acknowledged it."""
    rule = session.get_one(AlertRule, alert.rule_id)
    began = alert.fired_at + int(rule.for_s * SECOND)
    steps = [began + int(step["after_s"] * SECOND) for step in rule.escalation]
    while alert.escalated < len(steps) and steps[alert.escalated] <= now:
        step = rule.escalation[alert.escalated]
        alert.escalated += 1
        tell(session, alert, f"escalated:{alert.escalated}", channels=list(step.get("channels", [])))
    pause = int((rule.renotify_s or 0) * SECOND)
    if pause and began + (alert.reminders + 1) * pause <= now:
        alert.reminders = (now - began) // pause  # what a standing clock missed is not made up for
        tell(session, alert, f"reminder:{alert.reminders}")
    following = [
        *steps[alert.escalated : alert.escalated + 1],
        *([began + (alert.reminders + 1) * pause] if pause else []),
    ]
    alert.next_at = min(following, default=None)
    session.add(alert)


def _tell_unmuted(session: Session, project_id: int) -> int:
    """Tells of alerts that still fire and that no silence and no greater alert mutes any more."""
    muted = (
        select(Notification, Alert)
        .join(Alert, col(Alert.id) == Notification.alert_id)
        .where(
            Alert.project_id == project_id, Alert.state == "firing", Notification.happening == "fired",
            col(Notification.state).in_(("silenced", "inhibited")),
        )
    )  # fmt: skip
    pairs = session.exec(muted).all()
    if not pairs:
        return 0
    muting, told = muting_of(session, project_id), 0
    for row, alert in pairs:
        if muting.state_of(alert.labels) is None:
            row.state, row.due_at, row.created_at = "queued", now_us(), now_us()
            session.add(row)
            session.flush()
            ask_flush(session, session.get_one(Channel, row.channel_id), row.due_at)
            told += 1
    return told
