"""PagerDuty, Events API v2: an alert triggers an incident, acknowledges it and resolves it, under one key.

https://developer.pagerduty.com/docs/events-api-v2-overview
"""

import json
from typing import Any

from driftline.moment import iso, now_us
from scheduler.channels.notice import Address, Message, Notice
from scheduler.channels.sending import posting

EVENTS = "https://events.pagerduty.com/v2/enqueue"
SEVERITIES = {"page": "critical", "warning": "warning", "info": "info"}
LONGEST_SUMMARY = 1024


def compose(notice: Notice, address: Address, key: str) -> Message:
    """The notice as an event; everything about one alert carries the alert's own `dedup_key`."""
    action = {"resolved": "resolve", "acknowledged": "acknowledge"}.get(notice.happening, "trigger")
    event: dict[str, Any] = {
        "routing_key": address["routing_key"], "event_action": action, "dedup_key": notice.ref or key,
        "client": "Driftline", "client_url": notice.link, "links": [{"href": notice.link, "text": "Open in Driftline"}],
    }  # fmt: skip
    if action == "trigger":
        event["payload"] = {
            "summary": f"{notice.title}. {notice.summary}"[:LONGEST_SUMMARY], "source": "driftline",
            "severity": SEVERITIES.get(notice.severity, "error"), "timestamp": iso(now_us()),
            "component": notice.labels.get("route", "")[:255], "group": notice.labels.get("variant", "")[:255],
            "class": notice.labels.get("on", "")[:255],
            "custom_details": {name: text[:2000] for name, text in notice.facts.items() if text},
        }  # fmt: skip
    headers = {"content-type": "application/json", "idempotency-key": key}
    return Message(address.get("url", EVENTS), json.dumps(event, ensure_ascii=False).encode(), headers)


deliver = posting(compose)
