"""Whether the collector is as fast with millions of calls stored as with none.

    python -m benchmarks.ingest_size FOLDER [--stored N] [--rounds N] [--fill-only]

FOLDER keeps the filled store, so that filling (minutes) and measuring are apart. Each round measures an empty store and
a copy of the filled one, one after the other; the ratio is what counts.
"""

import argparse
import os
import shutil
import statistics
import tempfile
from pathlib import Path

import psutil

from benchmarks.ingest import CONNECTIONS, OTLP, collector, prefill, prepare
from benchmarks.ingest_load import http_request, send_all

BATCH = 512


def filled(folder: Path, stored: int) -> Path:
    """A store with so many short calls, made once."""
    file = folder / "driftline.db"
    if not (folder / "filled").exists():
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        environment = {"DRIFTLINE_DATA_DIR": str(folder)}
        prepare(environment, "full")
        prefill(environment, stored)
        (folder / "filled").touch()
    return file


def rate(template: Path | None, spans: int) -> tuple[float, float]:
    """Calls a second into a copy of the template, or into an empty store; and the 99th percentile of requests, ms."""
    path, kind, make = OTLP
    requests = [http_request(path, kind, make(BATCH)) for _ in range(spans // BATCH)]
    with tempfile.TemporaryDirectory(prefix="driftline-bench-") as folder:
        environment = {"DRIFTLINE_DATA_DIR": folder}
        if template is None:
            prepare(environment, "full")
        else:
            shutil.copy(template, folder)
            os.sync()
        with collector(environment) as (port, process):
            assert isinstance(process, psutil.Process)
            send_all(port, [http_request(path, kind, make(BATCH)) for _ in range(4)], CONNECTIONS)  # warm
            seconds, took = send_all(port, requests, CONNECTIONS)
    return len(requests) * BATCH / seconds, statistics.quantiles(took, n=100)[98] * 1000


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--stored", type=int, default=5_000_000)
    parser.add_argument("--spans", type=int, default=10_240)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--fill-only", action="store_true")
    told = parser.parse_args()
    template = filled(told.folder, told.stored)
    if told.fill_only:
        return
    ratios = []
    for _ in range(told.rounds):
        (empty, empty_p99), (full, full_p99) = rate(None, told.spans), rate(template, told.spans)
        ratios.append(full / empty)
        print(
            f"SQLite  empty {empty:7.0f}/s p99 {empty_p99:4.0f} ms   {told.stored:,} stored {full:7.0f}/s "
            f"p99 {full_p99:4.0f} ms   {full / empty:4.0%}",
            flush=True,
        )
    print(f"SQLite  with {told.stored:,} stored: {statistics.median(ratios):.0%} of the rate into an empty store")


if __name__ == "__main__":
    main()
