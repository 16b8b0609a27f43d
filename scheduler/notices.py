"""From rows to words: what people are told of an alert, or of many at once."""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from sqlmodel import Session, col, select

from driftline.moment import iso
from driftline.names import one_line
from driftline.settings import settings
from driftline.store.secrets import unseal
from driftline.store.tables import Alert, Channel, Notification, Reoptimization
from scheduler.channels.notice import Line, Notice
from scheduler.sparkline import sparkline_of

RANK = {"info": 0, "warning": 1, "page": 2}
WORDS = {
    "acknowledged": "Acknowledged: ", "resolved": "Resolved: ", "reminder": "Still firing: ",
    "escalated": "Nobody yet: ", "explained": "Now explained: ",
}  # fmt: skip
MOST_LINES = 200  # of a message about many alerts


def notice_of(session: Session, alert: Alert, row: Notification, channel: Channel) -> Notice:
    """What people are told of an alert."""
    body = alert.body
    began, happening = body.get("began_at"), row.happening.partition(":")[0]
    facts = {
        "Variant": str(body.get("variant") or ""),
        "Route": str(body.get("route") or ""),
        "Began": iso(began) if isinstance(began, int) else "",
        "Cause": str(body.get("cause") or ""),
        "Effect": str(body.get("effect_text") or ""),
        "Records since": str(body.get("items_since") or ""),
        **{str(name): str(text) for name, text in (body.get("facts") or {}).items()},
    }
    if alert.acknowledged_by and alert.state != "firing":
        facts["Acknowledged by"] = alert.acknowledged_by
    if happening == "resolved":
        facts["Resolved by"] = str(alert.resolved_by or "")
        facts["Certificate"] = str((alert.certificate or {}).get("says", ""))
    mark = "Flapping: " if alert.flapping and happening == "fired" else WORDS.get(happening, "")
    picture = sparkline_of(session, alert) if channel.kind == "slack-bot" else None
    return Notice(
        happening, alert.severity, mark + one_line(alert.title), one_line(str(body.get("summary", ""))), link_of(alert),
        {name: one_line(text) for name, text in facts.items()},
        alert.labels, body, ref=f"driftline-alert-{alert.id}", thread=_thread(session, row),
        acts=_acts(session, alert, channel), alert_id=alert.id, picture=picture,
    )  # fmt: skip


def digest_of(pairs: Sequence[tuple[Notification, Alert]]) -> Notice:
    """What people are told of many alerts in one message: how many of what, the gravest first."""
    ordered = sorted(pairs, key=lambda pair: (-RANK.get(pair[1].severity, 2), pair[1].id))
    kinds = Counter(row.happening.partition(":")[0] for row, _ in ordered)
    counted = ", ".join(f"{n} {kind}" for kind, n in kinds.most_common())
    by_label = Counter(
        f"{name} {alert.labels[name]}" for _, alert in ordered for name in ("route", "on") if alert.labels.get(name)
    )
    happening = "resolved" if set(kinds) == {"resolved"} else "fired"
    lines = [
        Line(alert.severity, one_line(alert.title), link_of(alert), row.happening.partition(":")[0])
        for row, alert in ordered[:MOST_LINES]
    ]
    return Notice(
        happening, ordered[0][1].severity, f"{len(ordered)} alerts at once: {counted}",
        "Mostly " + ", ".join(f"{one_line(label)} ({n})" for label, n in by_label.most_common(5)) + ".",
        f"{settings().base_url}/alerts",
        detail={"alerts": len(ordered), "alert_ids": [alert.id for _, alert in ordered[:1000]]},
        ref=f"driftline-message-{pairs[0][0].lead_id}", lines=lines,
    )  # fmt: skip


def link_of(alert: Alert) -> str:
    """Where the dashboard shows the alert."""
    return f"{settings().base_url}/alerts/{alert.id}"


def _thread(session: Session, row: Notification) -> Mapping[str, Any] | None:
    earlier = select(Notification.remote).where(
        Notification.alert_id == row.alert_id, Notification.channel_id == row.channel_id, Notification.id < row.id,
        Notification.state == "sent",
    )  # fmt: skip
    found = session.exec(earlier.order_by(col(Notification.id))).all()
    return next((remote for remote in found if remote), None)


def _acts(session: Session, alert: Alert, channel: Channel) -> tuple[str, ...]:
    """The buttons that the channel's clicks can be verified for."""
    if not channel.kind.startswith("slack") or channel.secret is None or alert.state == "resolved":
        return ()
    if not json.loads(unseal(channel.secret)).get("signing_secret"):
        return ()
    proposed = select(Reoptimization.id).where(
        Reoptimization.drift_event_id == alert.drift_event_id, Reoptimization.state == "proposed"
    )
    repair = alert.drift_event_id is not None and session.exec(proposed).first() is not None
    acknowledge = ("acknowledge",) if alert.state == "firing" else ()
    return (*acknowledge, "silence", *(("reoptimize",) if repair else ()))
