"""Ways to tell people: one file each, one row in the table, one battery of tests.

A channel is a function `deliver(notice, address, key) -> Sent`. Most are one POST, `posting(compose)` with
`compose(notice, address, key) -> Message`; sending, retrying and judging the answer is the same for all of them and
happens in `scheduler.channels.sending`. What an address holds says `driftline.acts.channels.KINDS`.
"""

from scheduler.channels.notice import Compose, Deliver, Line, Message, Notice, Sent

CHANNELS: dict[str, str] = {
    "slack": "scheduler.channels.slack:deliver",
    "slack-bot": "scheduler.channels.slack_bot:deliver",
    "webhook": "scheduler.channels.webhook:deliver",
    "pagerduty": "scheduler.channels.pagerduty:deliver",
    "email": "scheduler.channels.email:deliver",
    "teams": "scheduler.channels.teams:deliver",
    "discord": "scheduler.channels.discord:deliver",
    "github": "scheduler.channels.github:deliver",
    "apprise": "scheduler.channels.long_tail:deliver",
}

__all__ = ["CHANNELS", "Compose", "Deliver", "Line", "Message", "Notice", "Sent"]
