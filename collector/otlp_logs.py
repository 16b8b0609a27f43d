"""OTLP log records: evaluations become Feedback, message events join their spans."""

from collections.abc import Callable
from typing import Any

import msgspec
from google.protobuf.message import DecodeError
from msgspec import Struct

from collector import wire
from collector.contents import Attributes, answer_of, message_of, opened
from collector.conventions import DETAILS_EVENTS, EVALUATION_EVENT, MESSAGE_EVENTS
from collector.items import Refused, items_of
from collector.late import MessageRow
from collector.meaning import id_of
from collector.messages import Message, bounded, messages_of, shorten, text_of, total_chars
from collector.record import BadRecord, FeedbackRecord
from collector.rows import FeedbackRow, feedback_row
from collector.sender import Sender
from collector.values import (
    JsonPair,
    JsonValue,
    Nanoseconds,
    hexadecimal,
    json_attributes,
    json_plain,
    plain,
    proto_attributes_all,
    whole,
)
from driftline.store.hashing import content_hash


class LogParts(Struct):
    """A log record as it was sent; the time in nanoseconds since the epoch."""

    name: str
    at: int
    trace_id: str
    span_id: str
    attributes: Attributes
    body: Any


class Taken(Struct):
    """What a log request brought."""

    messages: list[MessageRow]
    feedback: list[FeedbackRow]
    refused: Refused


def read_log_records(body: bytes, sender: Sender, now: int, *, as_json: bool) -> Taken:
    """The messages and evaluations of a log request, and what is refused.

    Raises:
        Undecodable: The body is no OTLP log request.
    """
    taken = Taken([], [], Refused())
    read: Callable[[Any], LogParts] = _json_record if as_json else _proto_record
    for _, item in items_of(body, "resourceLogs", "scopeLogs", "logRecords", as_json=as_json):
        try:
            record = read(item)
            if record.name == EVALUATION_EVENT:
                taken.feedback.append(_evaluation(record, sender, now))
            elif record.name in MESSAGE_EVENTS or record.name in DETAILS_EVENTS:
                taken.messages += _messages(record, sender, now)
            else:
                raise BadRecord(
                    f"only messages and {EVALUATION_EVENT} are taken of log records; "
                    f"send others ({record.name[:80] or 'without an event name'}) to a log store"
                )
        except (BadRecord, DecodeError, msgspec.ValidationError, ValueError) as error:
            taken.refused.add(str(error))
    return taken


def _evaluation(record: LogParts, sender: Sender, now: int) -> FeedbackRow:
    said = {name.removeprefix("gen_ai.evaluation."): value for name, value in record.attributes.items()}
    if record.span_id:
        generation_id = id_of(record.trace_id, record.span_id)
    else:
        generation_id = str(record.attributes.get("gen_ai.response.id") or "")
    value, label = said.get("score.value"), said.get("score.label")
    if isinstance(value, str) or (value is None and label is None):
        raise BadRecord("an evaluation needs a number gen_ai.evaluation.score.value or a text score.label")
    name = str(said.get("name") or "")
    told = FeedbackRecord(
        generation_id=generation_id,
        name=name,
        value=value if value is not None else str(label),
        comment=text_of(said.get("explanation")) or None,
        id=content_hash([generation_id, name, value if value == value else "NaN", label])[:32],
    )
    row = feedback_row(told, sender.project_id, sender.privacy, now)
    if value is not None and label is not None:
        row.label = sender.privacy.text(str(label), 1024)
    return row


def _messages(record: LogParts, sender: Sender, now: int) -> list[MessageRow]:
    generation_id = id_of(record.trace_id, record.span_id)
    answers: list[str] = []
    prompt: list[Message] = []
    if record.name in DETAILS_EVENTS:
        given = record.attributes
        system = given.get("gen_ai.system_instructions")
        if system is not None:
            prompt.append({"role": "system", "content": text_of(opened(system))})
        prompt += messages_of(opened(given.get("gen_ai.input.messages", given.get("gen_ai.prompt"))))
        answer = given.get("gen_ai.output.messages", given.get("gen_ai.completion"))
        answers += [] if answer is None else [answer_of(opened(answer))]
    else:
        message = message_of(record.name, record.body if record.body is not None else record.attributes)
        if MESSAGE_EVENTS[record.name] is None:
            answers.append(message["content"])
        else:
            prompt.append(message)
    made = []
    for place, (role, content) in enumerate(
        [*((m["role"], m["content"]) for m in bounded(prompt, total_chars(prompt))), *((None, a) for a in answers)]
    ):
        kept = sender.privacy.text(shorten(content))
        if kept is not None:
            at = (record.at // 1000 or now) + place
            made.append(MessageRow(sender.project_id, generation_id, at, role, kept, len(content)))
    return made


def _proto_record(item: bytes) -> LogParts:
    record = wire.LogRecord.FromString(item)
    attributes = proto_attributes_all(record.attributes)
    body = plain(record.body) if record.HasField("body") else None
    return LogParts(
        record.event_name or str(attributes.get("event.name") or ""), record.time or record.observed,
        record.trace_id.hex(), record.span_id.hex(), attributes, body,
    )  # fmt: skip


class _JsonRecord(Struct, rename="camel"):
    time_unix_nano: Nanoseconds = None
    observed_time_unix_nano: Nanoseconds = None
    trace_id: str | None = None
    span_id: str | None = None
    event_name: str | None = None
    attributes: list[JsonPair] | None = None
    body: JsonValue | None = None


def _json_record(item: Any) -> LogParts:
    record = msgspec.convert(item, _JsonRecord)
    attributes = json_attributes(record.attributes)
    return LogParts(
        record.event_name or str(attributes.get("event.name") or ""),
        whole(record.time_unix_nano) or whole(record.observed_time_unix_nano),
        hexadecimal(record.trace_id or ""), hexadecimal(record.span_id or ""), attributes, json_plain(record.body),
    )  # fmt: skip
