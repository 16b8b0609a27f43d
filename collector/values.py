"""Attributes and their values, in Protocol Buffers and in JSON."""

from collections.abc import Iterable, Iterator
from typing import Any

from msgspec import Struct

from collector import wire
from collector.contents import Attributes
from collector.conventions import NAMES, PREFIXES
from collector.record import BadRecord

_SCALARS = frozenset({"string_value", "int_value", "double_value", "bool_value"})
_DEPTH = 16  # how deep a structured attribute may nest
MAX_PARTS = 100_000  # attributes or events of one thing, elements of one value: empty ones take much more than bytes


Known = tuple[str, Any, bool]  # an attribute's name, its value, and whether the name has a meaning of its own


def known_of(pair: Any) -> Known | None:
    """A KeyValue with a meaning, by its name or by the beginning of it; None where it has none."""
    key = pair.key
    if key in NAMES:
        value = pair.value
        return key, value.string_value or plain(value), True
    return (key, plain(pair.value), False) if key.startswith(PREFIXES) else None


def each_of(sent: Any, kind: Any = wire.KeyValue) -> Iterator[Any]:
    """Messages of a kind that were left undecoded.

    Raises:
        BadRecord: They are more than MAX_PARTS.
        DecodeError: One is broken; while they are gone through.
    """
    if len(sent) > MAX_PARTS:
        raise BadRecord(f"more than {MAX_PARTS} attributes, events or elements in one place")
    return map(kind.FromString, sent)


def proto_attributes(sent: Any) -> tuple[Attributes, Attributes]:
    """Of undecoded KeyValues those with a meaning: by their name, and by the beginning of it."""
    return parted(map(known_of, each_of(sent)))


def parted(known: Iterable[Known | None]) -> tuple[Attributes, Attributes]:
    """Attributes with a meaning: by their name, and by the beginning of it."""
    named: Attributes = {}
    loose: Attributes = {}
    for found in known:
        if found is not None:
            (named if found[2] else loose)[found[0]] = found[1]
    return named, loose


def plain(value: Any, depth: int = 0) -> Any:
    """The Python value of a protobuf AnyValue; None where it is empty, or nests too deep.

    Raises:
        BadRecord, DecodeError: It holds too many elements, or a broken one.
    """
    kind = value.WhichOneof("value")
    if kind in _SCALARS:
        return getattr(value, kind)
    if kind is None or depth > _DEPTH:
        return None
    if kind == "array_value":
        return [plain(item, depth + 1) for item in each_of(value.array_value.values, wire.AnyValue)]
    if kind == "kvlist_value":
        return {pair.key: plain(pair.value, depth + 1) for pair in each_of(value.kvlist_value.values)}
    return f"[{len(value.bytes_value)} bytes]"


def proto_attributes_all(sent: Any) -> Attributes:
    """All attributes of an event, a log record or a point."""
    return {pair.key: plain(pair.value) for pair in each_of(sent)}


class JsonValue(Struct, rename="camel"):
    """An AnyValue in JSON."""

    string_value: str | None = None
    bool_value: bool | None = None
    int_value: int | float | str | None = None
    double_value: float | str | None = None
    array_value: "JsonArray | None" = None
    kvlist_value: "JsonPairs | None" = None
    bytes_value: str | None = None


class JsonArray(Struct):
    """A list of AnyValue in JSON."""

    values: list[JsonValue] | None = None


class JsonPair(Struct):
    """A KeyValue in JSON."""

    key: str = ""
    value: JsonValue | None = None


class JsonPairs(Struct):
    """A list of KeyValue in JSON."""

    values: list[JsonPair] | None = None


Nanoseconds = int | float | str | None


def json_attributes(pairs: list[JsonPair] | None) -> Attributes:
    """All attributes of an item in JSON."""
    return {pair.key: json_plain(pair.value) for pair in pairs or ()}


def split(attributes: Attributes) -> tuple[Attributes, Attributes]:
    """Of attributes those with a meaning: by their name, and by the beginning of it."""
    named = {key: value for key, value in attributes.items() if key in NAMES}
    return named, {k: v for k, v in attributes.items() if k not in named and k.startswith(PREFIXES)}


def json_plain(value: JsonValue | None) -> Any:
    """The Python value of an AnyValue in JSON.

    Raises:
        BadRecord: A number is none.
    """
    if value is None:
        return None
    if value.string_value is not None:
        return value.string_value
    if value.int_value is not None:
        return whole(value.int_value)
    if value.double_value is not None:
        return fraction(value.double_value)
    if value.array_value is not None:
        return [json_plain(item) for item in value.array_value.values or ()]
    if value.kvlist_value is not None:
        return json_attributes(value.kvlist_value.values)
    return value.bool_value if value.bool_value is not None else value.bytes_value


def fraction(value: float | str | None) -> float:
    """A number, which JSON carries as a text where it is NaN or infinite.

    Raises:
        BadRecord: It is none.
    """
    try:
        return float(value or 0.0)
    except ValueError:
        raise BadRecord(f"{str(value)[:40]!r} is no number") from None


def whole(value: float | str | None) -> int:
    """A 64-bit number, which JSON may carry as a text, or as `1e3`.

    Raises:
        BadRecord: It is no whole number, or has more than 64 bits.
    """
    try:
        number = int(value or 0)
        if isinstance(value, float) and number != value:
            raise ValueError
    except (ValueError, OverflowError):
        raise BadRecord(f"{str(value)[:40]!r} is no whole number") from None
    if not -(2**63) <= number < 2**64:
        raise BadRecord("a number has more than 64 bits")
    return number


def hexadecimal(text: str) -> str:
    """An id in hexadecimal digits, in lower case.

    Raises:
        BadRecord: It is something else, as base64.
    """
    try:
        return bytes.fromhex(text).hex()
    except ValueError:
        raise BadRecord(f"{text[:40]!r} must be an id in hexadecimal digits") from None
