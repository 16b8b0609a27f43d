"""How fast pages and lists are over a long history.

    python -m benchmarks.pages [--rows N] [--days D] [--postgres URL] [--keep FOLDER] [--only-fill]

Fills a store with N short calls of three variants on two routes over D days, with their rollups as the clock's tidying
leaves them, and serves it with `driftline show`. Each address is asked of a process of its own that was asked for
nothing but its health: the first answer, in which nothing is kept of earlier ones, then the median of 30 that follow.
The reference in the same run is what SQL itself takes for the same newest hundred rows, and for calls and latency an
hour over the raw table. With `--keep` the filled stores stay in the folder (and in a database of the server, which the
folder names) and are measured again.
"""

import argparse
import json
import os
import socket
import statistics
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from sqlalchemy import create_engine, text

from benchmarks.ingest import ROOT, fresh_store, make_database, prepare
from benchmarks.long_history import fill
from driftline.moment import DAY, HOUR, iso, now_us

STALE_S = 6 * 3600  # a kept store ends when it was filled, and "the last day" would be empty
REPEATS = 30


def _url(environment: dict[str, str]) -> str:
    return environment.get("DRIFTLINE_DATABASE_URL") or f"sqlite:///{environment['DRIFTLINE_DATA_DIR']}/driftline.db"


@contextmanager
def filled(name: str, server_url: str | None, rows: int, days: int, keep: Path | None) -> Iterator[dict[str, str]]:
    """Settings of a filled store: one that lasts as long as the block, or one that stays where `keep` says."""
    if keep is None:
        with fresh_store(server_url) as environment:
            prepare(environment, "full")
            fill(_url(environment), rows, days)
            yield environment
        return
    note = keep / f"{name}-{rows}-{days}" / "environment.json"
    if not note.exists():
        note.parent.mkdir(parents=True, exist_ok=True)
        environment = {"DRIFTLINE_DATA_DIR": str(note.parent.absolute())}
        if server_url is not None:
            environment["DRIFTLINE_DATABASE_URL"] = make_database(server_url)
        prepare(environment, "full")
        fill(_url(environment), rows, days)
        note.write_text(json.dumps(environment))
    if time.time() - note.stat().st_mtime > STALE_S:
        raise SystemExit(f"{note.parent} is filled for over six hours. Remove it and its database, and fill anew.")
    yield json.loads(note.read_text())


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


def times_ms(act: Callable[[], object], repeats: int = REPEATS) -> tuple[float, float, float]:
    """The first turn, and median and 95th percentile of so many after one more that warms up, milliseconds."""
    took = []
    for _ in range(repeats + 2):
        start = time.perf_counter()
        act()
        took.append((time.perf_counter() - start) * 1000)
    return took[0], statistics.median(took[2:]), statistics.quantiles(took[2:], n=20)[18]


def measure(name: str, environment: dict[str, str], rows: int, days: int) -> None:
    """Prints what each address takes on a filled store."""
    engine = create_engine(_url(environment))
    newest = text("SELECT * FROM generation WHERE project_id = 1 ORDER BY started_at DESC, seq DESC LIMIT 100")
    hourly = text(
        f"SELECT started_at / {HOUR}, variant_id, count(*), sum(latency_ms) FROM generation WHERE project_id = 1 "
        "GROUP BY 1, 2"
    )
    with engine.connect() as connection:
        _, raw_list, _ = times_ms(lambda: connection.execute(newest).all())
        _, raw_hours, _ = times_ms(lambda: connection.execute(hourly).all(), 3)
    engine.dispose()
    since = iso(now_us() - days * DAY)
    asked = {
        "list, newest 100": ("/api/generations", raw_list),
        "list, one variant": ("/api/generations?variant=v1", raw_list),
        "list, failed": ("/api/generations?status=error", raw_list),
        "list, one session": (f"/api/generations?session=session-{rows // 16}", raw_list),
        "list, one user": ("/api/generations?user=user-77", raw_list),
        "list, middle": (f"/api/generations?until={iso(now_us() - days * DAY // 2)}", raw_list),
        "series, a day": (f"/api/series?since={iso(now_us() - DAY)}&step_s=900", raw_hours),
        f"series, {days} days": (f"/api/series?since={since}&step_s=7200", raw_hours),
        "counts": ("/api/counts", raw_hours),
        "overview": ("/", raw_hours),
        "overview, 30 days": ("/?window=30d", raw_hours),
        "traffic": ("/generations", raw_list),
        "intake": ("/intake", raw_hours),
    }
    for label, (path, reference) in asked.items():
        with shown(environment) as address:

            def ask(url: str = address + path) -> None:
                urllib.request.urlopen(url).read()

            first, median, p95 = times_ms(ask)
        print(
            f"{name:10} {rows:9,} rows  {label:18} first {first:6.1f} ms, then {median:6.1f} ms (p95 {p95:6.1f})  "
            f"{median / reference:6.2f} of SQL over the calls ({reference:.1f} ms)",
            flush=True,
        )


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--days", type=int, default=30)
    parser.add_argument("--postgres", help="SQLAlchemy URL of a server on which databases may be made")
    parser.add_argument("--keep", type=Path, metavar="FOLDER", help="where filled stores stay, to be measured again")
    parser.add_argument("--only-fill", action="store_true", help="fill the stores that --keep lacks, measure nothing")
    told = parser.parse_args()
    if told.only_fill and told.keep is None:
        parser.error("--only-fill needs --keep, or what was filled would be lost.")
    for name, server_url in {"SQLite": None, "PostgreSQL": told.postgres}.items():
        if name == "SQLite" or server_url is not None:
            with filled(name, server_url, told.rows, told.days, told.keep) as environment:
                if not told.only_fill:
                    measure(name, environment, told.rows, told.days)


if __name__ == "__main__":
    main()
