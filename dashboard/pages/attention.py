"""What needs a person now: open drift events, firing alerts that stand alone, proposals, unfinished repairs."""

from dataclasses import dataclass
from typing import Any

from sqlmodel import Session, col, or_, select

from dashboard.lookups import variant_names
from driftline.acts.reoptimizations import AT_WORK
from driftline.store.tables import Alert, DriftEvent, Monitor, Reoptimization

SHOWN = 5


@dataclass(frozen=True, slots=True)
class Drifting:
    """An open drift event with what belongs to it."""

    event: DriftEvent
    monitor: Monitor
    variant: str | None
    alert: Alert | None


def attention(session: Session, project_id: int) -> dict[str, Any]:
    """The newest few of each, and how many more there are not shown."""
    events = session.exec(
        select(DriftEvent, Monitor)
        .join(Monitor, col(Monitor.id) == DriftEvent.monitor_id)
        .where(DriftEvent.project_id == project_id, DriftEvent.state == "open")
        .order_by(col(DriftEvent.id).desc())
        .limit(SHOWN)
    ).all()
    ids = {event.id for event, _ in events}
    of_events = select(Alert).where(col(Alert.drift_event_id).in_(ids), Alert.state != "resolved")
    alerts = {alert.drift_event_id: alert for alert in session.exec(of_events)} if ids else {}
    lone = session.exec(
        select(Alert)
        .where(Alert.project_id == project_id, Alert.state == "firing")
        .where(or_(col(Alert.drift_event_id).is_(None), col(Alert.drift_event_id).not_in(ids)))
        .order_by(col(Alert.id).desc())
        .limit(SHOWN)
    ).all()
    repairs = session.exec(
        select(Reoptimization)
        .where(Reoptimization.project_id == project_id)
        .where(col(Reoptimization.state).in_(["proposed", *AT_WORK]))
        .order_by(col(Reoptimization.id).desc())
        .limit(SHOWN)
    ).all()
    names = variant_names(
        session, {e.variant_id for e, _ in events} | {repair.subject_variant_id for repair in repairs}
    )
    return {
        "drifting": [
            Drifting(event, monitor, names.get(event.variant_id or 0), alerts.get(event.id))
            for event, monitor in events
        ],
        "lone_alerts": lone,
        "repairs": [(repair, names.get(repair.subject_variant_id)) for repair in repairs],
    }  # fmt: skip
