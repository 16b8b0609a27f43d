"""How fast pages and lists are over a long history.

    python -m benchmarks.pages [--rows N] [--days D] [--postgres URL]

Fills a store with N short calls of three variants on two routes over D days, with their rollups as the clock's tidying
leaves them, and serves it with `driftline show`. Each address is asked 30 times; the reference in the same run is what
SQL itself takes for the same newest hundred rows, and for calls and latency an hour over the raw table.
"""

import argparse
import os
import secrets
import socket
import statistics
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from datasketches import kll_floats_sketch
from sqlalchemy import create_engine, text

from benchmarks.ingest import ROOT, fresh_store, insert_raw, prepare, rows_of
from collector.insert import COLUMNS
from driftline.moment import DAY, HOUR, MINUTE, iso, now_us
from driftline.store.engine import open_engine
from driftline.store.tables import Rollup
from scheduler.tidying import HOURS_AFTER, QUARTER, QUARTERS_AFTER

SUMS = ("n", "input_tokens", "output_tokens", "latency_n", "latency_sum_ms", "weight_sum")
VARIANTS = 3
ROUTES = ("chat", "search")
REPEATS = 30


def fill(environment: dict[str, str], n: int, days: int) -> None:
    """Stores `n` calls that lie evenly over the days before now, and their rollups."""
    engine = open_engine(_url(environment))
    now = now_us()
    with engine.begin() as connection:
        for number in range(VARIANTS):
            names = "project_id, name, content_hash, spec, state, build_state, measured, created_at"
            values = f"1, 'v{number}', '{number}', '{{}}', 'production', 'built', '{{}}', 0"
            connection.execute(text(f"INSERT INTO variant ({names}) VALUES ({values})"))
    borrowed = engine.raw_connection()
    driver: Any = borrowed.driver_connection
    for start in range(0, n, 5_000):
        insert_raw(driver, [_row(place, n, days, now) for place in range(start, min(start + 5_000, n))])
    borrowed.close()
    _fill_rollups(engine, n, days, now)
    engine.dispose()


_TEMPLATE: list[Any] = []
_PLACE = {name: COLUMNS.index(name) for name in COLUMNS}


def _row(number: int, n: int, days: int, now: int) -> tuple[Any, ...]:
    if not _TEMPLATE:
        _TEMPLATE.extend(rows_of(1)[0])
    row = list(_TEMPLATE)
    at = now - (n - number) * (days * DAY // n)
    for name, value in (
        ("id", secrets.token_hex(24)), ("started_at", at), ("received_at", at), ("input", "short"),
        ("output", "short"), ("tags", "{}"), ("variant_id", 1 + number % VARIANTS), ("route", ROUTES[number % 2]),
        ("session_id", f"session-{number // 8}"), ("user_id", f"user-{number % 1000}"),
    ):  # fmt: skip
        row[_PLACE[name]] = value
    return tuple(row)


def _fill_rollups(engine: Any, n: int, days: int, now: int) -> None:
    first = (now - days * DAY) // MINUTE * MINUTE
    minutes = days * 24 * 60
    each = max(1, n // (minutes * VARIANTS))
    sketch = kll_floats_sketch(200)
    sketch.update(np.random.default_rng(1).gamma(2.0, 200.0, max(each, 8)).astype(np.float32))
    packed = bytes(sketch.serialize())
    made: Iterator[dict[str, Any]] = (
        {
            "project_id": 1, "variant_id": 1 + k % VARIANTS, "route": ROUTES[k % 2],
            "minute": first + k // VARIANTS * MINUTE, "n": each, "errors": 0, "aborted": 0, "input_tokens": 180 * each,
            "output_tokens": 110 * each, "cost_nano": 0, "latency_n": each, "latency_sum_ms": 400.0 * each,
            "weight_sum": float(each), "latency_sketch": packed, "ttft_sketch": packed,
        }
        for k in range(minutes * VARIANTS)
    )  # fmt: skip
    held: dict[tuple[int, str, int], dict[str, Any]] = {}
    for row in made:
        age = now - row["minute"]
        span = HOUR if age > HOURS_AFTER else QUARTER if age > QUARTERS_AFTER else MINUTE
        at = row["minute"] - row["minute"] % span
        known = held.setdefault((row["variant_id"], row["route"], at), row | dict.fromkeys(SUMS, 0) | {"minute": at})
        for name in SUMS:
            known[name] += row[name]
    rows = list(held.values())
    with engine.begin() as connection:
        for start in range(0, len(rows), 5_000):
            connection.execute(Rollup.__table__.insert(), rows[start : start + 5_000])  # type: ignore[attr-defined]


def _url(environment: dict[str, str]) -> str:
    return environment.get("DRIFTLINE_DATABASE_URL") or f"sqlite:///{environment['DRIFTLINE_DATA_DIR']}/driftline.db"


@contextmanager
def shown(environment: dict[str, str]) -> Iterator[str]:
    """The address of a running dashboard."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "driftline", "show"]
    process = subprocess.Popen(command, env=os.environ | environment | {"DRIFTLINE_PORT": str(port)}, cwd=ROOT)
    try:
        address = f"http://127.0.0.1:{port}"
        while True:
            try:
                urllib.request.urlopen(f"{address}/healthz").read()
                break
            except OSError:
                assert process.poll() is None, "the dashboard did not start"
                time.sleep(0.1)
        yield address
    finally:
        process.terminate()
        process.wait()


def times_ms(act: Callable[[], object], repeats: int = REPEATS) -> tuple[float, float]:
    """Median and 95th percentile of so many turns after two that warm up, milliseconds."""
    took = []
    for turn in range(repeats + 2):
        start = time.perf_counter()
        act()
        if turn >= 2:
            took.append((time.perf_counter() - start) * 1000)
    return statistics.median(took), statistics.quantiles(took, n=20)[18]


def measure(name: str, server_url: str | None, rows: int, days: int) -> None:
    """Fills one store and prints what each address takes."""
    with fresh_store(server_url) as environment:
        prepare(environment, "full")
        fill(environment, rows, days)
        engine = create_engine(_url(environment))
        newest = text("SELECT * FROM generation WHERE project_id = 1 ORDER BY started_at DESC, seq DESC LIMIT 100")
        hourly = text(
            f"SELECT started_at / {HOUR}, variant_id, count(*), sum(latency_ms) FROM generation WHERE project_id = 1 "
            "GROUP BY 1, 2"
        )
        with engine.connect() as connection:
            raw_list, _ = times_ms(lambda: connection.execute(newest).all())
            raw_hours, _ = times_ms(lambda: connection.execute(hourly).all(), 3)
        engine.dispose()
        since = iso(now_us() - days * DAY)
        asked = {
            "list, newest 100": ("/api/generations", raw_list),
            "list, one variant": ("/api/generations?variant=v1", raw_list),
            "list, one session": (f"/api/generations?session=session-{rows // 16}", raw_list),
            "list, one user": ("/api/generations?user=user-77", raw_list),
            "list, middle": (f"/api/generations?until={iso(now_us() - days * DAY // 2)}", raw_list),
            "series, a day": ("/api/series", raw_hours),
            f"series, {days} days": (f"/api/series?since={since}&step_s=7200", raw_hours),
            "counts": ("/api/counts", raw_hours),
            "overview": ("/", raw_hours),
            "overview, 30 days": ("/?window=30d", raw_hours),
        }
        with shown(environment) as address:
            for label, (path, reference) in asked.items():

                def ask(path: str = path) -> None:
                    urllib.request.urlopen(address + path).read()

                median, p95 = times_ms(ask)
                print(
                    f"{name:10} {rows:9,} rows  {label:18} {median:6.1f} ms (p95 {p95:6.1f})  "
                    f"{median / reference:6.2f} of SQL over the calls ({reference:.1f} ms)",
                    flush=True,
                )


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--days", type=int, default=30)
    parser.add_argument("--postgres", help="SQLAlchemy URL of a server on which databases may be made")
    told = parser.parse_args()
    measure("SQLite", None, told.rows, told.days)
    if told.postgres:
        measure("PostgreSQL", told.postgres, told.rows, told.days)


if __name__ == "__main__":
    main()
