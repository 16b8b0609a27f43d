"""Whether the collector is as fast with millions of calls stored as with none.

    python -m benchmarks.ingest_size FOLDER [--postgres URL] [--stored N] [--rounds N] [--fill-only]

FOLDER keeps the filled store, so that filling (minutes) and measuring are apart; with `--postgres` a database of that
server does, and FOLDER its name. Each round measures an empty store and the filled one, one after the other; the ratio
is what counts. SQLite's file is copied for each round; PostgreSQL's keeps what the rounds add to it.
"""

import argparse
import os
import shutil
import statistics
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil

from benchmarks.ingest import CONNECTIONS, OTLP, collector, fresh_store, make_database, prefill, prepare
from benchmarks.ingest_load import http_request, send_all

BATCH = 512
Environment = dict[str, str]


def filled(folder: Path, stored: int, server_url: str | None) -> Environment:
    """Settings of a store with so many short calls, made once."""
    environment = {"DRIFTLINE_DATA_DIR": str(folder)}
    done = folder / "filled"
    if not done.exists():
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        url = None if server_url is None else make_database(server_url)
        if url is not None:
            environment["DRIFTLINE_DATABASE_URL"] = url
        prepare(environment, "full")
        prefill(environment, stored)
        done.write_text(url or "")
    if server_url is not None:
        environment["DRIFTLINE_DATABASE_URL"] = done.read_text()
    return environment


@contextmanager
def as_filled(template: Environment) -> Iterator[Environment]:
    """Settings of a copy of the filled store, or of itself where it is a database of a server."""
    if "DRIFTLINE_DATABASE_URL" in template:
        yield template
        return
    with tempfile.TemporaryDirectory(prefix="driftline-bench-") as folder:
        shutil.copy(Path(template["DRIFTLINE_DATA_DIR"]) / "driftline.db", folder)
        os.sync()
        yield {"DRIFTLINE_DATA_DIR": folder}


def rate(environment: Environment, spans: int) -> tuple[float, float]:
    """Calls a second into this store; and the 99th percentile of requests, ms."""
    path, kind, make = OTLP
    requests = [http_request(path, kind, make(BATCH)) for _ in range(spans // BATCH)]
    with collector(environment) as (port, process):
        assert isinstance(process, psutil.Process)
        send_all(port, [http_request(path, kind, make(BATCH)) for _ in range(4)], CONNECTIONS)  # warm
        seconds, took = send_all(port, requests, CONNECTIONS)
    return len(requests) * BATCH / seconds, statistics.quantiles(took, n=100)[98] * 1000


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--postgres", help="SQLAlchemy URL of a server on which databases may be made")
    parser.add_argument("--stored", type=int, default=5_000_000)
    parser.add_argument("--spans", type=int, default=20_480)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--fill-only", action="store_true")
    told = parser.parse_args()
    template = filled(told.folder, told.stored, told.postgres)
    if told.fill_only:
        return
    name = "PostgreSQL" if told.postgres else "SQLite"
    ratios = []
    for _ in range(told.rounds):
        with fresh_store(told.postgres) as store:
            prepare(store, "full")
            empty, empty_p99 = rate(store, told.spans)
        with as_filled(template) as store:
            full, full_p99 = rate(store, told.spans)
        ratios.append(full / empty)
        print(
            f"{name}  empty {empty:7.0f}/s p99 {empty_p99:4.0f} ms   {told.stored:,} stored {full:7.0f}/s "
            f"p99 {full_p99:4.0f} ms   {full / empty:4.0%}",
            flush=True,
        )
    print(f"{name}  with {told.stored:,} stored: {statistics.median(ratios):.0%} of the rate into an empty store")


if __name__ == "__main__":
    main()
