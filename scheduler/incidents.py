"""From something that happened to somebody being told: alerts by rule, one per incident, into the outbox."""

from typing import Any

from sqlmodel import Session, col, select

from driftline.moment import SECOND, now_us
from driftline.queue import request
from driftline.store.tables import Alert, AlertRule, DriftEvent, Job, Monitor, Variant

PATIENCE_S = 20.0  # a drift alert waits this long for its explanation, then goes out without


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
        labels, body, wait_s=PATIENCE_S, drift_event_id=event.id,
    )  # fmt: skip
    for kind in ("event.explain", "event.report"):
        request(
            session, kind, "drift", {"event_id": event.id}, project_id=event.project_id,
            subject=f"drift_event:{event.id}", dedup_key=f"{kind}:{event.id}",
        )  # fmt: skip


def raise_alerts(
    session: Session, project_id: int, on: str, key: str, title: str, labels: dict[str, str], body: dict[str, Any], *,
    wait_s: float = 0.0, drift_event_id: int | None = None, comparison_id: int | None = None,
) -> list[Alert]:  # fmt: skip
    """One alert per matching rule, unless one for the same thing stands already; told after `wait_s`."""
    raised = []
    for rule in session.exec(select(AlertRule).where(AlertRule.project_id == project_id, AlertRule.on == on)):
        if not rule.enabled or any(labels.get(name) != wanted for name, wanted in rule.matchers.items()):
            continue
        dedup_key = f"{key}:{rule.id}"
        standing = select(Alert).where(Alert.project_id == project_id, Alert.dedup_key == dedup_key)
        if session.exec(standing).first() is not None:
            continue
        now = now_us()
        alert = Alert(
            project_id=project_id, rule_id=rule.id, dedup_key=dedup_key, severity=rule.severity, title=title,
            labels=labels, body=body, fired_at=now, drift_event_id=drift_event_id, comparison_id=comparison_id,
        )  # fmt: skip
        session.add(alert)
        session.flush()
        request(
            session, "alert.notify", "notify", {"alert_id": alert.id, "happening": "fired"}, project_id=project_id,
            subject=f"alert:{alert.id}", dedup_key=f"notify:{alert.id}:fired", due_at=now + int(wait_s * SECOND),
        )  # fmt: skip
        raised.append(alert)
    return raised


def enrich(session: Session, event: DriftEvent, title: str, body: dict[str, Any], labels: dict[str, str]) -> None:
    """Puts an explanation into the event's alerts and lets those that waited for it go out now."""
    for alert in session.exec(select(Alert).where(Alert.drift_event_id == event.id)).all():
        alert.title, alert.body, alert.labels = title, alert.body | body, alert.labels | labels
        session.add(alert)
        waiting = select(Job).where(Job.dedup_key == f"notify:{alert.id}:fired", col(Job.state) == "queued")
        job = session.exec(waiting).first()
        if job is not None:
            job.due_at = now_us()
            session.add(job)
