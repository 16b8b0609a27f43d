"""Discord: an embed to a channel's webhook; nobody is mentioned by what an alert quotes.

https://discord.com/developers/docs/resources/webhook#execute-webhook
"""

import json
from typing import Any

from driftline.moment import iso, now_us
from scheduler.channels.notice import Address, Message, Notice
from scheduler.channels.sending import posting

COLOURS = {"resolved": 0x16A34A, "acknowledged": 0xD97706, "test": 0x2563EB}
ALARM = 0xDC2626
LONGEST_TITLE, LONGEST_NAME, LONGEST_VALUE, MOST_FIELDS = 256, 256, 1024, 25
LONGEST_TEXT = 2500  # of 4096; an embed holds 6000 characters in all
LONGEST_EMBED = 5800


def compose(notice: Notice, address: Address, key: str) -> Message:
    """The notice as an embed within Discord's limits."""
    text = "\n".join(
        [notice.summary, *(f"• {one.happening}, {one.severity}: {one.title[:120]}" for one in notice.lines)]
    )
    fields: list[dict[str, Any]] = []
    embed: dict[str, Any] = {
        "title": notice.title[:LONGEST_TITLE].strip() or "Driftline", "description": text[:LONGEST_TEXT],
        "url": notice.link, "color": COLOURS.get(notice.happening, ALARM), "timestamp": iso(now_us()),
        "footer": {"text": f"{notice.happening} · severity {notice.severity}"}, "fields": fields,
    }  # fmt: skip
    left = LONGEST_EMBED - len(embed["title"]) - len(embed["description"]) - len(embed["footer"]["text"])
    for name, value in ((n[:LONGEST_NAME].strip(), v[:LONGEST_VALUE].strip()) for n, v in notice.facts.items()):
        left -= len(name) + len(value)
        if name and value and left > 0 and len(fields) < MOST_FIELDS:
            fields.append({"name": name, "value": value, "inline": len(value) < 40})
    body = {"embeds": [embed], "allowed_mentions": {"parse": []}}
    headers = {"content-type": "application/json", "idempotency-key": key}
    return Message(address["url"], json.dumps(body, ensure_ascii=False).encode(), headers)


deliver = posting(compose)
