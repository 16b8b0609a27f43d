"""What is told, before it takes a channel's form."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Line:
    """One alert among several that are told in one message."""

    severity: str
    title: str
    link: str
    happening: str = "fired"


@dataclass(frozen=True, slots=True)
class Notice:
    """One happening of one alert, or of several at once, in words that every channel can carry.

    `link` leads to the dashboard. `ref` names the alert, the same in everything that is told of it. `thread` is what
    the channel gave back for the first message of this alert. `acts` are the buttons that may be offered, with the
    alert's number as their value. `picture` is a PNG of the watched figure, `picture_url` where it can be fetched.
    """

    happening: str  # fired | acknowledged | resolved | reminder | escalated | joined | explained | test
    severity: str
    title: str
    summary: str
    link: str
    facts: Mapping[str, str] = field(default_factory=dict)
    labels: Mapping[str, str] = field(default_factory=dict)
    detail: Mapping[str, Any] = field(default_factory=dict)
    ref: str = ""
    lines: Sequence[Line] = ()
    thread: Mapping[str, Any] | None = None
    acts: Sequence[str] = ()
    alert_id: int | None = None
    picture: bytes | None = None
    picture_url: str | None = None


@dataclass(frozen=True, slots=True)
class Message:
    """An HTTP POST ready to be sent."""

    url: str
    body: bytes
    headers: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Sent:
    """What the far side answered, in short, and by what it finds the message again."""

    answer: str
    remote: Mapping[str, Any] | None = None


Address = Mapping[str, str]
Compose = Callable[[Notice, Address, str], Message]  # notice, address, idempotency key
Deliver = Callable[[Notice, Address, str], Sent]
