"""Slack (and whatever takes its incoming webhooks, such as Mattermost): Block Kit, with a plain text for notifications.

https://docs.slack.dev/messaging/sending-messages-using-incoming-webhooks
https://docs.slack.dev/reference/block-kit/blocks
"""

import json
from collections.abc import Sequence
from itertools import accumulate
from typing import Any

from scheduler.channels.notice import Address, Line, Message, Notice
from scheduler.channels.sending import posting

MARKS = dict.fromkeys(("fired", "joined", "reminder", "escalated", "explained"), "🔴") | {
    "acknowledged": "🟡", "resolved": "🟢",
}  # fmt: skip
LONGEST_TEXT = 2900  # Slack refuses a section above 3000 characters
LONGEST_FACT = 2000
MOST_FIELDS = 10
MOST_BLOCKS = 40  # Slack refuses more than 50
LINES_A_BLOCK = 10
ESCAPES = {"&": "&amp;", "<": "&lt;", ">": "&gt;"}  # Slack's three control characters; everything else is literal
BUTTONS = {
    "acknowledge": ("Acknowledge", "primary"), "silence": ("Silence for 8 hours", None),
    "reoptimize": ("Approve the repair", "danger"),
}  # fmt: skip


def compose(notice: Notice, address: Address, key: str) -> Message:
    """The notice as Slack shows it: heading, summary, facts and a button to the dashboard."""
    headers = {"content-type": "application/json", "idempotency-key": key}
    return Message(address["url"], json.dumps(content(notice), ensure_ascii=False).encode(), headers)


deliver = posting(compose)


def content(notice: Notice, file_id: str | None = None) -> dict[str, Any]:
    """Text and blocks of the notice; with a picture that lies at Slack under `file_id`, or at the notice's URL."""
    heading = f"{MARKS.get(notice.happening, '🔵')} {notice.title}"
    summary = notice.summary.strip() or heading  # Slack refuses a message with an empty text
    blocks: list[dict[str, Any]] = [
        {"type": "header", "text": {"type": "plain_text", "text": heading[:150], "emoji": True}},
        {"type": "section", "text": {"type": "mrkdwn", "text": shown(summary, LONGEST_TEXT)}},
    ]
    told = [f"*{name}*\n{value}" for name, value in notice.facts.items() if value.strip()]
    facts = [{"type": "mrkdwn", "text": shown(fact, LONGEST_FACT)} for fact in told]
    if facts:
        blocks.append({"type": "section", "fields": facts[:MOST_FIELDS]})
    picture: dict[str, Any] | None = None
    if file_id is not None:
        picture = {"slack_file": {"id": file_id}}
    elif notice.picture_url:
        picture = {"image_url": notice.picture_url}
    if picture is not None:
        blocks.append({"type": "image", **picture, "alt_text": "The watched figure, red since the alarm"})
    blocks += _listed(notice.lines, MOST_BLOCKS - len(blocks))
    blocks.append({"type": "actions", "elements": _buttons(notice)})
    context = f"{notice.happening} · severity {notice.severity}"
    blocks.append({"type": "context", "elements": [{"type": "mrkdwn", "text": context}]})
    return {"text": shown(f"{heading}: {summary}", LONGEST_TEXT), "blocks": blocks}


def _listed(lines: Sequence[Line], room: int) -> list[dict[str, Any]]:
    """Alerts of one message, ten a block, as many as there is room for."""
    blocks = []
    for start in range(0, min(len(lines), LINES_A_BLOCK * (room - 1)), LINES_A_BLOCK):
        some = [f"• {one.happening}, {one.severity}: {one.title[:150]}" for one in lines[start : start + LINES_A_BLOCK]]
        blocks.append({"type": "section", "text": {"type": "mrkdwn", "text": shown("\n".join(some), LONGEST_TEXT)}})
    return blocks


def _buttons(notice: Notice) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    for act in notice.acts:
        label, style = BUTTONS[act]
        button = {"type": "button", "text": {"type": "plain_text", "text": label}, "action_id": f"driftline_{act}",
                  "value": str(notice.alert_id)}  # fmt: skip
        found.append({**button, **({"style": style} if style else {})})
    link = {"type": "button", "text": {"type": "plain_text", "text": "Open in Driftline"}, "url": notice.link[:3000]}
    return [*found, {**link, "action_id": "driftline_open"}]


def shown(text: str, most: int) -> str:
    """The text escaped, cut between two characters where it is longer than Slack takes."""
    pieces = [ESCAPES.get(char, char) for char in text]
    ends = accumulate(len(piece) for piece in pieces)
    return "".join(piece for piece, end in zip(pieces, ends, strict=True) if end <= most)
