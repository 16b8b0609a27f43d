"""How fast the collector makes calls durable, against the database's own bulk insert of the same rows.

    python -m benchmarks.ingest [--postgres URL] [--spans N] [--rounds N] [--stored N]

Each round measures, one after the other, the raw insert (`executemany` on SQLite, COPY on PostgreSQL; same tables and
indexes, the ids looked up as a unique index would, `synchronous=FULL`, one commit a batch) and the collector over HTTP
with 4 connections, until the last answer: what is answered is committed and can be queried. Machines change speed by
themselves, so the ratio is what counts. With `--stored`, the collector's store holds so many short calls beforehand.
"""

import argparse
import os
import random
import secrets
import socket
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

import psutil
from msgspec.structs import astuple
from sqlalchemy import create_engine, text
from sqlalchemy.engine import make_url

from benchmarks.ingest_load import http_request, native_body, otlp_body, send_all
from collector.insert import COLUMNS
from collector.otlp import read_spans
from collector.rows import Privacy
from collector.sender import Sender
from driftline.moment import DAY, now_us
from driftline.store.engine import open_engine
from driftline.store.generations import KEYS_WITH, KEYS_WITH_ON_POSTGRES
from driftline.store.ids import id_hash, move_on, newest_key, on_levels

SIZE = (
    "(SELECT sum(pg_total_relation_size(relid)) FROM pg_partition_tree('generation')) "
    "+ pg_total_relation_size('generation_key')"
)
ROOT = Path(__file__).parent.parent
CONNECTIONS = 4
OTLP = ("/v1/traces", "application/x-protobuf", otlp_body)
NATIVE = ("/v1/records", "application/json", native_body)
WAYS = {
    "OTLP, full text": (OTLP, "full"),
    "OTLP, redacted": (OTLP, "redacted"),
    "native, redacted": (NATIVE, "redacted"),
}


@dataclass
class Measured:
    """One round of one way in."""

    rate: float
    cpu_us: float  # of the collector and of the process that reads beside it, a call
    p99_ms: float
    memory_mb: float  # of the collector
    beside_mb: float  # of the process beside it
    disk_share: float


def make_database(server_url: str) -> str:
    """The URL of a new database that stays."""
    name = f"driftline_bench_{secrets.token_hex(4)}"
    with create_engine(server_url, isolation_level="AUTOCOMMIT").connect() as connection:
        connection.execute(text(f"CREATE DATABASE {name}"))
    return make_url(server_url).set(database=name).render_as_string(hide_password=False)


@contextmanager
def postgres_database(server_url: str) -> Iterator[str]:
    """The URL of a database that exists as long as the block."""
    url = make_database(server_url)
    try:
        yield url
    finally:
        with create_engine(server_url, isolation_level="AUTOCOMMIT").connect() as connection:
            connection.execute(text(f"DROP DATABASE {make_url(url).database} WITH (FORCE)"))


@contextmanager
def fresh_store(server_url: str | None) -> Iterator[dict[str, str]]:
    """Settings of an upgraded, empty store in a folder or a database of its own."""
    with tempfile.TemporaryDirectory(prefix="driftline-bench-") as folder:
        if server_url is None:
            yield {"DRIFTLINE_DATA_DIR": folder}
        else:
            with postgres_database(server_url) as url:
                yield {"DRIFTLINE_DATA_DIR": folder, "DRIFTLINE_DATABASE_URL": url}


@contextmanager
def collector(environment: dict[str, str]) -> Iterator[tuple[int, psutil.Process]]:
    """A running `driftline collect`, gRPC included: its port and its process."""
    with socket.create_server(("127.0.0.1", 0)) as probe, socket.create_server(("127.0.0.1", 0)) as other:
        port, grpc_port = (listener.getsockname()[1] for listener in (probe, other))
    ports = {"DRIFTLINE_PORT": str(port), "DRIFTLINE_GRPC_PORT": str(grpc_port)}
    process = subprocess.Popen(
        [sys.executable, "-m", "driftline", "collect"], env=os.environ | environment | ports, cwd=ROOT
    )
    try:
        while True:
            try:
                socket.create_connection(("127.0.0.1", port)).close()
                break
            except OSError:
                assert process.poll() is None, "the collector did not start"
                time.sleep(0.05)
        yield port, psutil.Process(process.pid)
    finally:
        process.terminate()
        process.wait()


def prepare(environment: dict[str, str], store_text: str) -> None:
    """Makes the tables and the default project, in a process with these settings."""
    code = (
        "import sys\n"
        "from driftline.store.upgrade import upgrade\n"
        "from driftline.store.engine import writing\n"
        "from driftline.store.projects import ensure_project\n"
        "upgrade()\n"
        "with writing() as session: ensure_project(session).store_text = sys.argv[1]\n"
    )
    subprocess.run([sys.executable, "-c", code, store_text], env=os.environ | environment, check=True)


def disk_bytes(environment: dict[str, str]) -> int:
    """What the store takes on disk, its log moved into the tables."""
    url = environment.get("DRIFTLINE_DATABASE_URL")
    if url is None:
        file = Path(environment["DRIFTLINE_DATA_DIR"]) / "driftline.db"
        with sqlite3.connect(file) as connection:
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        return file.stat().st_size
    with create_engine(url).connect() as connection:
        return int(connection.execute(text(f"SELECT {SIZE}")).scalar_one())


def measure_collector(
    server_url: str | None,
    way: tuple[str, str, Callable[[int], bytes]],
    spans: int,
    batch: int,
    store_text: str,
    stored: int = 0,
) -> Measured:
    """Sends so many calls in batches and waits for all answers."""
    path, kind, make = way
    requests = [http_request(path, kind, make(batch)) for _ in range(spans // batch)]
    with fresh_store(server_url) as environment:
        prepare(environment, store_text)
        if stored:
            prefill(environment, stored)
        before_bytes = disk_bytes(environment)
        with collector(environment) as (port, process):
            send_all(port, [http_request(path, kind, make(batch)) for _ in range(4)], CONNECTIONS)  # warm
            time.sleep(2)  # and the process beside it is there
            family = [process, *process.children()]
            before = cpu_s(family)
            seconds, took = send_all(port, requests, CONNECTIONS)
            cpu = cpu_s(family) - before
            memory, beside = (sum(one.memory_info().rss for one in some) / 2**20 for some in (family[:1], family[1:]))
        disk = disk_bytes(environment) - before_bytes
    p99 = statistics.quantiles(took, n=100)[98] * 1000
    sent = len(requests) * batch
    return Measured(sent / seconds, cpu / sent * 1e6, p99, memory, beside, disk / sum(map(len, requests)))


def cpu_s(processes: list[psutil.Process]) -> float:
    """Processor time of all of them."""
    return float(sum(sum(process.cpu_times()[:2]) for process in processes))


def rows_of(spans: int) -> list[tuple[Any, ...]]:
    """The rows that the collector makes of so many spans."""
    rows, _, _ = read_spans(otlp_body(spans), Sender(1, Privacy("full")), now_us(), as_json=False)
    for row in rows:
        row.variant_id = 1
    return [astuple(row)[:-1] for row in rows]


@contextmanager
def raw_connection(environment: dict[str, str]) -> Iterator[Any]:
    """The driver's connection to a prepared store that has a variant for rows to refer to."""
    url = environment.get("DRIFTLINE_DATABASE_URL") or f"sqlite:///{environment['DRIFTLINE_DATA_DIR']}/driftline.db"
    engine = open_engine(url)
    names = "project_id, name, content_hash, spec, state, build_state, measured, created_at"
    with engine.begin() as connection:
        connection.execute(text(f"INSERT INTO variant ({names}) VALUES (1, 'v', '', '{{}}', 'x', 'x', '{{}}', 0)"))
    borrowed = engine.raw_connection()
    try:
        yield borrowed.driver_connection
    finally:
        borrowed.close()
        engine.dispose()


def insert_raw(driver: Any, rows: list[tuple[Any, ...]]) -> None:
    """One batch by the driver's own bulk insert, committed: calls, and the entries of their ids, which are new."""
    names = ", ".join(COLUMNS)
    project, identity = COLUMNS.index("project_id"), COLUMNS.index("id")
    hashes = [id_hash(row[project], row[identity]) for row in rows]
    if isinstance(driver, sqlite3.Connection):
        driver.execute("BEGIN IMMEDIATE")
        before = newest_key(driver)
        assert not driver.execute(KEYS_WITH, (str(on_levels(hashes, before)),)).fetchall()
        driver.executemany(f"INSERT INTO generation ({names}) VALUES ({', '.join('?' * len(COLUMNS))})", rows)
        driver.executemany("INSERT INTO generation_key VALUES (?, ?)", zip(hashes, count(before + 1)))
        move_on(driver, before, before + len(rows))
        driver.execute("COMMIT")
        return
    with driver.cursor() as cursor:
        assert not cursor.execute(KEYS_WITH_ON_POSTGRES, (sorted(hashes),)).fetchall()
        cursor.execute("SELECT nextval('generation_seq_seq') FROM generate_series(1, %s)", (len(rows),))
        seqs = [seq for (seq,) in cursor]
        with cursor.copy("COPY generation_key (hash, seq) FROM STDIN") as copy:
            for entry in zip(hashes, seqs, strict=True):
                copy.write_row(entry)
        with cursor.copy(f"COPY generation (seq, {names}) FROM STDIN") as copy:
            for seq, row in zip(seqs, rows, strict=True):
                copy.write_row((seq, *row))
    driver.commit()


def prefill(environment: dict[str, str], n: int) -> None:
    """Stores so many calls with short texts, as if they had come in the 30 days before."""
    names = ("id", "started_at", "session_id", "user_id")
    identity, started, session, user = (COLUMNS.index(name) for name in names)
    row = list(rows_of(1)[0])
    for name, value in (("input", "short"), ("output", "short"), ("tags", "{}")):
        row[COLUMNS.index(name)] = value
    step = max(30 * DAY // n, 1)
    now = now_us()
    with raw_connection(environment) as driver:
        for start in range(0, n, 5_000):
            made = []
            for place in range(start, min(start + 5_000, n)):
                row[identity], row[started] = secrets.token_hex(24), now - (n - place) * step
                row[session], row[user] = f"conv-{secrets.token_hex(4)}", f"user-{random.randrange(1000)}"
                made.append(tuple(row))
            insert_raw(driver, made)


def measure_raw(server_url: str | None, spans: int, batch: int) -> float:
    """Rows a second of the driver's own bulk insert."""
    batches = [rows_of(batch) for _ in range(spans // batch)]
    with fresh_store(server_url) as environment:
        prepare(environment, "full")
        with raw_connection(environment) as driver:
            start = time.perf_counter()
            for rows in batches:
                insert_raw(driver, rows)
            seconds = time.perf_counter() - start
    return len(batches) * batch / seconds


def report(name: str, batch: int, label: str, raw: list[float], ours: list[Measured]) -> None:
    """Prints one line."""
    rate, p99 = (statistics.median(getattr(m, name) for m in ours) for name in ("rate", "p99_ms"))
    share = statistics.median(m.rate / r for m, r in zip(ours, raw, strict=True))
    print(
        f"{name:10} batches of {batch:3} {label:17} {rate:7.0f}/s  {share:4.0%} of raw "
        f"{statistics.median(raw):6.0f}/s  {min(m.cpu_us for m in ours):3.0f} µs CPU  p99 {p99:4.0f} ms  "
        f"{max(m.memory_mb for m in ours):4.0f} + {max(m.beside_mb for m in ours):3.0f} MB  "
        f"disk {ours[0].disk_share:.2f} of payload",
        flush=True,
    )


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--postgres", help="SQLAlchemy URL of a server on which databases may be made")
    parser.add_argument("--spans", type=int, default=20_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--batch", type=int, nargs="*", default=[100, 512])
    parser.add_argument("--stored", type=int, default=0)
    parser.add_argument("--way", nargs="*", default=list(WAYS), choices=list(WAYS))
    parser.add_argument("--only-postgres", action="store_true")
    told = parser.parse_args()
    stores = {} if told.only_postgres else {"SQLite": None}
    if told.postgres:
        stores["PostgreSQL"] = told.postgres
    for name, url in stores.items():
        for batch in told.batch:
            for label, (way, store_text) in ((label, WAYS[label]) for label in told.way):
                raw, ours = [], []
                for _ in range(told.rounds):
                    raw.append(measure_raw(url, told.spans, batch))
                    ours.append(measure_collector(url, way, told.spans, batch, store_text, told.stored))
                report(name, batch, label, raw, ours)


if __name__ == "__main__":
    main()
