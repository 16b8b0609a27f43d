"""A generic webhook: a CloudEvents 1.0 body, signed so that the receiver knows who sent it and when.

The header `driftline-signature: t=SECONDS,v1=HEX` carries HMAC-SHA256 over "SECONDS.BODY" with the channel's secret. A
receiver compares in constant time and refuses old times and keys it has seen, so a recorded request is worth nothing.
"""

import hashlib
import hmac
import json
import time

from driftline.moment import iso, now_us
from driftline.settings import settings
from scheduler.channels.notice import Address, Message, Notice
from scheduler.channels.sending import posting

SCHEMA = "/api/schemas/alert.json"  # where this installation serves the JSON Schema of `data`


def compose(notice: Notice, address: Address, key: str) -> Message:
    """The notice as a CloudEvent; signed when the address has a `secret`."""
    event = {
        "specversion": "1.0",
        "id": key,
        "source": "driftline",
        "type": f"driftline.alert.{notice.happening}",
        "time": iso(now_us()),
        "subject": notice.ref,
        "datacontenttype": "application/json",
        "dataschema": f"{settings().base_url}{SCHEMA}",
        "data": {
            "title": notice.title,
            "summary": notice.summary,
            "severity": notice.severity,
            "link": notice.link,
            "labels": dict(notice.labels),
            "facts": dict(notice.facts),
            "detail": dict(notice.detail),
            "alerts": [
                {"title": one.title, "severity": one.severity, "happening": one.happening, "link": one.link}
                for one in notice.lines
            ],
        },
    }
    body = json.dumps(event, ensure_ascii=False).encode()
    headers = {"content-type": "application/cloudevents+json", "idempotency-key": key}
    if address.get("secret"):
        headers["driftline-signature"] = sign(body, address["secret"], int(time.time()))
    return Message(address["url"], body, headers)


deliver = posting(compose)


def sign(body: bytes, secret: str, at_s: int) -> str:
    """The signature header of a body.

    >>> sign(b"{}", "secret", 1700000000)[:18]
    't=1700000000,v1=b8'
    """
    digest = hmac.new(secret.encode(), f"{at_s}.".encode() + body, hashlib.sha256).hexdigest()
    return f"t={at_s},v1={digest}"
