"""SQLite's log, moved into the database file in the background, so that commits seldom wait for it.

A commit appends to the log; somebody must move the pages to their place before the log may begin anew. Done by the
commit that crosses the line, it holds up everybody for as long as tens of megabytes take.
"""

import logging
import sqlite3
from threading import Event, Thread
from typing import Any

from sqlalchemy import Engine

ROWS = 5_000  # committed between two rounds, about 16 MB of log
PAUSE_S = 0.2  # between two rounds at least

log = logging.getLogger("collector.checkpoints")


class Checkpoints:
    """A thread that moves the log whenever enough was committed. On PostgreSQL, which has its own, it does nothing."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._due = Event()
        self._stopped = Event()
        self._rows = 0
        self._thread: Thread | None = None
        if engine.dialect.name == "sqlite":
            self._thread = Thread(target=self._run, name="collector-checkpoints", daemon=True)

    def start(self) -> None:
        """Begins to wait for work."""
        if self._thread is not None:
            self._thread.start()

    def stop(self) -> None:
        """Ends after the round in hand."""
        self._stopped.set()
        self._due.set()
        if self._thread is not None:
            self._thread.join()

    def written(self, rows: int) -> None:
        """Counts committed rows; called by the thread that writes."""
        self._rows += rows
        if self._rows >= ROWS:
            self._rows = 0
            self._due.set()

    def _run(self) -> None:
        while self._due.wait() and not self._stopped.is_set():
            self._due.clear()
            try:
                self._move()
            except sqlite3.OperationalError as error:
                log.warning("The log could not be moved into the database now: %s", error)
            self._stopped.wait(PAUSE_S)

    def _move(self) -> None:
        borrowed = self._engine.raw_connection()  # the driver's own: a checkpoint stands outside of transactions
        try:
            driver: Any = borrowed.driver_connection
            driver.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()
        finally:
            borrowed.close()
