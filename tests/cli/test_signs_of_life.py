"""Rows of processes: who lives, who ended how often."""

from pathlib import Path

import pytest
from sqlalchemy.exc import IntegrityError
from sqlmodel import select

from driftline.cli import serving, up
from driftline.cli.serving import count_end, sign
from driftline.moment import now_us
from driftline.store.engine import reading, writing
from driftline.store.tables import Process


def test_a_process_that_died_before_its_first_sign_is_counted_whoever_signs_next(store: Path) -> None:
    with writing() as session:
        count_end(session, "worker-checks", "signal SIGKILL", 1)
    sign("web", now_us())
    sign("worker-checks", now_us())
    with reading() as session:
        rows = {row.name: (row.restarts, row.last_exit) for row in session.exec(select(Process))}
    assert rows == {"web": (0, None), "worker-checks": (1, "signal SIGKILL")}


def test_two_processes_of_one_name_may_sign_for_the_first_time_at_once(
    store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = serving.process_row

    def beaten(session: object, name: str) -> Process:
        monkeypatch.setattr(serving, "process_row", known)
        raise IntegrityError("INSERT", {}, Exception("the other was first"))

    monkeypatch.setattr(serving, "process_row", beaten)
    sign("worker", now_us())
    with reading() as session:
        assert [row.name for row in session.exec(select(Process))] == ["worker"]


def test_a_long_log_is_moved_aside_while_its_process_writes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(up, "MOST_LOG", 10)
    log = tmp_path / "web.log"
    with log.open("ab", buffering=0) as child:
        child.write(b"short")
        up.shorten(log)
        child.write(b" and then long")
        up.shorten(log)
        child.write(b"more")
    assert log.read_bytes() == b"more"
    assert log.with_suffix(".log.old").read_bytes() == b"short and then long"
