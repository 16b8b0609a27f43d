"""Records in other people's exports: Langfuse, Phoenix, and logs of OpenAI-style requests."""

import contextlib
import hashlib
import json
from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from collector.contents import answer_of, asked_of, opened
from collector.conventions import FLATTENED, NAMES, PREFIXES
from collector.meaning import NOTHING_TOLD, SpanParts, record_of
from collector.record import BadRecord, Record
from collector.usage import tokens_of
from driftline.moment import SECOND, iso, parse

Item = Mapping[str, Any]


def native(item: Item) -> Record | None:
    """A record of Driftline's own; numbers may be texts, as in a CSV file.

    Raises:
        BadRecord: It is none.
    """
    if item.get("output") is None and item.get("error") is None:  # a blank cell is an empty answer
        raise BadRecord("one of output and error is required")
    given = {name: value for name, value in item.items() if value not in ("", None)}
    given |= {name: opened(given[name]) for name in ("tags", "input") if name in given}
    try:
        return msgspec.convert(given, Record, strict=False)
    except (msgspec.ValidationError, OverflowError, RecursionError) as error:
        raise BadRecord(str(error)) from None


def langfuse(item: Item) -> Record | None:
    """An observation of a Langfuse export or of its API; None where it is no generation.

    Raises:
        BadRecord: It has no id or start.
    """
    if str(_first(item, "type") or "GENERATION").upper() != "GENERATION":
        return None
    start, end, first = (_moment(_first(item, *names)) for names in (
        ("startTime", "start_time"), ("endTime", "end_time"), ("completionStartTime", "completion_start_time")
    ))  # fmt: skip
    used = tokens_of(opened(_first(item, "usageDetails", "usage_details", "usage")))
    cost = opened(_first(item, "costDetails", "cost_details")) or {}
    failed = _first(item, "level") == "ERROR"
    answer = opened(_first(item, "output"))
    return Record(
        id=_identity(_first(item, "id")),
        started_at=iso_of(start),
        model=_text(_first(item, "model", "providedModelName", "internalModel")),
        input=asked_of(opened(_first(item, "input"))) or None,
        output=None if answer is None else answer_of(answer),
        latency_ms=None if end is None or start is None else (end - start) / 1000,
        ttft_ms=None if first is None or start is None else (first - start) / 1000,
        input_tokens=used.get("input_tokens") or _whole(_first(item, "promptTokens", "inputUsage")),
        output_tokens=used.get("output_tokens") or _whole(_first(item, "completionTokens", "outputUsage")),
        cost_usd=_number(_first(item, "calculatedTotalCost", "totalCost", "total_cost") or _first(cost, "total")),
        status="error" if failed else "ok",
        error=(_text(_first(item, "statusMessage", "status_message")) or "error") if failed else None,
        session_id=_text(_first(item, "sessionId", "session_id", "traceId", "trace_id")),
        user_id=_text(_first(item, "userId", "user_id")),
    )


def phoenix(item: Item) -> Record | None:
    """A row of a Phoenix span dataframe (`attributes.…` columns); None where it is no call of a model.

    Raises:
        BadRecord: It cannot be a span.
    """
    attributes: dict[str, Any] = {}
    for name, value in item.items():
        if name.startswith("attributes.") and value is not None and value != "":
            _flatten(name.removeprefix("attributes."), opened(value), attributes)
    if item.get("span_kind"):
        attributes["openinference.span.kind"] = str(item["span_kind"])
    start, end = _moment(item.get("start_time")), _moment(item.get("end_time"))
    span = SpanParts(
        trace_id=str(item.get("context.trace_id") or ""), span_id=str(item.get("context.span_id") or ""),
        start=(start or 0) * 1000, end=(end or 0) * 1000,
        attributes={name: value for name, value in attributes.items() if name in NAMES},
        loose={name: value for name, value in attributes.items() if name not in NAMES and name.startswith(PREFIXES)},
        events=[], failed=item.get("status_code") == "ERROR", status_message=str(item.get("status_message") or ""),
    )  # fmt: skip
    record = record_of(span, NOTHING_TOLD)
    if record is not None:
        record.started_at = iso_of(start)
    return record


def openai(item: Item) -> Record | None:
    """A logged request and response of an OpenAI-style API, also a line of a batch's output; None where it is neither.

    Raises:
        BadRecord: There is no moment in it.
    """
    request = opened(_first(item, "request", "kwargs", "body")) or {}
    response = opened(_first(item, "response", "completion", "result")) or {}
    if not isinstance(request, dict) or not isinstance(response, dict):
        return None
    response = response["body"] if isinstance(response.get("body"), dict) else response
    used = tokens_of(response.get("usage"))
    asked = any(request.get(name) for name in ("messages", "input", "prompt"))
    told = response.get("choices") or response.get("output")
    failure = _first(item, "error") or response.get("error")
    at = _moment(_first(item, "started_at", "timestamp", "created_at", "start_time", "time") or response.get("created"))
    latency = _number(_first(item, "latency_ms", "duration_ms"))
    seconds = _number(_first(item, "latency", "duration", "latency_s", "duration_s", "response_time"))
    return Record(
        id=_identity(_first(item, "id", "request_id", "custom_id") or response.get("id")),
        started_at=iso_of(at),
        model=_text(response.get("model") or request.get("model")),
        input=(asked_of(request) or None) if asked else None,
        output=None if told is None else answer_of(told),
        latency_ms=latency if latency is not None else None if seconds is None else seconds * 1000,
        input_tokens=used.get("input_tokens"),
        output_tokens=used.get("output_tokens"),
        error=None if not failure else failure if isinstance(failure, str) else json.dumps(failure),
        user_id=_text(request.get("user")),
    )


FORMATS: dict[str, Callable[[Item], Record | None]] = {
    "driftline": native,
    "langfuse": langfuse,
    "phoenix": phoenix,
    "openai": openai,
}


def recognise(item: Item) -> str | None:
    """The name of the format that an item has, None where it has none of them."""
    if "context.span_id" in item or any(name.startswith("attributes.") for name in item):
        return "phoenix"
    if "started_at" in item and ("output" in item or "error" in item):
        return "driftline"
    if {"startTime", "traceId"} & item.keys() or {"start_time", "trace_id"} <= item.keys():
        return "langfuse"
    if {"request", "response", "kwargs", "body", "completion"} & item.keys():
        return "openai"
    return None


def iso_of(at: int | None) -> str:
    """A moment (microseconds) as a record carries it.

    Raises:
        BadRecord: There is none.
    """
    if at is None:
        raise BadRecord("the item says no moment at which it began")
    return iso(at)[:-1] + f"{at % 1000:03d}Z"


def _first(item: Any, *names: str) -> Any:
    if isinstance(item, dict):
        for name in names:
            if item.get(name) not in (None, ""):
                return item[name]
    return None


def _moment(value: Any) -> int | None:
    if value is None or value == "":
        return None
    number = _number(value)
    if number is not None:  # seconds, milliseconds or nanoseconds since 1970
        for limit, factor in ((1e11, SECOND), (1e14, 1000), (1e17, 1)):
            if abs(number) < limit:
                return int(number * factor)
        return int(number) // 1000 if abs(number) < 1e20 else None
    with contextlib.suppress(ValueError):
        return parse(value.isoformat() if hasattr(value, "isoformat") else str(value).replace(" UTC", "+00:00"))
    return None


def _identity(value: Any) -> str:
    name = _text(value)
    if not name:
        raise BadRecord("the item has no id")
    return name if len(name) <= 64 else hashlib.sha256(name.encode("utf-8", "replace")).hexdigest()


def _text(value: Any) -> str | None:
    return None if value is None else str(value)


def _number(value: Any) -> float | None:
    if value is None or isinstance(value, bool):
        return None
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        return None
    return number if number == number else None


def _whole(value: Any) -> int | None:
    number = _number(value)
    return None if number is None or abs(number) > 1e15 else int(number)


def _flatten(name: str, value: Any, into: dict[str, Any]) -> None:
    # A dataframe keeps `llm.input_messages` as a list of objects; on the wire each leaf has its own name.
    if isinstance(value, list) and any((name + ".").startswith(prefix) for prefix in FLATTENED):
        for index, item in enumerate(value):
            _flatten(f"{name}.{index}", item, into)
    elif isinstance(value, dict) and any(name.startswith(prefix) for prefix in FLATTENED):
        for key, item in value.items():
            _flatten(f"{name}.{key}", item, into)
    else:
        into[name] = value
