"""What is told, before it takes a channel's form."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Notice:
    """One happening of one alert, in words that every channel can carry. `link` leads to the dashboard."""

    happening: str  # fired | resolved | test
    severity: str
    title: str
    summary: str
    link: str
    facts: Mapping[str, str] = field(default_factory=dict)
    labels: Mapping[str, str] = field(default_factory=dict)
    detail: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Message:
    """An HTTP POST ready to be sent."""

    url: str
    body: bytes
    headers: Mapping[str, str]


Compose = Callable[[Notice, Mapping[str, str], str], Message]  # notice, address, idempotency key
