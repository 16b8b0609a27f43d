"""A store with a long history: many short calls that lie evenly over days, and rollups as the clock leaves them."""

import secrets
from collections.abc import Iterator
from typing import Any

import numpy as np
from sqlalchemy import Engine, text

from benchmarks.ingest import insert_raw, rows_of
from collector.insert import COLUMNS
from collector.rollups import sketch
from driftline.moment import DAY, HOUR, MINUTE, now_us
from driftline.store.engine import open_engine
from driftline.store.tables import Rollup
from scheduler.tidying import FOLD_AFTER, HOURS_AFTER, QUARTER, QUARTERS_AFTER

VARIANTS = 3
ROUTES = ("chat", "search")
BATCH = 5_000
_FAILS = 100  # one call of so many
_PLACE = {name: COLUMNS.index(name) for name in COLUMNS}


def fill(url: str, n: int, days: int) -> None:
    """Stores `n` calls of three variants on two routes over the days before now, and their rollups.

    The rollups are what the collector and the clock's tidying make of these very calls: a row a call in the last hour,
    then a row a minute, quarter of an hour and hour, each with sketches of all its latencies.
    """
    engine = open_engine(url)
    now = now_us()
    latencies = np.random.default_rng(1).gamma(2.0, 200.0, n).astype(np.float32)
    with engine.begin() as connection:
        for number in range(VARIANTS):
            names = "project_id, name, content_hash, spec, state, build_state, measured, created_at"
            values = f"1, 'v{number}', '{number}', '{{}}', 'production', 'built', '{{}}', 0"
            connection.execute(text(f"INSERT INTO variant ({names}) VALUES ({values})"))
    borrowed = engine.raw_connection()
    driver: Any = borrowed.driver_connection
    for start in range(0, n, BATCH):
        numbers = range(start, min(start + BATCH, n))
        insert_raw(driver, [_row(k, _began(k, n, days, now), float(latencies[k])) for k in numbers])
    borrowed.close()
    rollups = list(_rollups(latencies, days, now))
    with engine.begin() as connection:
        for start in range(0, len(rollups), BATCH):
            connection.execute(Rollup.__table__.insert(), rollups[start : start + BATCH])  # type: ignore[attr-defined]
    _settle(engine)
    engine.dispose()


def _began(number: int, n: int, days: int, now: int) -> int:
    return now - (n - number) * (days * DAY // n)


_TEMPLATE: list[Any] = []


def _row(number: int, at: int, latency_ms: float) -> tuple[Any, ...]:
    if not _TEMPLATE:
        _TEMPLATE.extend(rows_of(1)[0])
    row = list(_TEMPLATE)
    for name, value in (
        ("id", secrets.token_hex(24)), ("started_at", at), ("received_at", at), ("input", "short"),
        ("output", "short"), ("tags", "{}"), ("variant_id", 1 + number % VARIANTS), ("route", ROUTES[number % 2]),
        ("session_id", f"session-{number // 8}"), ("user_id", f"user-{number % 1000}"), ("latency_ms", latency_ms),
        ("ttft_ms", latency_ms / 4), ("input_tokens", 180), ("output_tokens", 110), ("cost_nano", 1_000),
        ("status", "ok" if number % _FAILS else "error"), ("sample_rate", 1.0),
    ):  # fmt: skip
        row[_PLACE[name]] = value
    return tuple(row)


def _rollups(latencies: Any, days: int, now: int) -> Iterator[dict[str, Any]]:
    held: dict[tuple[int, str, int, int], list[int]] = {}
    n = len(latencies)
    for number in range(n):
        at = _began(number, n, days, now)
        age = now - at
        span = HOUR if age > HOURS_AFTER else QUARTER if age > QUARTERS_AFTER else MINUTE
        alone = number if age <= FOLD_AFTER else -1  # a commit each
        key = 1 + number % VARIANTS, ROUTES[number % 2], at - at % span, alone
        held.setdefault(key, []).append(number)
    for (variant_id, route, minute, _), numbers in held.items():
        several = [float(latencies[k]) for k in numbers]
        count = len(several)
        yield {
            "project_id": 1, "variant_id": variant_id, "route": route, "minute": minute, "n": count,
            "errors": sum(k % _FAILS == 0 for k in numbers), "aborted": 0, "input_tokens": 180 * count,
            "output_tokens": 110 * count, "cost_nano": 1_000 * count, "latency_n": count,
            "latency_sum_ms": sum(several), "weight_sum": float(count), "latency_sketch": sketch(several),
            "ttft_sketch": sketch([one / 4 for one in several]),
        }  # fmt: skip


def _settle(engine: Engine) -> None:
    """What the database does by itself within minutes."""
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as alone:
        if engine.dialect.name == "postgresql":
            alone.execute(text("VACUUM ANALYZE"))
