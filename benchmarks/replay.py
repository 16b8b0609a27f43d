"""What a replay costs beside its answers: workers against a far model, and a golden set of a hundred thousand items.

Run `python -m benchmarks.replay` (some minutes), or one part with `--only workers` or `--only large`. Throughput is
that of real `driftline work` processes against an endpoint that answers after 200 ms; the large set is imported from a
file and replayed on recorded answers in this process, so that all that is measured is ours.
"""

import argparse
import json
import os
import sqlite3
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

LATENCY_MS = 200.0
CONCURRENCY = 4  # requests of one worker at a time
PER_WORKER_ITEMS = 160
LARGE = 100_000


def started_store(folder: Path) -> int:
    """The project of a fresh store in the folder."""
    os.environ["DRIFTLINE_DATA_DIR"] = str(folder)
    from driftline.queue import messenger
    from driftline.settings import settings
    from driftline.store.engine import _engine, writing
    from driftline.store.projects import ensure_project
    from driftline.store.upgrade import upgrade

    for cached in (settings, messenger, _engine):
        cached.cache_clear()
    upgrade()
    with writing() as session:
        return ensure_project(session).id


def ask(project: int, variant: str, spec: dict[str, Any], items: list[dict[str, Any]], **options: Any) -> int:
    """Asks for a replay of these items on a variant; gives its key."""
    from driftline.acts.golden import canonical, import_items
    from driftline.acts.replays import request_replay
    from driftline.acts.variants import declare
    from driftline.store.engine import writing

    with writing() as session:
        version, _ = import_items(
            session, project, f"set-{len(items)}", map(canonical, items), "benchmark", source="benchmark"
        )
        declared = declare(session, project, variant, spec, "benchmark")
        row = request_replay(session, project, declared, version, "benchmark", scorers=["exact"], **options)
        return row.id


def seconds_of(replay_id: int) -> float:
    """How long a replay took from its first batch to its last, once it has ended."""
    from driftline.moment import SECOND
    from driftline.store.engine import reading, writing
    from driftline.store.tables import Replay
    from scheduler.sweep import sweep

    while True:
        with reading() as session:
            row = session.get_one(Replay, replay_id)
        if row.state == "done":
            assert row.started_at is not None
            assert row.finished_at is not None
            return (row.finished_at - row.started_at) / SECOND
        assert row.state in ("queued", "running"), row.error
        with writing() as session:
            sweep(session)
        time.sleep(0.2)


def throughput(workers: int, base_url: str) -> tuple[float, float]:
    """Items a second that so many workers replay, and the processor time of an item in ms.

    The workers run and have opened the model before.
    """
    with tempfile.TemporaryDirectory() as folder:
        project = started_store(Path(folder))
        config = {"base_url": base_url, "model": "echo", "stream": False, "concurrency": CONCURRENCY}
        spec = {"runner": "openai", "runner_config": config, "chain": []}
        command = [sys.executable, "-m", "driftline", "work", "--queues", "replay"]
        running = [
            subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) for _ in range(workers)
        ]
        try:
            for round_ in range(2):  # until every worker has had a job
                seconds_of(ask(project, "far", spec, items_of(64 + round_), shards=8))
            n, began = PER_WORKER_ITEMS * workers, processor_s(running)
            rate = n / seconds_of(ask(project, "far", spec, items_of(n), shards=8 * workers))
            return rate, 1000.0 * (processor_s(running) - began) / n
        finally:
            for process in running:
                process.terminate()
            for process in running:
                process.wait(30)


def processor_s(running: list[subprocess.Popen[bytes]]) -> float:
    """Processor time of these processes and their children so far."""
    import psutil

    families = [[psutil.Process(one.pid), *psutil.Process(one.pid).children(recursive=True)] for one in running]
    return float(sum(sum(process.cpu_times()[:2]) for family in families for process in family))


def items_of(n: int) -> list[dict[str, Any]]:
    """So many questions, each with the answer that the endpoint gives."""
    return [{"input": f"Question {k} of {n}?", "expected": f"echo of Question {k} of {n}?"} for k in range(n)]


def workers_part() -> None:
    """Prints how throughput grows with workers."""
    command = [sys.executable, "-m", "benchmarks.stub_endpoint", "--latency-ms", str(LATENCY_MS)]
    stub = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert stub.stdout is not None
    base_url = f"http://127.0.0.1:{stub.stdout.readline().strip()}/v1"
    try:
        found = {workers: throughput(workers, base_url) for workers in (1, 2, 4)}
    finally:
        stub.kill()
    ceiling = CONCURRENCY * 1000.0 / LATENCY_MS
    print(f"Replay against an endpoint of {LATENCY_MS:.0f} ms, {CONCURRENCY} requests at a time per worker")
    for workers, (rate, processor_ms) in found.items():
        print(
            f"  {workers} worker{'s' if workers > 1 else ' '}: {rate:6.1f} items/s, "
            f"{rate / (ceiling * workers):.2f} of what the endpoint allows, {processor_ms:.1f} ms of processor an item"
        )
    cores = len(os.sched_getaffinity(0))
    print(f"  4 workers against 1: {found[4][0] / (4 * found[1][0]):.2f} of linear (target >= 0.9)")
    print(f"  {cores} cores that run nothing else bear {1000.0 * cores / found[4][1] / ceiling:.0f} such workers")


def large_part(n_items: int) -> None:
    """Prints what a large golden set costs to import and to keep the books of."""
    with tempfile.TemporaryDirectory() as folder:
        path, answers = Path(folder) / "large.jsonl", Path(folder) / "answers.jsonl"
        with path.open("w") as file, answers.open("w") as told:
            for k in range(n_items):
                question = (
                    f"Question {k}: how much is {k} and {k + 1} together, told in one short sentence of plain words?"
                )
                row = {"input": question, "expected": str(2 * k + 1), "tags": {"kind": f"k{k % 7}"}}
                file.write(json.dumps(row) + "\n")
                told.write(json.dumps({"prompt": question, "answer": str(2 * k + 1)}) + "\n")
        plain = plain_import(path, Path(folder) / "plain.db")
        project = started_store(Path(folder) / "data")
        command = [sys.executable, "-m", "driftline", "golden", "import", str(path), "--name", "large"]
        began = time.perf_counter()
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        took = time.perf_counter() - began
        print(f"Golden set of {n_items} items")
        print(
            f"  import: {took:.1f} s (target <= 30), {took / plain:.1f}× json.loads and sqlite3.executemany in one "
            f"transaction ({plain:.1f} s)"
        )
        books(project, answers, n_items)


def plain_import(path: Path, to: Path) -> float:
    """Seconds of the same file read line by line into one SQLite table."""
    began = time.perf_counter()
    store = sqlite3.connect(to)
    store.execute("PRAGMA journal_mode=WAL")
    store.execute("CREATE TABLE item (position INTEGER PRIMARY KEY, input TEXT, expected TEXT, tags TEXT)")
    with path.open() as file, store:
        rows = (json.loads(line) for line in file)
        store.executemany(
            "INSERT INTO item VALUES (?, ?, ?, ?)",
            ((n, row["input"], row["expected"], json.dumps(row["tags"])) for n, row in enumerate(rows)),
        )
    store.close()
    return time.perf_counter() - began


def books(project: int, answers: Path, n_items: int) -> None:
    """Replays the large set on recorded answers in this process; prints the time an item and how memory grows."""
    from sqlmodel import select

    from driftline.acts.golden import find_version
    from driftline.acts.replays import request_replay
    from driftline.acts.variants import declare
    from driftline.store.engine import reading, writing
    from driftline.store.tables import Job, Replay, Variant
    from scheduler import replays
    from scheduler.models import model_of
    from scheduler.work import run_job

    with writing() as session:
        spec = {"runner": "recorded", "runner_config": {"path": str(answers)}, "chain": []}
        variant = declare(session, project, "recorded", spec, "benchmark")
        version = find_version(session, project, "large")
        row = request_replay(session, project, variant, version, "benchmark", scorers=["exact"])
    with reading() as session:
        job_id = session.exec(select(Job.id).where(Job.kind == "replay.run")).one()
        model_of(session.get_one(Variant, variant.id))
    replays.TURN_S = 10.0
    marks: list[tuple[int, float, float]] = []
    began, processor_began = time.perf_counter(), time.process_time()
    while run_job(job_id) == "queued":
        with reading() as session:
            marks.append((session.get_one(Replay, row.id).calls, time.perf_counter() - began, rss_mb()))
    took, processor_took = time.perf_counter() - began, time.process_time() - processor_began
    plain = plain_commits(n_items // 8 // 20) * 20
    print(
        f"  replay of recorded answers: {1000 * took / n_items:.2f} ms an item (target <= 1), {took / plain:.1f}× the "
        f"bare durable commits of its batches ({1000 * plain / n_items:.2f} ms); "
        f"{1000 * processor_took / n_items:.2f} ms of processor time"
    )
    first, last = marks[0], marks[-1]
    print(
        f"  memory: {first[2]:.0f} MB after {first[0]} items, {last[2]:.0f} MB after {last[0]} "
        f"({(last[2] - first[2]) / (last[0] - first[0]) * 1000:+.2f} MB per 1000 items)"
    )


def plain_commits(batches: int) -> float:
    """Seconds of so many durable SQLite transactions of eight short rows."""
    with tempfile.TemporaryDirectory() as folder:
        store = sqlite3.connect(Path(folder) / "plain.db", isolation_level=None)
        store.execute("PRAGMA journal_mode=WAL")
        store.execute("PRAGMA synchronous=FULL")
        store.execute("CREATE TABLE answer (id INTEGER PRIMARY KEY, text TEXT)")
        began = time.perf_counter()
        for _ in range(batches):
            store.execute("BEGIN IMMEDIATE")
            store.executemany("INSERT INTO answer (text) VALUES (?)", [("an answer",)] * 8)
            store.execute("COMMIT")
        took = time.perf_counter() - began
        store.close()
        return took


def rss_mb() -> float:
    """Resident memory of this process, MiB."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def main() -> None:
    """Prints every figure beside its target and its reference."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", choices=("workers", "large"))
    parser.add_argument("--items", type=int, default=LARGE, help="size of the large golden set")
    chosen = parser.parse_args()
    only = chosen.only
    if only != "large":
        workers_part()
    if only != "workers":
        large_part(chosen.items)


if __name__ == "__main__":
    main()
