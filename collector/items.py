"""OTLP requests taken apart, in Protocol Buffers or JSON: their items, each still undecoded, and what is refused."""

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import msgspec
from google.protobuf.message import DecodeError
from msgspec import Struct

from collector import wire
from collector.contents import Attributes
from collector.record import BadRecord, refuse_dense
from collector.values import JsonPair, json_attributes, proto_attributes, split
from driftline.errors import DriftlineError, TooLarge

MAX_ITEMS = 100_000  # of one request: empty ones cost more time than bytes


class Undecodable(DriftlineError):
    """The body as a whole is no OTLP request. Sending it again will not help."""


@dataclass(slots=True)
class Refused:
    """Items that were not stored, and the first reasons."""

    n: int = 0
    reasons: list[str] = field(default_factory=list)

    def add(self, reason: str) -> None:
        """Counts one; keeps the first few reasons."""
        self.n += 1
        if len(self.reasons) < 5 and reason not in self.reasons:
            self.reasons.append(reason)

    def __str__(self) -> str:
        return "; ".join(self.reasons)


def items_of(body: bytes, *names: str, as_json: bool) -> Iterator[tuple[Attributes, Any]]:
    """The items of a request (spans, log records) still undecoded, each with its resource's attributes.

    Raises:
        Undecodable: The body cannot be read as a whole; what was yielded before must not be used.
        TooLarge: It holds more than MAX_ITEMS, or too many objects.
    """
    seen = 0
    for resource, scopes in _json_scopes(body, *names) if as_json else _proto_scopes(body):
        seen = _count_up(seen)
        for items in scopes:
            seen = _count_up(seen, 1 + len(items))
            for item in items:
                yield resource, item


def _count_up(seen: int, more: int = 1) -> int:
    if seen + more > MAX_ITEMS:
        raise TooLarge(f"The request holds more than {MAX_ITEMS} items. Send smaller batches.")
    return seen + more


def _proto_scopes(body: bytes) -> Iterable[tuple[Attributes, Iterable[Any]]]:
    try:
        for resource in wire.Request.FromString(body).resources:
            group = wire.ResourceItems.FromString(resource)
            attributes, _ = proto_attributes(group.resource.attributes)
            yield attributes, (scope.items for scope in group.scopes)
    except DecodeError:
        raise Undecodable("The body is not an OTLP request in Protocol Buffers, or is cut off.") from None
    except BadRecord as error:
        raise Undecodable(f"A resource cannot be read: {error}.") from None


class _JsonResource(Struct):
    attributes: list[JsonPair] | None = None


def _json_scopes(body: bytes, *names: str) -> Iterable[tuple[Attributes, Iterable[Any]]]:
    for resource in _listed(_json_body(body), names[0]):
        try:
            described = msgspec.convert(_named(resource, "resource"), _JsonResource)
            attributes, _ = split(json_attributes(described.attributes))
        except (msgspec.ValidationError, BadRecord) as error:
            raise Undecodable(f"A resource cannot be read: {error}.") from None
        yield attributes, (_listed(scope, names[2]) for scope in _listed(resource, names[1]))


def _json_body(body: bytes) -> Any:
    refuse_dense(body)
    try:
        return msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        try:
            return json.loads(body)  # reads lone surrogates too
        except (ValueError, RecursionError) as error:
            raise Undecodable(f"The body is not JSON in UTF-8: {error}.") from None


def _named(value: Any, name: str) -> Any:
    if not isinstance(value, dict):
        raise Undecodable(f'The body is not an OTLP request in JSON: there must be an object with "{name}".')
    return value.get(name) or {}


def _listed(value: Any, name: str) -> list[Any]:
    items = _named(value, name) or []
    if not isinstance(items, list):
        raise Undecodable(f'The body is not an OTLP request in JSON: "{name}" must be a list.')
    return items
