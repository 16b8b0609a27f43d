"""What every process of Driftline does first and last: bring the store up to date, say that it lives."""

import logging
import os
import signal
import socket
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from types import FrameType

from sqlalchemy.exc import IntegrityError, OperationalError
from sqlmodel import Session, col, delete, select

from driftline.moment import SECOND, now_us
from driftline.store.engine import reading, writing
from driftline.store.tables import Process
from driftline.store.upgrade import upgrade

SIGN_S = 5.0  # between two signs of life
SILENT_S = 30.0  # after this long without one a process counts as gone
FORGOTTEN_S = 24 * 3600.0  # a process silent for this long is no news: containers leave a host name behind each time


@contextmanager
def prepared(name: str) -> Iterator[None]:
    """Upgrades the store, then writes a row that this process lives, renewed until the block ends.

    Until the block listens to SIGTERM in its own way, and after that, the signal is an orderly end with exit code 0.

    Raises:
        StoreUnavailable: The database does not answer or is of a newer version.
    """
    signal.signal(signal.SIGTERM, _end)
    speak()
    upgrade()
    started, stopped = now_us(), threading.Event()
    name = _free_name(name)
    sign(name, started)

    def keep_signing() -> None:
        while not stopped.wait(SIGN_S):
            try:
                sign(name, started)
            except OperationalError as error:
                logging.getLogger("driftline").warning("%s cannot write its sign of life: %s", name, error.orig)

    threading.Thread(target=keep_signing, name="signs of life", daemon=True).start()
    try:
        yield
    finally:
        stopped.set()


def _free_name(name: str) -> str:
    """The name, or name-2, name-3, … when a process of this machine has it and lives: two workers are two rows."""
    with reading() as session:
        mine = session.exec(select(Process).where(Process.host == socket.gethostname())).all()
    taken = {row.name for row in mine if row.pid not in (0, os.getpid()) and _lives(row)}
    return next(free for n in count(1) if (free := name if n == 1 else f"{name}-{n}") not in taken)


def _lives(row: Process) -> bool:
    if row.seen_at < now_us() - int(SILENT_S * SECOND):
        return False
    try:
        os.kill(row.pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def silence_s(name: str | None) -> float | None:
    """Seconds since the process of this name (None: any process) on this machine was last seen; None when never."""
    of_machine = select(Process.seen_at).where(Process.host == socket.gethostname())
    of_name = of_machine if name is None else of_machine.where(Process.name == name)
    with reading() as session:
        seen = session.exec(of_name.order_by(col(Process.seen_at).desc())).first()
    return None if seen is None else (now_us() - seen) / SECOND


def _end(number: int, frame: FrameType | None) -> None:
    raise SystemExit(0)


def sign(name: str, started_at: int) -> None:
    """Writes that the process of this name lives; one that started anew counts a restart.

    A row without a pid is of a process whose end was counted already, by whoever starts it again.
    """
    try:
        _sign(name, started_at)
    except IntegrityError:  # another of the same name signed for the first time at this very moment
        _sign(name, started_at)


def _sign(name: str, started_at: int) -> None:
    with writing() as session:
        row = process_row(session, name)
        if row.started_at != started_at:  # not the pid: in a container it is the same after every start
            row.restarts += 1 if row.pid else 0
            silent = Process.seen_at < now_us() - int(FORGOTTEN_S * SECOND)
            session.connection().execute(delete(Process).where(silent, col(Process.id).is_distinct_from(row.id)))  # type: ignore[arg-type]
        row.pid, row.started_at, row.seen_at = os.getpid(), started_at, now_us()
        session.add(row)


def count_end(session: Session, name: str, how: str, restarts: int) -> None:
    """Writes that the process of this name has ended, with this the `restarts`-th time; it may never have signed."""
    row = process_row(session, name)
    # It lived until now: with an older sign the next process that signs would take the row for one long forgotten.
    row.last_exit, row.restarts, row.pid, row.seen_at = how, restarts, 0, now_us()
    session.add(row)


def process_row(session: Session, name: str) -> Process:
    """The row of a process of this machine, made when missing."""
    host = socket.gethostname()
    row = session.exec(select(Process).where(Process.host == host, Process.name == name)).first()
    return row or Process(host=host, name=name, pid=0, started_at=0, seen_at=0)


def speak() -> None:
    """Sends log lines to standard error, once."""
    logging.basicConfig(
        stream=sys.stderr, level=logging.WARNING, format="%(asctime)s %(levelname)s %(name)s: %(message)s"
    )
    logging.getLogger("driftline").setLevel(logging.INFO)
