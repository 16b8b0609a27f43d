"""Threads, tasks, forks and the end of the interpreter."""

from __future__ import annotations

import asyncio
import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from local_collector import Collector, accounted, eventually, start
from scripts import run

import driftline_sdk

forks = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")


def test_many_threads_lose_nothing_and_every_id_is_different(collector: Collector) -> None:
    start(collector, queue_max=100_000)

    def work(number: int) -> None:
        for _ in range(250):
            with driftline_sdk.generation("q", tags={"thread": str(number)}) as g:
                g.output = "a"

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert driftline_sdk.flush(20)
    assert len(collector.records) == 2_000
    assert accounted(driftline_sdk.stats())


def test_overflow_is_counted_exactly_under_threads(collector: Collector) -> None:
    start(collector, queue_max=200, sample_rate=0.8, variant="v")
    threads = [
        threading.Thread(target=lambda: [driftline_sdk.record(output="a") for _ in range(500)]) for _ in range(6)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert driftline_sdk.flush(20)
    stats = driftline_sdk.stats()
    assert stats["dropped"].get("queue_full", 0) > 0
    assert stats["recorded"] == 3_000
    assert len(collector.records) + stats["dropped"]["queue_full"] + stats["sampled_out"] == 3_000
    assert collector.dropped("queue_full") == stats["dropped"]["queue_full"]
    assert collector.dropped("sampled_out") == stats["sampled_out"]


def test_no_thread_runs_before_the_first_record(collector: Collector) -> None:
    start(collector)
    names = [thread.name for thread in threading.enumerate()]
    driftline_sdk.record(output="a")
    assert "driftline-sender" not in names
    assert "driftline-sender" in [thread.name for thread in threading.enumerate()]


def test_context_follows_asyncio_tasks_and_keeps_them_apart(sdk: Any, collector: Collector) -> None:
    async def ask(session: str) -> None:
        with sdk.context(session_id=session, tags={"who": session}):
            await asyncio.sleep(0.01)
            await asyncio.gather(answer(), asyncio.to_thread(sdk.record, output="in a thread"))

    async def answer() -> None:
        with sdk.generation("q") as g:
            await asyncio.sleep(0.01)
            g.output = "in a task"

    async def everyone() -> None:
        await asyncio.gather(*(ask(f"s{number}") for number in range(5)))

    asyncio.run(everyone())
    assert sdk.flush(5)
    seen = sorted((record["session_id"], record["tags"]["who"]) for record in collector.records.values())
    assert seen == sorted([(f"s{n}", f"s{n}") for n in range(5)] * 2)


def test_generations_and_contexts_are_asynchronous_too(sdk: Any, collector: Collector) -> None:
    async def ask(name: str) -> None:
        async with sdk.context(session_id=name), sdk.generation(f"to {name}") as g:
            await asyncio.sleep(0.01)
            g.output = f"from {name}"

    async def everyone() -> bool:
        await asyncio.gather(*(ask(f"s{n}") for n in range(5)))
        ticks = 0

        async def tick() -> None:
            nonlocal ticks
            while True:
                await asyncio.sleep(0.005)
                ticks += 1

        ticking = asyncio.create_task(tick())
        collector.script.append(0.2)
        flushed = await sdk.aflush(5)
        ticking.cancel()
        assert ticks > 5  # the loop went on meanwhile
        return bool(flushed and await sdk.ashutdown())

    assert asyncio.run(everyone())
    said = {(r["session_id"], r["input"], r["output"]) for r in collector.records.values()}
    assert said == {(f"s{n}", f"to s{n}", f"from s{n}") for n in range(5)}


def test_outside_of_asyncio_flushing_waits_where_it_is(sdk: Any, collector: Collector) -> None:
    sdk.record(output="x")
    waiting = sdk.aflush(5)
    with pytest.raises(StopIteration) as ended:
        waiting.send(None)
    assert ended.value.value is True
    assert len(collector.records) == 1


def test_a_cancelled_task_is_recorded_as_aborted(sdk: Any, collector: Collector) -> None:
    async def never() -> None:
        with sdk.generation("q"):
            await asyncio.sleep(60)

    async def cancel() -> None:
        task = asyncio.create_task(never())
        await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(cancel())
    assert sdk.flush(5)
    assert [record["status"] for record in collector.records.values()] == ["aborted"]


def test_inner_context_adds_to_the_outer_one(sdk: Any, collector: Collector) -> None:
    with sdk.context(session_id="s", tags={"a": "1", "b": "1"}):
        with sdk.context(user_id="u", variant="v2", tags={"b": "2"}, route="chat"):
            inner = sdk.record(output="a")
        outer = sdk.record(output="a")
    after = sdk.record(output="a")
    assert sdk.flush(5)
    record = collector.records[inner]
    assert (record["session_id"], record["user_id"], record["variant"]) == ("s", "u", "v2")
    assert record["tags"] == {"a": "1", "b": "2", "route": "chat"}
    assert "user_id" not in collector.records[outer]
    assert "session_id" not in collector.records[after]


def test_context_follows_a_thread_until_the_block_ends(sdk: Any, collector: Collector) -> None:
    go_on = threading.Event()
    ids: list[str] = []

    def work() -> None:
        ids.append(sdk.record(output="inside"))
        go_on.wait(5)
        ids.append(sdk.record(output="after the request that happened to start this worker"))

    with sdk.context(session_id="s"):
        thread = threading.Thread(target=work)
        thread.start()
        assert eventually(lambda: len(ids) == 1)
    go_on.set()
    thread.join()
    assert sdk.flush(5)
    assert collector.records[ids[0]]["session_id"] == "s"
    assert "session_id" not in collector.records[ids[1]]


def test_context_follows_work_given_to_a_pool_and_nothing_else(sdk: Any, collector: Collector) -> None:
    with ThreadPoolExecutor(1) as pool:
        with sdk.context(session_id="s"):
            inside = pool.submit(sdk.record, output="a")
            inside.result()
            other = threading.Thread(target=lambda: None)
            other.start()
            carried = sdk.carry(sdk.record)
            stranger = contextless(pool.submit, sdk.record, output="b")
        later = pool.submit(carried, output="c").result()
        outside = pool.submit(sdk.record, output="d").result()
    assert sdk.flush(5)
    assert collector.records[inside.result()]["session_id"] == "s"
    assert collector.records[later]["session_id"] == "s"
    assert "session_id" not in collector.records[stranger.result()]
    assert "session_id" not in collector.records[outside]


def test_context_is_carried_into_a_coroutine_that_starts_later(sdk: Any, collector: Collector) -> None:
    async def answer() -> str:
        await asyncio.sleep(0)
        return str(sdk.record(output="a"))

    with sdk.context(session_id="s"):
        carried = sdk.carry(answer)
    inside, outside = asyncio.run(carried()), asyncio.run(answer())
    assert sdk.flush(5)
    assert collector.records[inside]["session_id"] == "s"
    assert "session_id" not in collector.records[outside]


def contextless(function: Any, *args: Any, **kwargs: Any) -> Any:
    """Calls from a context in which nothing was ever set, as another request would."""
    import contextvars

    return contextvars.Context().run(function, *args, **kwargs)


@forks
def test_a_forked_child_sends_its_own_records_and_the_parent_keeps_its_queue(
    collector: Collector, tmp_path: Path
) -> None:
    ended = run(
        """
        import os, sys, driftline_sdk as sdk
        sdk.init(endpoint=sys.argv[1], spool_dir=sys.argv[2], interval_s=0.2, variant="parent")
        for number in range(20):
            sdk.record(output="before the fork")
        children = []
        for child in range(3):
            pid = os.fork()
            if pid == 0:
                assert sdk.stats()["recorded"] == 0
                for number in range(10):
                    sdk.record(output="child", variant=f"child{child}")
                os._exit(0 if sdk.flush(10) and sdk.stats()["sent"] == 10 else 1)
            children.append(pid)
        for number in range(20):
            sdk.record(output="after the fork")
        codes = [os.waitpid(pid, 0)[1] for pid in children]
        print(codes, sdk.flush(10), sdk.stats()["sent"])
        """,
        collector.endpoint,
        tmp_path,
    )
    assert ended.stdout.split("\n")[0] == "[0, 0, 0] True 40", ended.stderr
    assert len(collector.records) == 70
    assert collector.duplicates == 0


@forks
@pytest.mark.parametrize("method", ["fork", "spawn", "billiard"])
def test_children_of_multiprocessing_and_celery_deliver_when_they_end(
    collector: Collector, tmp_path: Path, method: str
) -> None:
    if method == "billiard":
        pytest.importorskip("billiard", reason="needs the package billiard, which comes with Celery")
    script = tmp_path / "script.py"
    script.write_text(
        """
import importlib, sys, driftline_sdk as sdk
package, method = ("billiard", "fork") if sys.argv[3] == "billiard" else ("multiprocessing", sys.argv[3])
multiprocessing = importlib.import_module(package)
sdk.init(endpoint=sys.argv[1], spool_dir=sys.argv[2], interval_s=5)
def work(number):
    sdk.record(output=f"child {number}")
if __name__ == "__main__":
    sdk.record(output="parent")
    processes = [multiprocessing.get_context(method).Process(target=work, args=(n,)) for n in range(3)]
    for process in processes: process.start()
    for process in processes: process.join()
"""
    )
    ended = run(script, collector.endpoint, tmp_path / "spool", method)
    assert ended.returncode == 0, ended.stderr
    assert sorted(record["output"] for record in collector.records.values()) == [
        "child 0",
        "child 1",
        "child 2",
        "parent",
    ]


@forks
def test_a_fork_that_announces_itself_to_nobody_is_noticed(collector: Collector) -> None:
    start(collector)
    client = driftline_sdk.process.active
    assert client is not None
    driftline_sdk.record(output="a")
    assert driftline_sdk.flush(5)
    client.pid = -1  # as if this were a child made behind the interpreter's back
    assert driftline_sdk.flush(5)
    assert client.pid == os.getpid()
    driftline_sdk.record(output="b")
    assert driftline_sdk.flush(5)
    assert len(collector.records) == 2


def test_what_is_queued_at_exit_is_sent(collector: Collector, tmp_path: Path) -> None:
    began = time.monotonic()
    ended = run(
        """
        import sys, driftline_sdk as sdk
        sdk.init(endpoint=sys.argv[1], spool_dir=sys.argv[2], interval_s=60)
        for number in range(500):
            sdk.record(output="a")
        """,
        collector.endpoint,
        tmp_path,
    )
    assert ended.returncode == 0
    assert ended.stderr == ""
    assert len(collector.records) == 500
    assert time.monotonic() - began < 10
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("trouble", ["refuses", "hangs"])
def test_what_cannot_be_sent_at_exit_is_spooled_in_bounded_time(
    collector: Collector, tmp_path: Path, trouble: str
) -> None:
    if trouble == "refuses":
        collector.always = (503, {"Retry-After": "3"})
    else:
        collector.script = [8.0, 8.0]
    began = time.monotonic()
    ended = run(
        """
        import sys, driftline_sdk as sdk
        sdk.init(endpoint=sys.argv[1], spool_dir=sys.argv[2], interval_s=0.01, exit_timeout_s=1, sample_rate=0.5)
        for number in range(100):
            sdk.record(output="a", id=str(number))
        sdk.feedback("1", "good", True)
        """,
        collector.endpoint,
        tmp_path,
    )
    assert ended.returncode == 0
    assert time.monotonic() - began < 5
    collector.always = None
    collector.script = []
    start(collector, spool_dir=tmp_path)
    assert driftline_sdk.flush(10)
    sampled_out = collector.dropped("sampled_out")
    assert 25 < sampled_out < 75
    assert len(collector.records) == 100 - sampled_out
    assert len(collector.feedback) == 1


def test_a_redaction_hook_that_hangs_does_not_hold_up_the_exit(collector: Collector, tmp_path: Path) -> None:
    began = time.monotonic()
    ended = run(
        """
        import sys, time, driftline_sdk as sdk
        sdk.init(endpoint=sys.argv[1], spool_dir=sys.argv[2], exit_timeout_s=0.5, redact=lambda record: time.sleep(60))
        sdk.record(output="a")
        """,
        collector.endpoint,
        tmp_path,
    )
    assert ended.returncode == 0
    assert time.monotonic() - began < 5
    assert collector.records == {}


def test_shutting_down_without_a_record_is_a_success(sdk: Any) -> None:
    assert sdk.shutdown(1)


def test_records_after_shutdown_are_counted_not_kept(sdk: Any) -> None:
    sdk.record(output="a")
    assert sdk.shutdown(2)
    sdk.record(output="b")
    stats = sdk.stats()
    assert (stats["sent"], stats["queued"], stats["dropped"]) == (1, 0, {"exit": 1})


def test_an_abandoned_stream_collected_while_a_record_is_queued_does_not_deadlock(
    sdk: Any, collector: Collector
) -> None:
    intake = sdk.process.active._records.intake
    with intake._lock:  # where a garbage collection may run a destructor that records
        sdk.record(output="a")
    assert sdk.flush(5)
    assert len(collector.records) == 1
