"""From something that happened to somebody being told: alerts by rule, one per incident, into the outbox."""

import hashlib
from collections.abc import Sequence
from typing import Any

from sqlmodel import Session, col, func, select

from driftline.acts.alerts import ACTOR, HELD_STILL_S
from driftline.acts.matching import matches
from driftline.acts.telling import ask_flush, tell
from driftline.moment import SECOND, now_us
from driftline.queue import request
from driftline.store.tables import Alert, AlertPart, AlertRule, Channel, DriftEvent, Monitor, Notification, Variant

PATIENCE_S = 20.0  # a drift alert waits this long for its explanation, then goes out without
MOST_RETURNS = 2  # an alert that was over by itself so often within an hour is flapping when it comes again
LONGEST_KEY = 180


def open_incident(session: Session, monitor: Monitor, event: DriftEvent) -> None:
    """Raises the alerts of a drift event and asks for its explanation; neither depends on the other."""
    variant = session.get(Variant, event.variant_id) if event.variant_id else None
    labels = {"monitor": monitor.name, "signal": monitor.signal, "route": monitor.route}
    if variant is not None:
        labels["variant"] = variant.name
    body = {
        "summary": f"{monitor.signal.capitalize()} of route {monitor.route} has drifted.", "route": monitor.route,
        "variant": variant.name if variant else None, "detected_at": event.detected_at,
    }  # fmt: skip
    raise_alerts(
        session, event.project_id, "drift", f"drift:{monitor.id}", f"{monitor.signal} drift on route {monitor.route}",
        labels, body, wait_s=PATIENCE_S, part=f"drift_event:{event.id}", drift_event_id=event.id,
    )  # fmt: skip
    for kind in ("event.explain", "event.report"):
        request(
            session, kind, "drift", {"event_id": event.id}, project_id=event.project_id,
            subject=f"drift_event:{event.id}", dedup_key=f"{kind}:{event.id}",
        )  # fmt: skip


def raise_alerts(
    session: Session, project_id: int, on: str, key: str, title: str, labels: dict[str, str], body: dict[str, Any], *,
    wait_s: float = 0.0, waited: bool = False, part: str | None = None,
    drift_event_id: int | None = None, comparison_id: int | None = None,
    rules: Sequence[AlertRule] | None = None,
) -> list[Alert]:  # fmt: skip
    """One alert per matching rule and incident, told after `wait_s` or the rule's own wait.

    What belongs to an incident that stands already joins it: the same `key`, or, where the rule groups, the same
    values of its labels. Gives the alerts that are new.

    Args:
        part: Names what happened, so that its end can be told from that of other parts; `key` unless given.
        waited: The rule's wait is over, because whoever calls has watched it hold for so long.
        rules: These alone; the project's rules on the occasion unless given.
    """
    labels, raised = {"on": on, **labels}, []
    if rules is None:
        rules = session.exec(select(AlertRule).where(AlertRule.project_id == project_id, AlertRule.on == on)).all()
    for rule in rules:
        if not rule.enabled or not matches(labels, rule.matchers):
            continue
        dedup_key = _key(rule, key, labels)
        standing = session.exec(
            select(Alert).where(Alert.project_id == project_id, Alert.dedup_key == dedup_key)
        ).first()
        if standing is not None:
            _join(session, standing, part or key, title, labels)
            continue
        now = now_us()
        alert = Alert(
            project_id=project_id, rule_id=rule.id, dedup_key=dedup_key, severity=rule.severity, title=title,
            labels=labels, body=body, fired_at=now, drift_event_id=drift_event_id, comparison_id=comparison_id,
            flapping=_returns(session, project_id, dedup_key) >= MOST_RETURNS, next_at=first_look(rule, now),
        )  # fmt: skip
        session.add(alert)
        session.flush()
        session.add(AlertPart(alert_id=alert.id, key=part or key, title=title, labels=labels, at=now))
        tell(session, alert, "fired", wait_s=wait_s if waited else max(wait_s, rule.for_s))
        raised.append(alert)
    return raised


def _key(rule: AlertRule, key: str, labels: dict[str, str]) -> str:
    if rule.group_by:
        key = "|".join(f"{name}={labels.get(name, '')}" for name in rule.group_by)
    if len(key) > LONGEST_KEY:
        key = key[:100] + hashlib.sha256(key.encode()).hexdigest()
    return f"{key}:{rule.id}"


def _join(session: Session, alert: Alert, part: str, title: str, labels: dict[str, str]) -> None:
    known = session.exec(select(AlertPart).where(AlertPart.alert_id == alert.id, AlertPart.key == part)).first()
    if known is None:
        session.add(AlertPart(alert_id=alert.id, key=part, title=title, labels=labels, at=now_us()))
        session.flush()
        parts = session.exec(select(func.count()).select_from(AlertPart).where(AlertPart.alert_id == alert.id)).one()
        alert.body = alert.body | {"facts": {**(alert.body.get("facts") or {}), f"Also ({parts - 1})": title}}
        if not alert.flapping:
            tell(session, alert, f"joined:{parts}", wait_s=PATIENCE_S)
    elif known.ended_at is not None:  # it was well in between, and the alert still stands for another of its parts
        known.ended_at = None
        session.add(known)
    if alert.flapping:
        alert.next_at = None  # not still any more
    session.add(alert)


def _returns(session: Session, project_id: int, dedup_key: str) -> int:
    ended = select(func.count()).select_from(Alert).where(
        Alert.project_id == project_id, col(Alert.dedup_key).startswith(f"{dedup_key}#", autoescape=True),
        Alert.resolved_by == ACTOR, col(Alert.fired_at) > now_us() - int(HELD_STILL_S * SECOND),
    )  # fmt: skip
    return session.exec(ended).one()


def first_look(rule: AlertRule, fired_at: int) -> int | None:
    """When a new alert of the rule is due for a reminder or an escalation, whichever comes first."""
    waits = [*([rule.renotify_s] if rule.renotify_s else []), *(step["after_s"] for step in rule.escalation[:1])]
    return fired_at + int((rule.for_s + min(waits)) * SECOND) if waits else None


def enrich(session: Session, event: DriftEvent, title: str, body: dict[str, Any], labels: dict[str, str]) -> None:
    """Puts an explanation into the event's alerts and lets those that waited for it go out now."""
    now = now_us()
    for alert in session.exec(select(Alert).where(Alert.drift_event_id == event.id)).all():
        alert.title, alert.body, alert.labels = title, alert.body | body, alert.labels | labels
        session.add(alert)
        rule = session.get_one(AlertRule, alert.rule_id)
        due = max(now, alert.fired_at + int(rule.for_s * SECOND))
        waiting = select(Notification).where(
            Notification.alert_id == alert.id, Notification.state == "queued", col(Notification.due_at) > due,
            col(Notification.lead_id).is_(None),
        )  # fmt: skip
        for row in session.exec(waiting).all():
            row.due_at = due
            session.add(row)
            ask_flush(session, session.get_one(Channel, row.channel_id), due)
    for part in session.exec(select(AlertPart).where(AlertPart.key == f"drift_event:{event.id}")).all():
        part.title, part.labels = title, part.labels | labels
        session.add(part)
