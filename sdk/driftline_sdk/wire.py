"""Records and feedback as the collector's JSON, and the limits it sets."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Iterator
from json.encoder import encode_basestring
from types import SimpleNamespace
from typing import Any, NamedTuple

from driftline_sdk.faults import shown, tell
from driftline_sdk.feedback import Feedback
from driftline_sdk.generation import NOT_MEASURED, Generation, ids, short
from driftline_sdk.intake import Messages
from driftline_sdk.settings import Redact

RECORDS = "records"
FEEDBACK = "feedback"
PATHS = {RECORDS: "/v1/records", FEEDBACK: "/v1/feedback"}
MOST_BYTES = 20 << 20  # of a decompressed request; the collector answers 413 above

_STATUSES = ("ok", "error", "aborted")
# The collector's limits: what is beyond them is cut or left out, so that the rest of the record arrives.
_MOST_MS = 7 * 86_400_000
_MOST_TOKENS = 1_000_000_000
_MOST_USD = 1_000_000
_MOST_TAGS = 64
_LONGEST_TAG_NAME = 128
_LONGEST_TAG = 1_024
_LONGEST_NAME = 64
_LONGEST_VARIANT = 128
_LONG = 1 << 15
_BREATH_S = 5e-5
_DEEPEST = 20
_ITSELF = "(itself)"
_TAG_NAME = "the name of a tag"
_WRITABLE_BITS = 2_000  # 603 digits: no setting of Python refuses to write down fewer than 640
_to_json = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), allow_nan=False, default=str).encode


class Line(NamedTuple):
    """One encoded record or feedback; the variant is for counting, None when it came back from the spool."""

    kind: str
    variant: str | None
    text: bytes


class Unsendable(Exception):
    """An item that becomes no line; `reason` is what it is counted as."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


def encoded(item: Generation | Feedback, redact: Redact | None = None) -> Line:
    """The item as one line of JSON; records go through the redaction hook first.

    Raises:
        Unsendable: The hook took the record out or failed, or it is larger than a request may be, or no JSON.
    """
    try:
        if isinstance(item, Feedback):
            return Line(FEEDBACK, None, _bytes(feedback_fields(item)))
        fields = record_fields(item)
        if redact is not None:
            fields = _redacted(fields, redact)
        text = _bytes({name: value for name, value in fields.items() if value is not None}, item.weight > _LONG)
    except Unsendable:
        raise
    except BaseException as error:  # somebody else's `__str__` may raise SystemExit: the sender must outlive that
        raise Unsendable("unencodable") from error
    if len(text) > MOST_BYTES - 4_096:
        raise Unsendable("too_large")
    return Line(RECORDS, counted_as(item), text)


def counted_as(item: Generation | Feedback) -> str:
    """The variant an item counts for: its own, else its model's name, as the collector has it."""
    if not isinstance(item, Generation):
        return ""
    try:
        return str(item.variant or item.model or "")[:_LONGEST_VARIANT]
    except BaseException:  # noqa: BLE001 - an object whose text cannot be made
        return ""


def variant_of(line: Line) -> str:
    """The variant a line counts for, read out of it when it came back from the spool."""
    if line.variant is None and line.kind == RECORDS:
        try:
            fields = json.loads(line.text)
            return str(fields.get("variant") or fields.get("model") or "")[:_LONGEST_VARIANT]
        except (ValueError, AttributeError):
            return ""
    return line.variant or ""


def _redacted(fields: Any, redact: Redact) -> dict[str, Any]:
    try:
        redacted = redact(fields)
    except BaseException as error:  # a cancelled task's, too
        raise Unsendable("redact_failed") from error
    if redacted is None:
        raise Unsendable("redacted")
    return redacted


def record_fields(generation: Generation) -> dict[str, Any]:
    """The generation as the record of the wire: numbers finite, tags flat texts, what is not known None."""
    generation.read_late()
    output = _text("output", generation.output)
    if output is None and generation.pieces is not None:
        output = "".join(generation.pieces)
    if generation.calls is not None:
        output = "\n".join(filter(None, (output, *(_tool_call(*call) for call in generation.calls.values()))))
    if output is None and generation.error is None:
        output = ""
    latency_ms = None if generation.latency_ms is NOT_MEASURED else generation.latency_ms
    return {
        "id": _id(generation.id),
        "started_at": _moment(generation.started_at),
        "variant": _text("variant", generation.variant or None),
        "model": _text("model", generation.model),
        "input": _messages(generation.input),
        "output": output,
        "latency_ms": _measure("latency_ms", latency_ms, _MOST_MS),
        "ttft_ms": _measure("ttft_ms", generation.ttft_ms, _MOST_MS),
        "input_tokens": _number("input_tokens", generation.input_tokens),
        "output_tokens": _number("output_tokens", generation.output_tokens),
        "cost_usd": _measure("cost_usd", generation.cost_usd, _MOST_USD),
        "status": _status(generation.status),
        "error": _text("error", generation.error),
        "session_id": _text("session_id", generation.session_id),
        "user_id": _text("user_id", generation.user_id),
        "tags": _tags(generation.all_tags()),
        "sample_rate": _share(generation.sample_rate),
    }


def feedback_fields(feedback: Feedback) -> dict[str, Any]:
    """The feedback as the wire has it."""
    fields = {
        "id": feedback.id,
        "generation_id": feedback.generation_id,
        "name": _cut("the name of a feedback", feedback.name, _LONGEST_NAME),
        "value": feedback.value,
        "comment": _text("comment", feedback.comment),
    }
    return {name: value for name, value in fields.items() if value is not None}


def plain(name: str, value: Any, above: tuple[int, ...] = ()) -> Any:
    """The value in JSON's own kinds; objects of client libraries by their `model_dump`, others by their text.

    `name` is the attribute it belongs to, for what is told of it; `above` are the ids of what it lies in: what contains
    itself is written down once.
    """
    if value is None or isinstance(value, (str, bool)):
        return value
    if isinstance(value, int):
        return value if value.bit_length() <= _WRITABLE_BITS or _is_writable(value) else written(name, value)
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    if id(value) in above:
        return _ITSELF
    if len(above) > _DEEPEST:
        return str(value)
    above = (*above, id(value))
    if isinstance(value, Messages):
        return [plain(name, message, above) for message in value.unfolded()]
    if isinstance(value, dict):
        return {written(name, key): plain(name, entry, above) for key, entry in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [plain(name, entry, above) for entry in value]
    if isinstance(value, (bytes, bytearray)):
        return f"<{len(value)} bytes>"
    if isinstance(value, SimpleNamespace):
        return plain(name, vars(value), above)
    dump = getattr(value, "model_dump", None) or getattr(value, "to_dict", None) or getattr(value, "dict", None)
    if callable(dump) and not isinstance(value, type):
        try:
            return plain(name, dump(), above)
        except Exception:  # noqa: BLE001 - somebody else's object
            return str(value)
    return str(value)


def written(name: str, value: Any) -> str:
    """The value's text. Of an integer that Python does not write down (4300 digits) it is how long that is.

    >>> written("a tag", 7)
    '7'
    """
    try:
        return str(value)
    except ValueError:
        if not isinstance(value, int):
            raise
    text = f"(an integer of about {int(value.bit_length() * math.log10(2)) + 1} digits)"
    tell(
        f"Too large for {name}: {text} is said in its place, and the rest of the record is sent.", f"{name}, too large"
    )
    return text


def _is_writable(value: int) -> bool:
    try:
        return bool(str(value))
    except ValueError:
        return False


def _text(name: str, value: Any) -> str | None:
    if value is None or isinstance(value, str):
        return value
    return _to_json(plain(name, value))


def _tool_call(name: str, pieces: list[Any]) -> str:
    """A tool call as the collector writes those that come as spans, so that one app's answers look alike."""
    arguments = "".join(piece if isinstance(piece, str) else _to_json(plain("a tool call", piece)) for piece in pieces)
    return f"[tool call {name}({arguments})]"


def _messages(value: Any) -> Any:
    """A text, or a list of messages with their roles; anything else as its JSON."""
    if value is None or isinstance(value, str):
        return value
    value = plain("input", value)
    if isinstance(value, list) and value and all(isinstance(entry, dict) and "role" in entry for entry in value):
        return value
    return value if isinstance(value, str) else _to_json(value)


def _tags(tags: dict[str, Any]) -> dict[str, str] | None:
    if len(tags) > _MOST_TAGS:
        tell(f"A record takes {_MOST_TAGS} tags; of {len(tags)} the last are left out.", "tags")
        tags = dict(list(tags.items())[:_MOST_TAGS])
    return {
        _cut(_TAG_NAME, written(_TAG_NAME, name), _LONGEST_TAG_NAME): _cut(
            "a tag", written("a tag", text), _LONGEST_TAG
        )
        for name, text in tags.items()
    } or None


def _cut(what: str, text: str, longest: int) -> str:
    if len(text) <= longest:
        return text
    tell(f"{what.capitalize()} is cut to {longest} characters; it has {len(text)}: {shown(text)}", f"{what}, too long")
    return text[:longest]


def _measure(name: str, value: Any, most: float) -> float | None:
    if value is None:
        return None
    number = _float(value)
    if 0 <= number <= most:
        return round(number, 9)
    _left_out(name, value, f"a number from 0 to {most}")
    return None


def _number(name: str, value: Any) -> int | None:
    if value is None:
        return None
    try:
        number = int(value)
    except Exception:  # noqa: BLE001 - somebody else's object
        number = -1
    if 0 <= number <= _MOST_TOKENS:
        return number
    _left_out(name, value, f"a whole number from 0 to {_MOST_TOKENS}")
    return None


def _status(value: Any) -> str | None:
    if value is None or (isinstance(value, str) and value in _STATUSES):
        return value
    _left_out("status", value, f"one of {', '.join(_STATUSES)}")
    return None


def _share(value: Any) -> float:
    share = _float(value)
    if 0.0 < share <= 1.0:
        return share
    _left_out("sample_rate", value, "a probability above 0, at most 1")
    return 1.0


def _moment(value: Any) -> float:
    """Seconds since 1970, of a number or a datetime; now for anything else.

    A number that cannot be true is sent as it is: the collector refuses the record in words, and at a moment that
    nobody named it would be false.
    """
    moment = _float(value)
    if math.isfinite(moment):
        return moment
    _left_out("started_at", value, "seconds since 1970 or a datetime")
    return time.time()


def _float(value: Any) -> float:
    """The number, of a datetime its seconds since 1970; NaN for what is neither."""
    try:
        return float(value.timestamp() if hasattr(value, "timestamp") else value)
    except Exception:  # noqa: BLE001 - somebody else's object
        return math.nan


def _id(value: Any) -> str:
    text = "" if value is None else written("id", value)
    if not text:
        tell("The id of a generation was taken away; the record got another, which feedback will not find.", "id")
    return short(text or ids.new())


def _left_out(name: str, value: Any, needed: str) -> None:
    tell(f"{name} is {needed}; {shown(value)} is left out, the rest of the record is sent.", name)


def _bytes(fields: dict[str, Any], large: bool = False) -> bytes:
    """UTF-8 JSON. Large fields are encoded in pieces: one C call on a megabyte would hold the interpreter for 5 ms."""
    return b"".join(map(_utf8, _pieces(fields))) if large else _utf8(_to_json(fields))


def _pieces(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield '"'
        for start in range(0, len(value), _LONG):
            yield encode_basestring(value[start : start + _LONG])[1:-1]
            if len(value) > _LONG:
                time.sleep(_BREATH_S)
        yield '"'
    elif isinstance(value, dict):
        for position, (name, entry) in enumerate(value.items()):
            yield f"{',' if position else '{'}{_to_json(str(name))}:"
            yield from _pieces(entry)
        yield "}" if value else "{}"
    elif isinstance(value, list):
        for position, entry in enumerate(value):
            yield "," if position else "["
            yield from _pieces(entry)
        yield "]" if value else "[]"
    else:
        yield _to_json(value)


def _utf8(text: str) -> bytes:
    try:
        return text.encode()
    except UnicodeEncodeError:  # lone surrogates have no UTF-8; a question mark has
        return text.encode("utf-8", "replace")
