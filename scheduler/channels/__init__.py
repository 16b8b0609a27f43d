"""Ways to tell people: one file each, one row in the table, one battery of tests.

A channel is a function `compose(notice, address, key) -> Message`; sending, retrying and judging the answer is the same
for all of them and happens in `scheduler.channels.sending`.
"""

from scheduler.channels.notice import Compose, Message, Notice

CHANNELS: dict[str, str] = {
    "slack": "scheduler.channels.slack:compose",
    "webhook": "scheduler.channels.webhook:compose",
}

__all__ = ["CHANNELS", "Compose", "Message", "Notice"]
