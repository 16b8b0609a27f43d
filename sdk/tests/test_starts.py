"""Starting, starting again, and ending at the same time: nothing that was recorded meanwhile is lost."""

from __future__ import annotations

import asyncio
import os
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
from local_collector import Collector, accounted, eventually, start
from scripts import run

import driftline_sdk
from driftline_sdk import process


def test_what_an_earlier_init_recorded_is_not_lost_when_the_process_ends_at_once(
    collector: Collector, tmp_path: Path
) -> None:
    collector.script = [0.3, 0.3]
    ended = run(
        """
        import sys, driftline_sdk as sdk
        for number in range(3):
            sdk.init(endpoint=sys.argv[1], spool_dir=sys.argv[2] + str(number), interval_s=60)
            for _ in range(50):
                sdk.record(output="a")
        """,
        collector.endpoint,
        tmp_path / "spool",
    )
    assert (ended.returncode, ended.stderr) == (0, "")
    assert len(collector.records) == 150


def test_threads_that_record_first_while_another_starts_the_sdk_lose_nothing(
    collector: Collector, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DRIFTLINE_ENDPOINT", collector.endpoint)
    monkeypatch.setenv("DRIFTLINE_SPOOL_DIR", "")
    ended = run(
        """
        import threading, driftline_sdk as sdk
        together = threading.Barrier(16)
        def work():
            together.wait()
            for _ in range(10):
                sdk.record(output="a")
        threads = [threading.Thread(target=work) for _ in range(16)]
        for thread in threads: thread.start()
        for thread in threads: thread.join()
        print(sdk.flush(10), sdk.stats()["recorded"])
        """
    )
    assert ended.stdout.split() == ["True", "160"], ended.stderr
    assert len(collector.records) == 160


def test_what_is_recorded_while_the_settings_change_is_not_lost(collector: Collector) -> None:
    start(collector)
    done = threading.Event()
    recorded = []

    def work() -> None:
        while not done.is_set():
            recorded.append(driftline_sdk.record(output="a"))
            done.wait(0.0005)

    thread = threading.Thread(target=work)
    thread.start()
    for _ in range(20):
        start(collector)
        done.wait(0.01)
    done.set()
    thread.join()
    assert driftline_sdk.flush(10)
    assert eventually(lambda: set(recorded) == set(collector.records))


@pytest.mark.skipif(sys.platform != "linux", reason="other systems want names in Unicode")
def test_a_working_directory_of_any_name_will_do(
    collector: Collector, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    odd = tmp_path / os.fsdecode(b"\xff\xfe")
    odd.mkdir()
    monkeypatch.chdir(odd)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    driftline_sdk.init(endpoint=collector.endpoint)
    sent = driftline_sdk.record(output="a")
    assert driftline_sdk.flush(5)
    assert sent in collector.records


class Leaves:
    """A value whose text is the end of the program."""

    def __str__(self) -> str:
        raise SystemExit("leave")


@pytest.mark.parametrize("kind", [SystemExit, KeyboardInterrupt, GeneratorExit, asyncio.CancelledError])
def test_nothing_that_is_raised_while_a_record_is_read_ends_the_sender(
    collector: Collector, kind: type[BaseException]
) -> None:
    def redact(record: dict[str, Any]) -> Any:
        if record["output"] == "odd":
            raise kind
        return record

    start(collector, redact=redact)
    driftline_sdk.record(output="odd")
    driftline_sdk.record(output="a", input=Leaves())
    driftline_sdk.flush(1)
    sent = driftline_sdk.record(output="fine")
    assert driftline_sdk.flush(5)
    assert list(collector.records) == [sent]
    stats = driftline_sdk.stats()
    assert stats["dropped"] == {"redact_failed": 1, "unencodable": 1}
    assert accounted(stats)


def test_recording_in_a_signal_handler_or_a_destructor_does_not_deadlock(collector: Collector) -> None:
    # Either may run at any line of any thread, also inside the waking of the sender.
    ended = run(
        """
        import signal, sys, driftline_sdk as sdk
        sdk.init(endpoint=sys.argv[1], spool_dir="", queue_max=100_000)
        sdk.record(output="first")
        sender = sdk.process.active._sender
        def record(*_):
            sender.parked = True  # as when it sleeps, so that each record wakes it
            sdk.record(output="a")
        signal.signal(signal.SIGALRM, record)
        signal.setitimer(signal.ITIMER_REAL, 0.0005, 0.0005)
        for _ in range(10_000):
            record()
        signal.setitimer(signal.ITIMER_REAL, 0)
        print(sdk.flush(20), sdk.stats()["recorded"] > 10_000)
        """,
        collector.endpoint,
    )
    assert ended.stdout.split() == ["True", "True"], ended.stderr


def test_a_call_that_outlives_the_settings_it_began_under_is_recorded_under_the_next(collector: Collector) -> None:
    start(collector, variant="one")
    with driftline_sdk.generation("q") as g:
        start(collector, variant="two")
        earlier = process._clients[0]
        assert eventually(earlier._sender.done.is_set)
        g.output = "a"
    assert driftline_sdk.flush(5)
    assert collector.records[g.id]["variant"] == "one"
    assert driftline_sdk.stats()["sent"] == 1
    assert earlier.stats()["recorded"] == 0
