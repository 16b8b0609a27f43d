"""Alerts: what fires, who looks into it, who was told, and what is muted."""

from fastapi import APIRouter
from sqlmodel import Session, col, func, select
from starlette.requests import Request
from starlette.responses import Response

from dashboard.acts import find_row
from dashboard.pages.failing import PageRoute
from dashboard.views import Viewer, page
from driftline.acts.matching import matches
from driftline.moment import now_us
from driftline.store.engine import reading
from driftline.store.tables import Alert, AlertPart, AlertRule, AuditEntry, Channel, Notification, Silence

router = APIRouter(route_class=PageRoute)
STATES = ("firing", "acknowledged", "resolved")
SHOWN = 50
SILENCES = {"1h": "1 hour", "8h": "8 hours", "24h": "1 day", "168h": "1 week"}


@router.get("/alerts")
def alerts(request: Request, caller: Viewer, state: str | None = None) -> Response:
    """Alerts of one state, the newest first; of those that still stand where no state is asked for."""
    chosen = state if state in STATES else None
    mine = Alert.project_id == caller.project_id
    with reading() as session:
        query = select(Alert).where(mine)
        query = query.where(Alert.state == chosen) if chosen else query.where(Alert.state != "resolved")
        rows = session.exec(query.order_by(col(Alert.state).desc(), col(Alert.id).desc()).limit(SHOWN)).all()
        counts = dict(
            session.exec(select(Alert.state, func.count(col(Alert.id))).where(mine).group_by(Alert.state)).all()
        )
        told = _notifications(session, [row.id for row in rows])
        channels = session.exec(
            select(Channel).where(Channel.project_id == caller.project_id).order_by(Channel.name)
        ).all()
        rules = session.exec(
            select(AlertRule).where(AlertRule.project_id == caller.project_id).order_by(AlertRule.name)
        ).all()
        silences = _silences(session, caller.project_id)
    return page(
        request, caller, "alerts.html", rows=rows, state=chosen, counts=counts, told=told, channels=channels,
        rules=rules, silences=silences, muted={row.id: _muted(row, silences) for row in rows},
    )  # fmt: skip


@router.get("/alerts/{row_id}")
def alert(request: Request, caller: Viewer, row_id: int) -> Response:
    """One alert: what it says, whom it told, who did what."""
    with reading() as session:
        row: Alert = find_row(session, Alert, row_id, caller.project_id, "alert")
        told = _notifications(session, [row.id]).get(row.id, [])
        silences = _silences(session, caller.project_id)
        rule = session.get_one(AlertRule, row.rule_id)
        parts = session.exec(select(AlertPart).where(AlertPart.alert_id == row.id).order_by(col(AlertPart.id))).all()
        history = session.exec(
            select(AuditEntry)
            .where(AuditEntry.project_id == caller.project_id, AuditEntry.subject == f"alert:{row.id}")
            .order_by(col(AuditEntry.id))
        ).all()
    return page(
        request, caller, "alert.html", alert=row, told=told, rule=rule, history=history, parts=parts,
        muted=_muted(row, silences), lengths=SILENCES,
    )  # fmt: skip


def _notifications(session: Session, ids: list[int]) -> dict[int, list[tuple[Notification, str]]]:
    """Deliveries with their channel's name, by alert."""
    found: dict[int, list[tuple[Notification, str]]] = {}
    rows = session.exec(
        select(Notification, Channel.name)
        .join(Channel, col(Channel.id) == Notification.channel_id)
        .where(col(Notification.alert_id).in_(ids))
        .order_by(col(Notification.id))
    )
    for notification, channel in rows:
        found.setdefault(notification.alert_id, []).append((notification, channel))
    return found


def _silences(session: Session, project_id: int) -> list[Silence]:
    standing = select(Silence).where(Silence.project_id == project_id, col(Silence.until) > now_us())
    return list(session.exec(standing.order_by(col(Silence.until)).limit(SHOWN)))


def _muted(row: Alert, silences: list[Silence]) -> Silence | None:
    now = now_us()
    return next((s for s in silences if s.since <= now and s.cron is None and matches(row.labels, s.matchers)), None)
