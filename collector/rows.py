"""From a checked record to the row that is stored, with the project's rule for texts applied."""

import hashlib
from collections.abc import Callable

import msgspec
from msgspec import Struct

from collector.messages import MAX_CHARS, bounded, clean, messages_of, shorten, total_chars
from collector.record import BadRecord, FeedbackRecord, Record, Scalar, check, moment_of, name_fits
from collector.redact import pseudonym, redact
from driftline.store.hashing import content_hash, sample_key

UNKNOWN = "unknown"  # the variant of a record that names neither variant nor model
_ENCODE = msgspec.json.Encoder()
_MAX_NAME = 200  # of models, sessions and users
_MAX_ERROR = 8_192


class Row(Struct):
    """A Generation to be stored; all fields but the last are the table's columns in the order they are written."""

    project_id: int
    id: str
    started_at: int
    received_at: int  # stamped by the writer
    variant_id: int  # looked up by the writer
    route: str
    model: str | None
    input: str | None
    output: str | None
    input_chars: int
    output_chars: int
    latency_ms: float | None
    ttft_ms: float | None
    input_tokens: int | None
    output_tokens: int | None
    cost_nano: int | None
    status: str
    error: str | None
    session_id: str | None
    user_id: str | None
    tags: str  # JSON object
    sample_rate: float
    sample_key: int
    variant: str


class FeedbackRow(Struct):
    """A Feedback to be stored; fields as above."""

    project_id: int
    id: str
    generation_id: str
    name: str
    value: float | None
    label: str | None
    comment: str | None
    received_at: int


def _hashed(text: str) -> str:
    return "sha256:" + hashlib.sha256(text.encode()).hexdigest()


def _same(text: str) -> str:
    return text


def _nothing(_text: str) -> None:
    return None


TEXT_RULES: dict[str, Callable[[str], str | None]] = {
    "full": _same,
    "redacted": redact,
    "hashed": _hashed,
    "none": _nothing,
}


class Privacy:
    """A project's `store_text` as two rules: what becomes of texts, and of names such as a user's."""

    def __init__(self, store_text: str) -> None:
        self.text = TEXT_RULES[store_text]
        self.name = _same if store_text == "full" else pseudonym

    def optional(self, text: str | None, limit: int) -> str | None:
        """A text that may be absent, cleaned, cut to `limit` and treated by the rule."""
        return None if text is None else self.text(shorten(clean(text), limit))

    def short_name(self, name: str | None) -> str | None:
        """A session's or user's name, None where it is absent or empty."""
        return self.name(clean(name)[:_MAX_NAME]) if name else None

    def tags(self, tags: dict[str, Scalar] | None) -> str:
        """Flat tags as a JSON object of strings."""
        if not tags:
            return "{}"
        plain = {clean(k): self.name(clean(v if type(v) is str else _scalar(v))) for k, v in tags.items()}
        return _ENCODE.encode(plain).decode()

    def prompt(self, record: Record) -> tuple[str | None, int]:
        """The messages as JSON, None where texts are not kept, and their length in characters as sent."""
        if record.input is None:
            return None, 0
        messages = messages_of(record.input)
        chars = total_chars(messages)
        if self.text is _nothing:
            return None, chars
        kept = [{"role": m["role"], "content": self.text(m["content"])} for m in bounded(messages)]
        return _ENCODE.encode(kept).decode(), chars


def _scalar(value: Scalar) -> str:
    return str(value).lower() if isinstance(value, bool) or value is None else str(value)


def row_of(record: Record, project_id: int, privacy: Privacy, now: int) -> Row:
    """The row of a record; `now` in microseconds.

    Raises:
        BadRecord: The record cannot be true; says why.
    """
    check(record)
    started = moment_of(record.started_at, now)
    prompt, input_chars = privacy.prompt(record)
    output = record.output
    model = clean(record.model)[:_MAX_NAME] if record.model else None
    route = record.tags.get("route") if record.tags else None
    return Row(
        project_id, record.id, started, now, 0,
        clean(route)[:64] if isinstance(route, str) and route else "default",
        model, prompt,
        None if output is None else privacy.optional(output, MAX_CHARS),
        input_chars, len(output or ""),
        record.latency_ms, record.ttft_ms, record.input_tokens, record.output_tokens,
        None if record.cost_usd is None else round(record.cost_usd * 1e9),
        record.status or ("ok" if record.error is None else "error"),
        privacy.optional(record.error, _MAX_ERROR),
        privacy.short_name(record.session_id), privacy.short_name(record.user_id),
        privacy.tags(record.tags), record.sample_rate, sample_key(record.id),
        clean(record.variant or model or UNKNOWN)[:128],
    )  # fmt: skip


def feedback_row(record: FeedbackRecord, project_id: int, privacy: Privacy, now: int) -> FeedbackRow:
    """The row of a feedback: a number or boolean is its value, a text its label.

    Without an id one is derived from the content, so the same feedback sent twice is stored once.

    Raises:
        BadRecord: Says what is wrong.
    """
    for field, text in (("generation_id", record.generation_id), ("name", record.name), ("id", record.id or "derived")):
        if not name_fits(text):
            raise BadRecord(f"{field} must be 1 to 64 characters without NUL or broken Unicode")
    value, label = record.value, None
    if isinstance(value, str):
        label = privacy.optional(value, MAX_CHARS)
        if label is None:
            raise BadRecord("this project keeps no texts, so the value must be a number or a boolean")
    elif not abs(value) <= 1e15:
        raise BadRecord(f"value {value} must be a finite number")
    identity = record.id or content_hash([record.generation_id, record.name, value, clean(record.comment or "")])[:32]
    return FeedbackRow(
        project_id, identity, record.generation_id, record.name,
        None if isinstance(value, str) else float(value),
        label, privacy.optional(record.comment, _MAX_ERROR), now,
    )  # fmt: skip
