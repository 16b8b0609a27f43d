"""From a checked record to the row that is stored, with the project's rule for texts applied."""

import hashlib
from collections.abc import Callable
from functools import lru_cache

import msgspec
from msgspec import Struct

from collector.messages import MAX_CHARS, Message, bounded, clean, messages_of, shorten, total_chars
from collector.record import BadRecord, FeedbackRecord, Record, Scalar, check, name_fits
from collector.redact import pseudonym, redact
from driftline.store.hashing import content_hash, sample_key

UNKNOWN = "unknown"  # the variant of a record that names neither variant nor model
_ENCODE = msgspec.json.Encoder()
_MAX_NAME = 200  # of models, sessions and users
_MAX_ERROR = 8_192


class Row(Struct, array_like=True):  # by place, where one process hands it to another
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


def _nothing(_text: str) -> None:
    return None


TEXT_RULES: dict[str, Callable[[str], str | None]] = {
    "full": clean,
    "redacted": redact,
    "hashed": _hashed,
    "none": _nothing,
}


@lru_cache(maxsize=4_096)
def _named(name: str) -> str:
    return clean(name)


@lru_cache(maxsize=4_096)
def _stood_in(name: str) -> str:
    return pseudonym(clean(name))


class Privacy:
    """A project's `store_text` as two rules: what becomes of texts, and of names such as a user's."""

    def __init__(self, store_text: str) -> None:
        self.store_text = store_text
        self._rule = TEXT_RULES[store_text]
        self.name: Callable[[str], str] = _named if store_text == "full" else _stood_in  # the same names come often

    def text(self, text: str | None, limit: int = MAX_CHARS) -> str | None:
        """A text as it may be stored, None where none is."""
        return None if text is None else self._rule(clean(shorten(text, limit)))

    def tags(self, tags: dict[str, Scalar] | None) -> dict[str, str]:
        """Tags as they may be stored. A provider's id of a response is not a person's."""
        kept: dict[str, str] = {}
        if not tags:
            return kept
        name = self.name
        for key, value in tags.items():
            text = value if type(value) is str else _scalar(value)
            kept[name(key)] = clean(text) if key == "response_id" else name(text)
        return kept


def row_of(record: Record, started: int, project_id: int, privacy: Privacy, now: int) -> Row:
    """The row of a record that started at `started`; moments in microseconds.

    Raises:
        BadRecord: The record cannot be true; says why.
    """
    check(record)
    messages = messages_of(record.input)
    input_chars = total_chars(messages)
    tags = privacy.tags(record.tags)
    name = privacy.name
    return Row(
        project_id, record.id, started, now, 0,
        tags["route"][:64] if tags.get("route") else "default",
        name(record.model)[:_MAX_NAME] if record.model else None,
        _prompt(bounded(messages, input_chars), privacy), privacy.text(record.output),
        input_chars, len(record.output or ""),
        record.latency_ms, record.ttft_ms, record.input_tokens, record.output_tokens,
        None if record.cost_usd is None else round(record.cost_usd * 1e9),
        record.status or ("ok" if record.error is None else "error"), privacy.text(record.error, _MAX_ERROR),
        name(record.session_id)[:_MAX_NAME] if record.session_id else None,
        name(record.user_id)[:_MAX_NAME] if record.user_id else None,
        _ENCODE.encode(tags).decode(), record.sample_rate, sample_key(record.id),
        name(record.variant or record.model or UNKNOWN)[:128],
    )  # fmt: skip


def _prompt(messages: list[Message], privacy: Privacy) -> str | None:
    kept = [{"role": clean(m["role"]), "content": privacy.text(m["content"])} for m in messages]
    return _ENCODE.encode(kept).decode() if kept and kept[0]["content"] is not None else None


def _scalar(value: Scalar) -> str:
    return str(value).lower() if isinstance(value, bool) or value is None else str(value)


def _derived_id(record: FeedbackRecord) -> str:
    value = clean(record.value) if isinstance(record.value, str) else record.value
    return content_hash([record.generation_id, record.name, value, clean(record.comment or "")])[:32]


def feedback_row(record: FeedbackRecord, project_id: int, privacy: Privacy, now: int) -> FeedbackRow:
    """The row of a feedback: a number or boolean is its value, a text its label.

    Without an id one is derived from the content, so the same feedback sent twice is stored once.

    Raises:
        BadRecord: Says what is wrong.
    """
    for field, text in (("generation_id", record.generation_id), ("name", record.name), ("id", record.id or "derived")):
        if not name_fits(text):
            raise BadRecord(f"{field} must be 1 to 64 characters without NUL or broken Unicode")
    value, label, comment = record.value, None, record.comment
    if isinstance(value, str):
        label = privacy.text(value)
        if label is None:
            raise BadRecord("this project keeps no texts, so the value must be a number or a boolean")
    elif not abs(value) <= 1e15:
        raise BadRecord(f"value {value} must be a finite number")
    identity = record.id or _derived_id(record)
    return FeedbackRow(
        project_id, identity, record.generation_id, record.name,
        None if isinstance(value, str) else float(value),
        label, privacy.text(comment, _MAX_ERROR), now,
    )  # fmt: skip
