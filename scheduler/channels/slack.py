"""Slack (and whatever takes its incoming webhooks, such as Mattermost): Block Kit, with a plain text for notifications.

https://docs.slack.dev/messaging/sending-messages-using-incoming-webhooks
"""

import json
from collections.abc import Mapping

from scheduler.channels.notice import Message, Notice

MARKS = {"fired": "🔴", "resolved": "🟢", "test": "🔵"}
LONGEST_TEXT = 2900  # Slack refuses a section above 3000 characters
MOST_FIELDS = 10


def compose(notice: Notice, address: Mapping[str, str], key: str) -> Message:
    """The notice as Slack shows it: heading, summary, facts and a button to the dashboard."""
    heading = f"{MARKS.get(notice.happening, '🔵')} {notice.title}"
    blocks: list[dict[str, object]] = [
        {"type": "header", "text": {"type": "plain_text", "text": heading[:150], "emoji": True}},
        {"type": "section", "text": {"type": "mrkdwn", "text": _escaped(notice.summary)[:LONGEST_TEXT]}},
    ]
    facts = [{"type": "mrkdwn", "text": f"*{_escaped(k)}*\n{_escaped(v)}"[:2000]} for k, v in notice.facts.items() if v]
    if facts:
        blocks.append({"type": "section", "fields": facts[:MOST_FIELDS]})
    button = {"type": "button", "text": {"type": "plain_text", "text": "Open in Driftline"}, "url": notice.link}
    blocks.append({"type": "actions", "elements": [button]})
    context = f"{notice.happening} · severity {notice.severity}"
    blocks.append({"type": "context", "elements": [{"type": "mrkdwn", "text": context}]})
    body = {"text": f"{heading}: {notice.summary}"[:LONGEST_TEXT], "blocks": blocks}
    headers = {"content-type": "application/json", "idempotency-key": key}
    return Message(address["url"], json.dumps(body, ensure_ascii=False).encode(), headers)


def _escaped(text: str) -> str:
    # Slack's three control characters; everything else is literal.
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
