"""GitHub: a `repository_dispatch` event, by which an alert starts a workflow (rebuild, replay, open an issue).

The token needs "Contents: write" on the repository.
https://docs.github.com/en/rest/repos/repos#create-a-repository-dispatch-event
"""

import json
from typing import Any

from scheduler.channels.notice import Address, Message, Notice
from scheduler.channels.sending import posting

API = "https://api.github.com"
LONGEST_TYPE = 100
MOST_BYTES = 60_000  # GitHub refuses a payload of more than 64 KB


def compose(notice: Notice, address: Address, key: str) -> Message:
    """The notice as an event of type `driftline-fired`, `driftline-resolved`, …; at most ten top-level properties."""
    payload: dict[str, Any] = {
        "key": key, "happening": notice.happening, "severity": notice.severity, "title": notice.title[:1000],
        "summary": notice.summary[:5000], "link": notice.link, "labels": dict(notice.labels),
        "facts": {name: text[:2000] for name, text in notice.facts.items() if text},
        "alerts": [one.title[:150] for one in notice.lines], "ref": notice.ref,
    }  # fmt: skip
    kind = f"{address.get('event_type', 'driftline')}-{notice.happening}"[:LONGEST_TYPE]
    body = _encoded(kind, payload)
    if len(body) > MOST_BYTES:
        body = _encoded(kind, payload | {"facts": {}, "alerts": payload["alerts"][:50], "labels": {}})
    headers = {
        "content-type": "application/json", "accept": "application/vnd.github+json", "user-agent": "driftline",
        "x-github-api-version": "2022-11-28", "authorization": f"Bearer {address['token']}", "idempotency-key": key,
    }  # fmt: skip
    base = address.get("url", API).rstrip("/")
    return Message(f"{base}/repos/{address['repository'].strip('/')}/dispatches", body, headers)


def _encoded(kind: str, payload: dict[str, Any]) -> bytes:
    return json.dumps({"event_type": kind, "client_payload": payload}).encode()


deliver = posting(compose)
