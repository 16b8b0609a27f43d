"""What each signal reads: the rows of a stream in their order of arrival, and what is in each row.

A stream is a route's records, the scores that an evaluator gave them, or what our own jobs measured for the monitor.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Select, literal
from sqlalchemy import select as plain_select
from sqlmodel import Session, col, func, select

from driftline.acts.signals import SIGNALS
from driftline.moment import SECOND
from driftline.store.tables import Generation, Monitor, Observation, Score

MOST_ROWS = 10_000  # of one window; more are sampled by their key, so that the cost does not grow with traffic
MOST_EMBEDDED = 64  # prompts of one block that are embedded
OUT_OF_ORDER = 100  # rows that several collectors may have stored in another order than they came
BARREN = 2000  # records without a value that are passed over at once
NO_VARIANT = 0

Timed = tuple[float, float | None, float | None]  # milliseconds (or money), input tokens, output tokens
Value = float | str | Timed | tuple[str, str]  # a number, a text, a latency, or a pair of answers


@dataclass(frozen=True, slots=True)
class Row:
    """One value of a stream. `place` counts arrivals (a Generation's seq, a Score's id); moments in microseconds."""

    place: int
    arrived_at: int
    started_at: int
    generation_seq: int
    variant_id: int
    value: Value
    rate: float  # inclusion probability
    stratum: str = ""  # where the monitor judges within strata

    @property
    def level(self) -> float:
        """The value as one number: milliseconds for latencies, NaN for texts."""
        value = self.value[0] if isinstance(self.value, tuple) else self.value
        return float(value) if isinstance(value, int | float) else math.nan


def most_of(monitor: Monitor) -> int:
    """How many rows of a block are looked at: fewer where each must be embedded."""
    return MOST_EMBEDDED if SIGNALS[monitor.signal].embeds else MOST_ROWS


def read_rows(
    session: Session, monitor: Monitor, *, after: int, before_us: int | None = None, up_to: int | None = None,
    most: int = MOST_ROWS,
) -> list[Row]:  # fmt: skip
    """The monitor's rows after a place, those that arrived before a moment and stand at or before `up_to`.

    In order of arrival. Where there are more than `most`, a uniform sample that every run agrees on.
    """
    stream = _stream(monitor)
    query = stream.query.where(stream.place > after, *_where_scored(session, monitor, after, up_to))
    if before_us is not None:
        query = query.where(stream.arrived < before_us)
    if up_to is not None:
        query = query.where(stream.place <= up_to)
    rows = session.connection().execute(query.order_by(stream.sample_key).limit(most)).all()
    found = [_row(monitor, *row) for row in rows]
    return sorted(found, key=lambda row: row.place)


def count_rows(session: Session, monitor: Monitor, *, after: int, up_to: int) -> int:
    """How many rows stand after one place and at or before another, looked at or not."""
    stream = _stream(monitor)
    places = stream.query.with_only_columns(stream.place).where(stream.place > after, stream.place <= up_to)
    rows = places.where(*_where_scored(session, monitor, after, up_to)).subquery()
    return session.connection().scalar(select(func.count()).select_from(rows)) or 0


def last_place(session: Session, monitor: Monitor, *, after: int, before_us: int) -> int:
    """The last place of the rows that follow a place and arrived before a moment; `after` where there are none."""
    stream = _stream(monitor)
    rows = (
        stream.query.with_only_columns(stream.place.label("place"))
        .where(stream.place > after, stream.arrived < before_us, *_where_scored(session, monitor, after))
        .subquery()
    )
    return session.connection().scalar(select(func.max(rows.c.place))) or after


def _where_scored(session: Session, monitor: Monitor, after: int, up_to: int | None = None) -> tuple[Any, ...]:
    """Between which keys the calls lie whose scores stand after a place: PostgreSQL leaves out the days of others.

    It does so only with keys that are known beforehand; a join looks into every day.
    """
    connection = session.connection()
    if SIGNALS[monitor.signal].reads != "scores" or connection.dialect.name != "postgresql":
        return ()
    seq = col(Score.generation_seq)
    of_monitor = plain_select(func.min(seq), func.max(seq)).where(
        col(Score.project_id) == monitor.project_id, col(Score.evaluator) == monitor.source, col(Score.id) > after
    )
    scored = of_monitor if up_to is None else of_monitor.where(col(Score.id) <= up_to)
    first, last = connection.execute(scored).one()
    return (col(Generation.seq) >= (first or 0), col(Generation.seq) <= (last or 0))


def stretch_end(
    session: Session, monitor: Monitor, *, after: int, items: int, span_us: int, before_us: int
) -> int | None:
    """The place at which the first `items` rows after a place end, or more rows where those span less time.

    None while they have not arrived before the moment. Whoever asks, and whenever, is told the same place.
    """
    first = first_arrival(session, monitor, after=after)
    if first is None or before_us <= first + span_us:
        return None  # so that the rows of a long reference are not looked through while it grows
    stream = _stream(monitor)
    places = (
        stream.query.with_only_columns(stream.place)
        .where(stream.place > after, stream.arrived < before_us)
        .order_by(stream.place)
        .limit(1)
    )
    counted = session.connection().scalar(places.offset(items - 1))
    if counted is None or (span_us > 0 and _newest(session, stream, before_us) < first + span_us):
        return None
    spanned = session.connection().scalar(places.where(stream.arrived >= first + span_us))
    return None if spanned is None else max(counted, spanned)


def _newest(session: Session, stream: "_Stream", before_us: int) -> int:
    """When the newest row arrived that did so before a moment; rows may be stored a little out of order."""
    rows = stream.query.with_only_columns(stream.arrived.label("arrived")).where(stream.arrived < before_us)
    last = rows.order_by(stream.place.desc()).limit(OUT_OF_ORDER).subquery()
    return session.connection().scalar(select(func.max(last.c.arrived))) or 0


def count_since(session: Session, monitor: Monitor, *, started_us: int, up_to: int) -> int:
    """How many rows began at or after a moment and stand at or before a place."""
    stream = _stream(monitor)
    rows = (
        stream.query.with_only_columns(stream.place)
        .where(stream.place <= up_to, stream.started >= started_us)
        .subquery()
    )
    return session.connection().scalar(select(func.count()).select_from(rows)) or 0


def first_arrival(session: Session, monitor: Monitor, *, after: int, skip: int = 0) -> int | None:
    """When the first row after a place arrived, or the one that follows `skip` others; None when there is none."""
    stream = _stream(monitor)
    rows = stream.query.with_only_columns(stream.arrived).where(stream.place > after).order_by(stream.place)
    return session.connection().scalar(rows.offset(skip).limit(1))


def count_records(session: Session, monitor: Monitor, *, after: int, most: int) -> int:
    """How many records of the monitor's route stand after a place, with a value for it or not; counted up to `most`."""
    counted = _of_route(monitor, after).limit(most).subquery()
    return session.connection().scalar(select(func.count()).select_from(counted)) or 0


def _of_route(monitor: Monitor, after: int) -> Any:
    """The places of all records of the monitor's route after one."""
    return plain_select(col(Generation.seq)).where(
        col(Generation.project_id) == monitor.project_id,
        col(Generation.route) == monitor.route,
        col(Generation.seq) > after,
    )


def barren_end(session: Session, monitor: Monitor, *, after: int, before_us: int) -> int | None:
    """The last of the next `BARREN` records of the route, where none of them has a value for the monitor, else None.

    Whoever passes over them need not look through them again and again for a first value.
    """
    if SIGNALS[monitor.signal].reads != "traffic":
        return None
    of_route = _of_route(monitor, after).order_by(col(Generation.seq))
    last = session.connection().scalar(of_route.offset(BARREN - 1).limit(1))  # by the index alone
    if last is None or session.get_one(Generation, last).received_at >= before_us:
        return None
    stream = _stream(monitor)
    value = stream.query.with_only_columns(stream.place).where(stream.place > after, stream.place <= last).limit(1)
    return int(last) if session.connection().scalar(value) is None else None


@dataclass(frozen=True, slots=True)
class _Stream:
    query: Select[Any]
    place: Any
    arrived: Any
    started: Any
    sample_key: Any


def _stream(monitor: Monitor) -> _Stream:
    """The monitor's stream as a query, with the columns that order and date it."""
    reads = SIGNALS[monitor.signal].reads
    if reads == "runs":
        return _runs(monitor)
    started = col(Generation.started_at)
    columns: Sequence[Any]
    if reads == "scores":
        place, arrived = col(Score.id), col(Score.arrived_at)
        columns = (place, arrived, _tag(monitor), Score.value)
        query = _select(columns).join(Score, col(Score.generation_seq) == col(Generation.seq))
        query = query.where(
            col(Score.project_id) == monitor.project_id,
            col(Score.evaluator) == monitor.source,
            col(Score.value).is_not(None),
        )
    else:
        place, arrived = col(Generation.seq), col(Generation.received_at)
        columns = (place, arrived, _tag(monitor), *_columns(monitor.signal))
        query = _select(columns)
        for condition in _conditions(monitor.signal):
            query = query.where(condition)
    query = query.where(col(Generation.project_id) == monitor.project_id, col(Generation.route) == monitor.route)
    if monitor.variant_id is not None:
        query = query.where(col(Generation.variant_id) == monitor.variant_id)
    for name, text in monitor.params.get("tags", {}).items():
        query = query.where(col(Generation.tags)[name].as_string() == text)
    return _Stream(query, place, arrived, started, col(Generation.sample_key))


def _runs(monitor: Monitor) -> _Stream:
    place, arrived = col(Observation.id), col(Observation.created_at)
    zero, sure = literal(0), literal(1.0)
    columns: Sequence[Any] = (
        arrived, zero, func.coalesce(Observation.variant_id, NO_VARIANT), sure, place, arrived, zero,
        col(Observation.value), col(Observation.detail),
    )  # fmt: skip
    query = plain_select(*columns).select_from(Observation)
    query = query.where(col(Observation.monitor_id) == monitor.id, col(Observation.value).is_not(None))
    return _Stream(query, place, arrived, arrived, place)


def _select(columns: Sequence[Any]) -> Select[Any]:
    fixed = (col(Generation.started_at), col(Generation.seq), col(Generation.variant_id), col(Generation.sample_rate))
    return plain_select(*fixed, *columns).select_from(Generation)


def _tag(monitor: Monitor) -> Any:
    name = monitor.params.get("split_by", "")
    return col(Generation.tags)[name].as_string() if name else literal(0)


def _columns(signal: str) -> tuple[Any, ...]:
    read, written = col(Generation.input_tokens), col(Generation.output_tokens)
    prompt = (col(Generation.input),)
    return {
        "errors": (col(Generation.status),),
        "empty": (col(Generation.output_chars), col(Generation.status)),
        "latency": (col(Generation.latency_ms), read, written),
        "ttft": (col(Generation.ttft_ms), read),
        "token_time": (col(Generation.latency_ms), col(Generation.ttft_ms), written),
        "cost": (col(Generation.cost_nano),),
        "prompt_length": (read, col(Generation.input_chars)),
        "answer_length": (written, col(Generation.output_chars)),
        "prompt_language": prompt,
        "prompt_clusters": prompt,
        "prompt_embedding": prompt,
        "coverage": prompt,
    }[signal]


def _conditions(signal: str) -> tuple[Any, ...]:
    """What a record must have to be part of the stream."""
    answered = col(Generation.status) == "ok"
    return {
        "latency": (answered, col(Generation.latency_ms).is_not(None)),
        "ttft": (answered, col(Generation.ttft_ms).is_not(None)),
        "token_time": (answered, col(Generation.latency_ms).is_not(None), col(Generation.output_tokens) > 1),
        "cost": (col(Generation.cost_nano).is_not(None),),
        "answer_length": (answered,),
        "prompt_language": (col(Generation.input).is_not(None),),
        "prompt_clusters": (col(Generation.input).is_not(None),),
        "prompt_embedding": (col(Generation.input).is_not(None),),
        "coverage": (col(Generation.input).is_not(None),),
    }.get(signal, ())


def _row(
    monitor: Monitor, started_at: int, seq: int, variant_id: int, rate: float, place: int, arrived: int, tag: Any,
    *values: Any,
) -> Row:  # fmt: skip
    return Row(
        place, arrived, started_at, seq, variant_id, _value(monitor, *values), rate,
        _stratum(monitor, started_at, tag),
    )  # fmt: skip


def _value(monitor: Monitor, *values: Any) -> Value:
    match monitor.signal:
        case "errors":
            return float(values[0] == "error")
        case "empty":
            return float(values[0] == 0 and values[1] == "ok")
        case "latency":
            return values[0], values[1], values[2]
        case "ttft":
            return values[0], values[1], None
        case "token_time":
            return max(0.0, values[0] - (values[1] or 0.0)) / (values[2] - 1), None, None
        case "cost":
            return float(values[0]), None, None
        case "prompt_length" | "answer_length":
            return float(values[0] if values[0] is not None else values[1])
        case "invalid_json" | "refusals":
            return 1.0 - float(values[0])
        case "prompt_language" | "prompt_clusters" | "prompt_embedding" | "coverage":
            return str(values[0])
        case "answers":
            return str(values[1]["before"]), str(values[1]["now"])
        case _:
            return float(values[0])


def _stratum(monitor: Monitor, started_at: int, tag: Any) -> str:
    """The part of the day or week in which the call began (UTC), or its value of the tag."""
    if monitor.params.get("split_by"):
        return str(tag) if tag is not None else "(none)"
    season = monitor.params.get("season", "none")
    if season == "none":
        return ""
    moment = datetime.fromtimestamp(started_at // SECOND, UTC)
    parts = {"hour": f"{moment:%H}:00", "weekday": f"{moment:%a}", "hour_of_week": f"{moment:%a} {moment:%H}:00"}
    return parts[season]
