"""Slack (and whatever takes its incoming webhooks, such as Mattermost): Block Kit, with a plain text for notifications.

https://docs.slack.dev/messaging/sending-messages-using-incoming-webhooks
"""

import json
from collections.abc import Mapping
from itertools import accumulate

from scheduler.channels.notice import Message, Notice

MARKS = {"fired": "🔴", "resolved": "🟢", "test": "🔵"}
LONGEST_TEXT = 2900  # Slack refuses a section above 3000 characters
LONGEST_FACT = 2000
MOST_FIELDS = 10
ESCAPES = {"&": "&amp;", "<": "&lt;", ">": "&gt;"}  # Slack's three control characters; everything else is literal


def compose(notice: Notice, address: Mapping[str, str], key: str) -> Message:
    """The notice as Slack shows it: heading, summary, facts and a button to the dashboard."""
    heading = f"{MARKS.get(notice.happening, '🔵')} {notice.title}"
    summary = notice.summary.strip() or heading  # Slack refuses a message with an empty text
    blocks: list[dict[str, object]] = [
        {"type": "header", "text": {"type": "plain_text", "text": heading[:150], "emoji": True}},
        {"type": "section", "text": {"type": "mrkdwn", "text": _shown(summary, LONGEST_TEXT)}},
    ]
    told = [f"*{name}*\n{value}" for name, value in notice.facts.items() if value.strip()]
    facts = [{"type": "mrkdwn", "text": _shown(fact, LONGEST_FACT)} for fact in told]
    if facts:
        blocks.append({"type": "section", "fields": facts[:MOST_FIELDS]})
    button = {"type": "button", "text": {"type": "plain_text", "text": "Open in Driftline"}, "url": notice.link}
    blocks.append({"type": "actions", "elements": [button]})
    context = f"{notice.happening} · severity {notice.severity}"
    blocks.append({"type": "context", "elements": [{"type": "mrkdwn", "text": context}]})
    body = {"text": _shown(f"{heading}: {summary}", LONGEST_TEXT), "blocks": blocks}
    headers = {"content-type": "application/json", "idempotency-key": key}
    return Message(address["url"], json.dumps(body, ensure_ascii=False).encode(), headers)


def _shown(text: str, most: int) -> str:
    """The text escaped, cut between two characters where it is longer than Slack takes."""
    pieces = [ESCAPES.get(char, char) for char in text]
    ends = accumulate(len(piece) for piece in pieces)
    return "".join(piece for piece, end in zip(pieces, ends, strict=True) if end <= most)
