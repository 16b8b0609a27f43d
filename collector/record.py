"""The wire record, defined once: what `POST /v1/records` takes, and what every other way in is turned into."""

import json
from collections.abc import Iterator
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, Struct

from driftline.errors import BadInput, TooLarge
from driftline.moment import DAY, SECOND, YEAR, iso, parse

MAX_RECORDS = 10_000  # of one request
MAX_OBJECTS = 1_000_000  # of a JSON body: empty ones take twenty times more memory than bytes

_AHEAD = DAY  # a clock further off than this is wrong, not slow
_BEHIND = 2 * YEAR
_MAX_MS = 7 * DAY / 1000
_MAX_TOKENS = 1_000_000_000
_MAX_USD = 1_000_000.0
_MAX_TAGS = 64
_MAX_TAG = 1024

Scalar = str | int | float | bool | None


Name = Annotated[str, Meta(min_length=1, max_length=64)]
Moment = Annotated[str | float | int, Meta(description="RFC 3339, or seconds since 1970.")]
Messages = Annotated[str | list[dict[str, Any]], Meta(description="A prompt, or messages with role and content.")]
Milliseconds = Annotated[float, Meta(ge=0, le=_MAX_MS)]
Tokens = Annotated[int, Meta(ge=0, le=_MAX_TOKENS)]
Dollars = Annotated[float, Meta(ge=0, le=_MAX_USD)]
Share = Annotated[float, Meta(gt=0, le=1, description="Probability with which the call was kept.")]
Tags = Annotated[dict[str, Scalar], Meta(max_length=_MAX_TAGS, description='The tag "route" names the route.')]
Count = Annotated[int, Meta(ge=0, le=2**53)]


class Record(Struct, kw_only=True):
    """One production call. Only `id`, `started_at` and one of `output` and `error` are required.

    The first write of an `id` wins. `latency_ms` runs to the last byte, `ttft_ms` to the first content token. Without
    `variant` the model's name stands for it; without `status` it is "error" where `error` is set, else "ok".
    """

    id: Name
    started_at: Moment
    variant: str | None = None
    model: str | None = None
    input: Messages | None = None
    output: str | None = None
    latency_ms: Milliseconds | None = None
    ttft_ms: Milliseconds | None = None
    input_tokens: Tokens | None = None
    output_tokens: Tokens | None = None
    cost_usd: Dollars | None = None
    status: Literal["ok", "error", "aborted"] | None = None
    error: str | None = None
    session_id: str | None = None
    user_id: str | None = None
    tags: Tags | None = None
    sample_rate: Share = 1.0


class FeedbackRecord(Struct, kw_only=True):
    """A score (number or boolean), a label or the true answer (name "expected") for a Generation, early or late.

    Without `id` one follows from the content, so that sending again changes nothing.
    """

    generation_id: Name
    name: Name
    value: float | int | bool | str
    comment: str | None = None
    id: Name | None = None


class DropCount(Struct):
    """How many calls of a variant a client did not send since it started, for one reason."""

    variant: Annotated[str, Meta(max_length=128)]
    reason: Name
    n: Count = msgspec.field(name="count")


class Client(Struct):
    """A running SDK and what it left out."""

    id: Name
    counts: Annotated[list[DropCount], Meta(max_length=1000)] = []


class BadRecord(Exception):
    """One record cannot be taken; the message says why. Never fails the batch."""


class _Records(Struct):
    records: list[Record]
    client: Client | None = None


class _Feedbacks(Struct):
    feedback: list[FeedbackRecord]


_RECORDS = msgspec.json.Decoder(_Records)
_FEEDBACKS = msgspec.json.Decoder(_Feedbacks)


def refuse_dense(body: bytes) -> None:
    """Refuses JSON of more than MAX_OBJECTS objects and lists before it is read.

    Raises:
        TooLarge: It is.
    """
    if body.count(b"{") + body.count(b"[") > MAX_OBJECTS:
        raise TooLarge(f"The body holds more than {MAX_OBJECTS} objects and lists. Send smaller batches.")


def parse_records(body: bytes) -> tuple[list[Record | BadRecord], Client | None]:
    """The records of a request's body in order, a BadRecord where one cannot be read.

    Raises:
        BadInput: The body as a whole is not `{"records": […]}`.
        TooLarge: It holds too many records, or too many objects.
    """
    refuse_dense(body)
    try:
        whole = _RECORDS.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        loose = _loosely(body, "records")
        client = loose.get("client")
        try:
            known = None if client is None else msgspec.convert(client, Client)
        except msgspec.ValidationError as error:
            raise BadInput(f'"client" cannot be read: {error}.') from None
        return list(_each(loose["records"], Record)), known
    _refuse_many(whole.records)
    return list(whole.records), whole.client


def parse_feedback(body: bytes) -> list[FeedbackRecord | BadRecord]:
    """The feedback of a request's body in order, a BadRecord where one cannot be read.

    Raises:
        BadInput: The body as a whole is not `{"feedback": […]}`.
        TooLarge: It holds too many of them, or too many objects.
    """
    refuse_dense(body)
    try:
        whole = _FEEDBACKS.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return list(_each(_loosely(body, "feedback")["feedback"], FeedbackRecord))
    _refuse_many(whole.feedback)
    return list(whole.feedback)


def _loosely(body: bytes, name: str) -> dict[str, Any]:
    # The strict decoder fails as a whole. The one of the standard library also reads NaN and lone surrogates, so each
    # record can be told what is wrong with it.
    try:
        value = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise BadInput(f"The body is not JSON in UTF-8: {error}.") from None
    if not isinstance(value, dict) or not isinstance(value.get(name), list):
        raise BadInput(f'The body must be an object with a list "{name}".')
    _refuse_many(value[name])
    return value


def _refuse_many(items: list[Any]) -> None:
    if len(items) > MAX_RECORDS:
        raise TooLarge(f"The request holds {len(items)} items; at most {MAX_RECORDS} are taken. Send several requests.")


def _each(items: list[Any], kind: type[Any]) -> Iterator[Any]:
    for item in items:
        try:
            yield msgspec.convert(item, kind)
        except (msgspec.ValidationError, RecursionError, OverflowError) as error:
            yield BadRecord(str(error).replace(" - at `$.", " in `").replace(" - at `$`", ""))


def moment_of(value: str | float, now: int) -> int:
    """Microseconds of a record's `started_at`.

    Raises:
        BadRecord: It is no moment.
    """
    try:
        at = parse(value) if isinstance(value, str) else int(value * SECOND)
    except (ValueError, OverflowError):
        raise BadRecord(f"started_at {str(value)[:40]!r} is neither RFC 3339 nor seconds since 1970") from None
    if not isinstance(value, str) and now - _BEHIND <= value * 1000 <= now + _AHEAD:
        raise BadRecord(f"started_at {value} looks like milliseconds; send seconds")
    return at


def check_moment(at: int, now: int, behind: int = _BEHIND, instead: str = "import older logs instead") -> None:
    """Refuses a moment so far from `now` (all in microseconds) that the sender's clock must be wrong.

    Raises:
        BadRecord: Says both.
    """
    if not now - behind <= at <= now + _AHEAD:
        shown = iso(at) if 0 <= at < 250_000_000_000 * SECOND else f"{at} microseconds"
        raise BadRecord(f"started_at {shown} is too far from the server's clock, {iso(now)}; {instead}")


def check(record: Record) -> None:
    """Refuses what cannot be true.

    Raises:
        BadRecord: Says which field is wrong, and what would do.
    """
    if not name_fits(record.id):
        raise BadRecord("id must be 1 to 64 characters without NUL or broken Unicode")
    if record.latency_ms is not None and not 0 <= record.latency_ms <= _MAX_MS:
        raise BadRecord(_no_time("latency_ms", record.latency_ms))
    if record.ttft_ms is not None and not 0 <= record.ttft_ms <= _MAX_MS:
        raise BadRecord(_no_time("ttft_ms", record.ttft_ms))
    if record.input_tokens is not None and not 0 <= record.input_tokens <= _MAX_TOKENS:
        raise BadRecord(_no_count("input_tokens", record.input_tokens))
    if record.output_tokens is not None and not 0 <= record.output_tokens <= _MAX_TOKENS:
        raise BadRecord(_no_count("output_tokens", record.output_tokens))
    if record.cost_usd is not None and not 0 <= record.cost_usd <= _MAX_USD:
        raise BadRecord(f"cost_usd {record.cost_usd} must be a number of dollars from 0 to {_MAX_USD:.0f}")
    if not 0 < record.sample_rate <= 1:
        raise BadRecord(f"sample_rate {record.sample_rate} must be above 0 and at most 1")


def _no_time(name: str, value: float) -> str:
    return f"{name} {value} must be a number of milliseconds from 0 to a week"


def _no_count(name: str, value: int) -> str:
    return f"{name} {value} must be a whole number from 0 to {_MAX_TOKENS}"


def check_tags(tags: dict[str, Scalar]) -> None:
    """Refuses tags that are too many or too long.

    Raises:
        BadRecord: Says which.
    """
    if len(tags) > _MAX_TAGS:
        raise BadRecord(f"tags has {len(tags)} entries, at most {_MAX_TAGS} are taken")
    for key, value in tags.items():
        if len(key) > 128 or (type(value) is str and len(value) > _MAX_TAG):
            raise BadRecord(f"tag {key[:128]!r} is too long: 128 characters of name and {_MAX_TAG} of value are taken")


def name_fits(name: str) -> bool:
    """Whether a text can be a key: 1 to 64 characters that every database stores as they are."""
    if not 0 < len(name) <= 64 or "\x00" in name:
        return False
    return name.isascii() or not any("\ud800" <= c <= "\udfff" for c in name)


def record_schema() -> dict[str, Any]:
    """JSON Schema (2020-12) of one record: what senders may rely on."""
    schema = _standalone(Record)
    schema["anyOf"] = [{"required": ["output"]}, {"required": ["error"]}]
    return schema


def feedback_schema() -> dict[str, Any]:
    """JSON Schema (2020-12) of one feedback."""
    return _standalone(FeedbackRecord)


def client_schema() -> dict[str, Any]:
    """JSON Schema (2020-12) of what a client says of itself, beside its records."""
    schema = _standalone(Client)
    schema["properties"]["counts"]["items"] = _standalone(DropCount)
    return {"anyOf": [schema, {"type": "null"}]}


def _standalone(kind: type[Struct]) -> dict[str, Any]:
    _, parts = msgspec.json.schema_components([kind])
    own: dict[str, Any] = parts[kind.__name__]
    return own
