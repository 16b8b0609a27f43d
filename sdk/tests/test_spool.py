"""What could not be delivered is on disk, within a cap, and the next start delivers it."""

from __future__ import annotations

import errno
import json
import os
import signal
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from local_collector import Collector, accounted, eventually, start
from scripts import run

import driftline_sdk
from driftline_sdk import spool
from driftline_sdk.spool import Spool

OWNER = "0" * 32  # a process that is gone


def lines(folder: Path) -> int:
    return sum(path.read_bytes().count(b"\n") for path in folder.glob("*-*.records.*"))


def test_a_collector_that_was_away_gets_everything_when_it_is_back(collector: Collector, tmp_path: Path) -> None:
    start(collector, spool_dir=tmp_path)
    collector.always = (503, {"Retry-After": "1"})
    for number in range(30):
        driftline_sdk.record(id=f"r{number}", output="a")
        time.sleep(0.01)
    driftline_sdk.feedback("r1", "good", True)
    assert eventually(lambda: driftline_sdk.stats()["spooled"] == 30)
    assert lines(tmp_path) == 30
    collector.always = None
    assert driftline_sdk.flush(10)
    assert len(collector.records) == 30
    assert len(collector.feedback) == 1
    assert lines(tmp_path) == 0
    assert accounted(driftline_sdk.stats())


def test_nobody_listening_is_the_same_as_an_answer_of_503(tmp_path: Path) -> None:
    gone = Collector()
    gone.close()
    start(gone, spool_dir=tmp_path)
    driftline_sdk.record(output="a")
    assert eventually(lambda: driftline_sdk.stats()["spooled"] == 1)
    assert "refused" in driftline_sdk.stats()["last_error"].lower()
    back = Collector(gone.port)
    assert driftline_sdk.flush(10)
    assert len(back.records) == 1
    back.close()


def test_what_was_spooled_survives_kill_9_and_the_next_start_delivers_it(collector: Collector, tmp_path: Path) -> None:
    collector.always = (503, {})
    script = """
        import os, signal, sys, time, driftline_sdk
        driftline_sdk.init(endpoint=sys.argv[1], spool_dir=sys.argv[2], interval_s=0.02, variant="v", queue_max=100)
        for number in range(300):
            driftline_sdk.record(id=f"r{number}", output="a")
        while driftline_sdk.stats()["spooled"] < 100:
            time.sleep(0.01)
        print(driftline_sdk.stats()["spooled"], driftline_sdk.stats()["dropped"]["queue_full"], flush=True)
        driftline_sdk.record(output="one more, so that the counts reach the disk")
        time.sleep(0.3)
        os.kill(os.getpid(), signal.SIGKILL)
    """
    ended = run(script, collector.endpoint, tmp_path)
    assert ended.returncode == -signal.SIGKILL, ended.stderr
    spooled, dropped = map(int, ended.stdout.split())
    assert spooled + dropped == 300
    collector.always = None
    start(collector, spool_dir=tmp_path)
    assert driftline_sdk.flush(10)
    assert len(collector.records) == spooled + 1
    assert collector.dropped("queue_full") == dropped
    assert accounted(driftline_sdk.stats())
    assert list(tmp_path.glob("*-*")) == []


def test_half_a_line_left_by_a_death_is_not_sent(collector: Collector, tmp_path: Path) -> None:
    whole = json.dumps({"id": "whole", "started_at": time.time(), "output": "a"})
    (tmp_path / f"{OWNER}-00000000.records.part").write_text(whole + "\n" + whole[: len(whole) // 2])
    start(collector, spool_dir=tmp_path)
    assert driftline_sdk.flush(5)
    assert list(collector.records) == ["whole"]
    assert driftline_sdk.stats()["dropped"] == {}


def test_a_spoiled_line_costs_only_itself(collector: Collector, tmp_path: Path) -> None:
    good = [json.dumps({"id": f"r{n}", "started_at": time.time(), "output": "a"}) for n in range(9)]
    (tmp_path / f"{OWNER}-00000000.records.jsonl").write_text("\n".join([*good[:4], "\0\0 rubbish", *good[4:]]) + "\n")
    start(collector, spool_dir=tmp_path)
    assert driftline_sdk.flush(5)
    assert len(collector.records) == 9
    assert driftline_sdk.stats()["dropped"] == {"rejected": 1}
    assert accounted(driftline_sdk.stats())


def test_what_a_living_process_spooled_is_left_to_it(tmp_path: Path) -> None:
    living = Spool(tmp_path, 1 << 20, "a" * 32)
    living.append("records", [b"{}"])
    other = Spool(tmp_path, 1 << 20, "b" * 32)
    assert other.adopt() == ({"records": 0, "feedback": 0}, [])
    living.close()
    assert other.adopt() == ({"records": 1, "feedback": 0}, [])
    other.close()


def test_the_cap_holds_and_what_does_not_fit_is_counted(collector: Collector, tmp_path: Path) -> None:
    start(collector, spool_dir=tmp_path, spool_max_bytes=100_000, variant="v")
    collector.always = (503, {})
    for _ in range(200):
        driftline_sdk.record(output="x" * 1_000)
    assert eventually(lambda: driftline_sdk.stats()["queued"] == 0)
    stats = driftline_sdk.stats()
    assert sum(path.stat().st_size for path in tmp_path.glob("*-*")) <= 100_000
    assert stats["dropped"]["spool_full"] > 100
    assert stats["spooled"] + stats["dropped"]["spool_full"] == 200
    collector.always = None
    assert driftline_sdk.flush(10)
    assert collector.dropped("spool_full") == stats["dropped"]["spool_full"]
    assert accounted(driftline_sdk.stats())


def test_a_disk_that_refuses_leaves_records_in_memory(collector: Collector, tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("not a folder")
    start(collector, spool_dir=blocked / "spool")
    collector.script = [(503, {})]
    driftline_sdk.record(output="a")
    assert driftline_sdk.flush(10)
    assert len(collector.records) == 1


def test_a_segment_that_makes_the_server_stumble_does_not_block_the_others(
    collector: Collector, tmp_path: Path
) -> None:
    for n in range(4):
        record = {"id": f"r{n}", "started_at": time.time(), "output": "a"}
        (tmp_path / f"{OWNER}-0000000{n}.records.jsonl").write_text(json.dumps(record) + "\n")
    usual = collector.answer

    def stumble(path: str, headers: dict[str, str], body: bytes) -> Any:
        status, headers, taken = usual(path, headers, body)
        return (500, {}, {}) if collector.records.pop("r0", None) else (status, headers, taken)

    collector.answer = stumble  # type: ignore[method-assign]
    start(collector, spool_dir=tmp_path)
    assert eventually(lambda: set(collector.records) == {"r1", "r2", "r3"})
    assert driftline_sdk.stats()["spooled"] == 1


def test_only_this_user_can_read_the_spool(collector: Collector, tmp_path: Path) -> None:
    folder = tmp_path / "spool"
    start(collector, spool_dir=folder)
    collector.always = (503, {})
    driftline_sdk.record(output="a secret")
    assert eventually(lambda: driftline_sdk.stats()["spooled"] == 1)
    assert folder.stat().st_mode & 0o777 == 0o700
    assert {path.stat().st_mode & 0o777 for path in folder.iterdir()} == {0o600}


def test_the_default_spool_is_one_folder_per_endpoint_and_working_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    folders = set()
    for place, endpoint in (("a", "http://one:1"), ("b", "http://one:1"), ("a", "http://two:1"), ("a", "http://one:1")):
        (tmp_path / place).mkdir(exist_ok=True)
        monkeypatch.chdir(tmp_path / place)
        driftline_sdk.init(endpoint=endpoint)
        folders.add(driftline_sdk.stats()["spool"])
    assert len(folders) == 3
    assert all(folder.startswith(str(tmp_path / "driftline" / "spool")) for folder in folders)


def test_a_folder_that_others_use_too_keeps_what_is_theirs(collector: Collector, tmp_path: Path) -> None:
    theirs = [
        "poetry.lock",
        "notes-2026.01.csv",
        "data-1.2.tar.gz",
        "my-report.txt",
        "old.counts",
        "cafe-1.records.jsonl",
    ]
    for name in theirs:
        (tmp_path / name).write_text("theirs\n")
    start(collector, spool_dir=tmp_path)
    collector.script = [(503, {})]
    driftline_sdk.record(output="a")
    assert driftline_sdk.flush(10)
    driftline_sdk.shutdown(2)
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == dict.fromkeys(theirs, "theirs\n")


def test_lines_that_were_written_before_the_disk_refused_are_not_kept_in_memory_too(
    collector: Collector, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(spool, "_SEGMENT_BYTES", 2_000)
    monkeypatch.delenv("DRIFTLINE_SDK_STRICT")
    usual, left = os.write, [3]

    def write(descriptor: int, content: bytes) -> int:
        if threading.current_thread().name == "driftline-sender" and not left[0]:
            raise OSError(errno.ENOSPC, "No space left on device")
        left[0] -= threading.current_thread().name == "driftline-sender"
        return usual(descriptor, content)

    monkeypatch.setattr(os, "write", write)
    start(collector, spool_dir=tmp_path, interval_s=0.3)
    collector.always = (503, {})
    for number in range(20):
        driftline_sdk.record(id=f"r{number}", output="x" * 1_000)
    assert eventually(lambda: driftline_sdk.stats()["spooled"] > 0)
    stats = driftline_sdk.stats()
    assert accounted(stats)
    assert 0 < stats["spooled"] < 20
    collector.always = None
    left[0] = 1_000
    assert driftline_sdk.flush(20)
    assert (len(collector.records), collector.duplicates) == (20, 0)


@pytest.mark.parametrize("left", ["[]", "5", "[" * 100_000, "\0", '{"id": 5}'])
def test_counts_that_cannot_be_read_are_put_aside(collector: Collector, tmp_path: Path, left: str) -> None:
    (tmp_path / f"{OWNER}.counts").write_text(left)
    line = json.dumps({"id": "r", "started_at": time.time(), "output": "a"}) + "\n"
    (tmp_path / f"{OWNER}-00000000.records.jsonl").write_text(line)
    start(collector, spool_dir=tmp_path)
    assert driftline_sdk.flush(10)
    assert list(collector.records) == ["r"]
    driftline_sdk.shutdown(2)
    assert list(tmp_path.iterdir()) == []


def test_a_segment_that_cannot_be_read_does_not_keep_the_others_back(
    collector: Collector, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for n in range(3):
        line = json.dumps({"id": f"r{n}", "started_at": time.time(), "output": "a"}) + "\n"
        (tmp_path / f"{OWNER}-0000000{n}.records.jsonl").write_text(line)
    usual = Path.read_bytes

    def read_bytes(path: Path) -> bytes:
        if path.stat().st_ino == unreadable:
            raise OSError(errno.EIO, "Input/output error")
        return usual(path)

    unreadable = (tmp_path / f"{OWNER}-00000000.records.jsonl").stat().st_ino
    monkeypatch.setattr(Path, "read_bytes", read_bytes)
    start(collector, spool_dir=tmp_path)
    assert eventually(lambda: len(collector.records) == 2)
    assert sorted(collector.records) == ["r1", "r2"]


def test_segments_that_somebody_took_away_are_counted(collector: Collector, tmp_path: Path) -> None:
    start(collector, spool_dir=tmp_path)
    collector.always = (503, {"Retry-After": "1"})
    for _ in range(5):
        driftline_sdk.record(output="a")
    assert eventually(lambda: driftline_sdk.stats()["spooled"] == 5)
    for path in tmp_path.glob("*.records.*"):
        path.unlink()
    collector.always = None
    assert driftline_sdk.flush(10)
    stats = driftline_sdk.stats()
    assert stats["dropped"] == {"spool_lost": 5}
    assert accounted(stats)
    assert collector.dropped("spool_lost") == 5
