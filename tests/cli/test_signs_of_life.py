"""Rows of processes: who lives, who ended how often."""

from pathlib import Path

from sqlmodel import select

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
