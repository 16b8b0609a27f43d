"""What each signal reads: the rows of a route in their order of arrival, and the number in each row."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Select
from sqlalchemy import select as plain_select
from sqlmodel import Session, col, func, select

from driftline.store.tables import Generation, Monitor, Score

MOST_ROWS = 10_000  # of one window; more are sampled by their key, so that the cost does not grow with traffic

Value = float | tuple[float, float | None, float | None]  # for latencies: milliseconds, input tokens, output tokens


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

    @property
    def level(self) -> float:
        """The value as one number: milliseconds for latencies."""
        return self.value[0] if isinstance(self.value, tuple) else self.value


def read_rows(
    session: Session, monitor: Monitor, *, after: int, before_us: int | None = None, up_to: int | None = None,
    most: int = MOST_ROWS,
) -> list[Row]:  # fmt: skip
    """The monitor's rows after a place, those that arrived before a moment and stand at or before `up_to`.

    In order of arrival. Where there are more than `most`, a uniform sample that every run agrees on.
    """
    query, place, arrived = _stream(monitor)
    query = query.where(place > after)
    if before_us is not None:
        query = query.where(arrived < before_us)
    if up_to is not None:
        query = query.where(place <= up_to)
    rows = session.connection().execute(query.order_by(col(Generation.sample_key)).limit(most)).all()
    found = [_row(monitor, *row) for row in rows]
    return sorted(found, key=lambda row: row.place)


def last_place(session: Session, monitor: Monitor, *, after: int, before_us: int) -> int:
    """The last place of the rows that follow a place and arrived before a moment; `after` where there are none."""
    query, place, arrived = _stream(monitor)
    rows = query.with_only_columns(place.label("place")).where(place > after, arrived < before_us).subquery()
    return session.connection().scalar(select(func.max(rows.c.place))) or after


def stretch_end(
    session: Session, monitor: Monitor, *, after: int, items: int, span_us: int, before_us: int
) -> int | None:
    """The place at which the first `items` rows after a place end, or more rows where those span less time.

    None while they have not arrived before the moment. Whoever asks, and whenever, is told the same place.
    """
    first = first_arrival(session, monitor, after=after)
    if first is None:
        return None
    query, place, arrived = _stream(monitor)
    places = query.with_only_columns(place).where(place > after, arrived < before_us).order_by(place).limit(1)
    counted = session.connection().scalar(places.offset(items - 1))
    spanned = session.connection().scalar(places.where(arrived >= first + span_us))
    return None if counted is None or spanned is None else max(counted, spanned)


def count_since(session: Session, monitor: Monitor, *, started_us: int, up_to: int) -> int:
    """How many rows began at or after a moment and stand at or before a place."""
    query, place, _ = _stream(monitor)
    rows = query.with_only_columns(place).where(place <= up_to, col(Generation.started_at) >= started_us).subquery()
    return session.connection().scalar(select(func.count()).select_from(rows)) or 0


def first_arrival(session: Session, monitor: Monitor, *, after: int, skip: int = 0) -> int | None:
    """When the first row after a place arrived, or the one that follows `skip` others; None when there is none."""
    query, place, arrived = _stream(monitor)
    rows = query.with_only_columns(arrived).where(place > after).order_by(place)
    return session.connection().scalar(rows.offset(skip).limit(1))


def _stream(monitor: Monitor) -> tuple[Select[Any], Any, Any]:
    """The monitor's stream as a query, its column of places and its column of arrival moments."""
    columns: Sequence[Any]
    if monitor.signal == "quality":
        place, arrived = col(Score.id), col(Score.arrived_at)
        columns = (place, arrived, Score.value)
        query = _select(columns).join(Score, col(Score.generation_seq) == col(Generation.seq))
        query = query.where(
            col(Score.project_id) == monitor.project_id,
            col(Score.evaluator) == monitor.source,
            col(Score.value).is_not(None),
        )
    else:
        place, arrived = col(Generation.seq), col(Generation.received_at)
        columns = (place, arrived, *_columns(monitor.signal))
        query = _select(columns)
        if monitor.signal in ("latency", "ttft"):
            query = query.where(col(Generation.status) == "ok", _columns(monitor.signal)[0].is_not(None))
    query = query.where(col(Generation.project_id) == monitor.project_id, col(Generation.route) == monitor.route)
    if monitor.variant_id is not None:
        query = query.where(col(Generation.variant_id) == monitor.variant_id)
    return query, place, arrived


def _select(columns: Sequence[Any]) -> Select[Any]:
    fixed = (col(Generation.started_at), col(Generation.seq), col(Generation.variant_id), col(Generation.sample_rate))
    return plain_select(*fixed, *columns).select_from(Generation)


def _columns(signal: str) -> tuple[Any, ...]:
    tokens = (col(Generation.input_tokens), col(Generation.output_tokens))
    return {
        "errors": (col(Generation.status),),
        "empty": (col(Generation.output_chars), col(Generation.status)),
        "latency": (col(Generation.latency_ms), *tokens),
        "ttft": (col(Generation.ttft_ms), tokens[0]),
    }[signal]


def _row(
    monitor: Monitor, started_at: int, seq: int, variant_id: int, rate: float, place: int, arrived: int, *values: Any
) -> Row:
    value: Value
    match monitor.signal:
        case "errors":
            value = float(values[0] == "error")
        case "empty":
            value = float(values[0] == 0 and values[1] == "ok")
        case "latency":
            value = (values[0], values[1], values[2])
        case "ttft":
            value = (values[0], values[1], None)
        case _:
            value = float(values[0])
    return Row(place, arrived, started_at, seq, variant_id, value, rate)
