"""Microsoft Teams: an Adaptive Card to a workflow's "when a Teams webhook request is received" address.

https://learn.microsoft.com/en-us/microsoftteams/platform/webhooks-and-connectors/how-to/add-incoming-webhook
"""

import json
from typing import Any

from scheduler.channels.notice import Address, Message, Notice
from scheduler.channels.sending import posting

COLOURS = {"resolved": "good", "acknowledged": "warning", "test": "accent"}
LONGEST_TEXT = 4000
MOST_FACTS = 12
MOST_LINES = 30
MOST_BYTES = 27_000  # Teams refuses messages above 28 KB


def compose(notice: Notice, address: Address, key: str) -> Message:
    """The notice as an Adaptive Card 1.4, within the size Teams takes."""
    body = _posted(notice, LONGEST_TEXT)
    if len(body) > MOST_BYTES:
        body = _posted(notice, 400)
    headers = {"content-type": "application/json", "idempotency-key": key}
    return Message(address["url"], body, headers)


def _posted(notice: Notice, most: int) -> bytes:
    facts = [{"title": name[:80], "value": text[:most]} for name, text in notice.facts.items() if text.strip()]
    lines = [f"- {one.happening}, {one.severity}: {_plain(one.title[:150])}" for one in notice.lines[:MOST_LINES]]
    parts: list[dict[str, Any]] = [
        {"type": "TextBlock", "text": _plain(notice.title[:300]) or "Driftline", "size": "Large", "weight": "Bolder",
         "wrap": True, "color": COLOURS.get(notice.happening, "attention")},
        {"type": "TextBlock", "text": _plain(notice.summary[:most]) or "–", "wrap": True},
    ]  # fmt: skip
    if facts:
        parts.append({"type": "FactSet", "facts": facts[:MOST_FACTS]})
    if lines:
        parts.append({"type": "TextBlock", "text": "\n".join(lines), "wrap": True})
    card = {
        "$schema": "http://adaptivecards.io/schemas/adaptive-card.json", "type": "AdaptiveCard", "version": "1.4",
        "body": parts, "actions": [{"type": "Action.OpenUrl", "title": "Open in Driftline", "url": notice.link}],
        "msteams": {"width": "Full"},
    }  # fmt: skip
    attachment = {"contentType": "application/vnd.microsoft.card.adaptive", "contentUrl": None, "content": card}
    return json.dumps({"type": "message", "attachments": [attachment]}, ensure_ascii=False).encode()


def _plain(text: str) -> str:
    """The text with Markdown's signs for links and mentions made harmless."""
    return text.replace("[", "(").replace("]", ")").replace("<at>", "(at)")


deliver = posting(compose)
