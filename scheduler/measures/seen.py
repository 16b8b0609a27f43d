"""What a measure hands to the rules: evidence, or a plain fact."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Evidence:
    """One more block of a stream: `bad` of `n` since the last look, at moment `at`. `key` names the stream."""

    key: str
    labels: Mapping[str, str]
    at: int
    bad: float
    n: int


@dataclass(frozen=True, slots=True)
class Fact:
    """Something that is so or not at moment `at`, without any doubt: a sum, a silence."""

    key: str
    labels: Mapping[str, str]
    at: int
    holds: bool
    value: float
    says: str
    facts: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Seen:
    """What was seen since the last look, and from where to look on."""

    evidence: list[Evidence] = field(default_factory=list)
    facts: list[Fact] = field(default_factory=list)
    cursor: dict[str, Any] = field(default_factory=dict)
