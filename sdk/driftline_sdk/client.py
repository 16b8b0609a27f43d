"""The client of a process: takes generations in at once, and owns what brings them away."""

from __future__ import annotations

import functools
import hashlib
import os
import sys
import threading
import time
import uuid
from pathlib import Path
from typing import Any

from driftline_sdk import process
from driftline_sdk.delivery import Delivery
from driftline_sdk.faults import counted, note, quietly
from driftline_sdk.feedback import Feedback
from driftline_sdk.generation import Generation, ids
from driftline_sdk.intake import RECORD_BYTES
from driftline_sdk.lane import Lane
from driftline_sdk.routes import Routes
from driftline_sdk.sampling import kept
from driftline_sdk.sender import Sender
from driftline_sdk.settings import Settings
from driftline_sdk.spool import Spool, holds_something
from driftline_sdk.transport import Transport
from driftline_sdk.wire import FEEDBACK, RECORDS, counted_as, written

_FEEDBACK_MAX = 1_000
_FEEDBACK_MAX_BYTES = 1 << 20
_START_AGAIN_S = 1.0


class Client:
    """What `init` makes. Its thread starts with the first record, or at once when an earlier process left some."""

    closed: bool
    pid: int
    _lock: threading.RLock
    _thread: threading.Thread | None
    _spool: Spool | None
    _lanes: dict[str, Lane]
    _sender: Sender
    _routes: Routes | None = None

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.variant = settings.variant or None
        self._share = settings.sample_rate
        self.tags = {**settings.tags, "route": settings.route} if settings.route else dict(settings.tags)
        self._begin()
        if self._spool is not None and holds_something(self._spool.folder):
            self._start()

    def submit(self, generation: Generation) -> None:
        """Takes a generation that has ended: samples it, queues it or counts why not. Never waits."""
        share = self._share
        if self._thread is None:
            self._start()
        if share < 1.0:
            generation.sample_rate = share
            if not kept(written("session_id", generation.session_id or generation.id), share):
                self._records.counts.add(counted_as(generation), "sampled_out")
                return
        self._offer(self._records, generation)

    def give(self, feedback: Feedback) -> None:
        """Takes feedback; it is never sampled out."""
        if self._thread is None:
            self._start()
        self._offer(self._lanes[FEEDBACK], feedback)

    def lose(self, variant: str | None) -> None:
        """Counts a record that a mistake, ours or in what was handed in, kept from being made."""
        self._records.intake.refuse()
        self._records.counts.add(variant if isinstance(variant, str) else "", "unencodable")

    def lose_feedback(self) -> None:
        """Counts feedback that could not be made."""
        self._lanes[FEEDBACK].intake.refuse()
        self._lanes[FEEDBACK].counts.add("", "unencodable")

    @property
    def routes(self) -> Routes:
        """What is known of routes; nothing is asked before the first question."""
        if self._routes is None:
            with self._lock:
                self._routes = self._routes or Routes(self.settings, _spool_folder(self.settings))
        return self._routes

    def flush(self, timeout_s: float) -> bool:
        """Whether everything so far, spool included, reached the collector within the time."""
        self._check_process()
        if threading.current_thread() is self._thread:
            return False
        if self._thread is None:
            return not self._sender.waiting()
        return self._sender.flush(timeout_s)

    def shutdown(self, timeout_s: float) -> bool:
        """Sends what it can in the time, spools the rest, and takes nothing more; True when all was delivered."""
        self._check_process()
        with self._lock:
            self.closed, closed = True, self.closed
        if threading.current_thread() is self._thread:
            return not self._sender.waiting()
        if closed:
            self._sender.done.wait(timeout_s)  # as when the process ends right after another `init`
            return not self._sender.waiting()
        delivered = self._sender.stop(timeout_s, started=self._thread is not None)
        for lane in self._lanes.values():
            lane.intake.close()
        return delivered

    @property
    def ended(self) -> bool:
        """Whether it was shut down, and nothing of it is on its way any more."""
        return self.closed and self._sender.done.is_set()

    def stats(self) -> dict[str, Any]:
        """Where everything is that was recorded: `recorded + adopted` is the sum of the other numbers."""
        records, feedback = self._lane_stats(RECORDS), self._lane_stats(FEEDBACK)
        sampled_out = records["dropped"].pop("sampled_out", 0)
        return {
            **records,
            "recorded": records["recorded"] + sampled_out,
            "sampled_out": sampled_out,
            "queued_bytes": self._records.intake.bytes,
            "feedback": feedback,
            "errors": counted(),
            "last_error": self._delivery.last_error,
            "spool": None if self._spool is None else str(self._spool.folder),
        }

    def forked(self) -> None:
        """In a child process: starts anew. What the parent had queued is the parent's to send."""
        if self._spool is not None:
            quietly(self._spool.leave, "leaving the parent's spool")
        ids.renew()
        self._begin()

    def _begin(self) -> None:
        settings = self.settings
        self.pid = os.getpid()
        self.closed = False
        self._owner = uuid.uuid4().hex
        self._lock = threading.RLock()
        self._thread = None
        self._start_again_at = 0.0
        folder = _spool_folder(settings)
        self._spool = None if folder is None else Spool(folder, settings.spool_max_bytes, self._owner)
        self._records = Lane(RECORDS, settings.queue_max, settings.queue_max_bytes)
        self._lanes = {RECORDS: self._records, FEEDBACK: Lane(FEEDBACK, _FEEDBACK_MAX, _FEEDBACK_MAX_BYTES)}
        self._delivery = Delivery(Transport(settings.endpoint, settings.api_key), self._owner)
        self._sender = Sender(settings, self._lanes, self._delivery, self._spool)
        self._half = max(1, settings.queue_max // 2)

    def _offer(self, lane: Lane, item: Generation | Feedback) -> None:
        try:
            item.weigh()
        except Exception as error:  # noqa: BLE001 - odd attributes; the sender will say what cannot be encoded
            note(error, "weighing a record")
            item.weight = RECORD_BYTES
        waiting = lane.intake.offer(item)
        if not waiting:
            if self.closed and self._hand_on(lane, item):
                return
            reason = "exit" if self.closed else "too_large" if item.weight > lane.intake.max_bytes else "queue_full"
            lane.counts.add(counted_as(item), reason)
        elif self._sender.parked or waiting == self._half:
            self._sender.parked = False
            self._check_process()
            self._sender.wake.set()

    def _hand_on(self, lane: Lane, item: Generation | Feedback) -> bool:
        """Gives what began before a later `init` to the client of that; False without one."""
        later = process.active
        if later is None or later is self or later.closed:
            return False
        lane.intake.withdraw()
        if isinstance(item, Generation):
            later.submit(item)
        else:
            later.give(item)
        return True

    def _start(self) -> None:
        """Starts the thread, without which nothing goes out; when the system has none to give, tries again later."""
        if self.closed or time.monotonic() < self._start_again_at:
            return
        with self._lock:
            if self._thread is not None:
                return
            self._start_again_at = time.monotonic() + _START_AGAIN_S
            thread = threading.Thread(target=self._sender.run, name="driftline-sender", daemon=True)
            try:
                thread.start()
            except RuntimeError as error:
                note(error, "starting the sender")
                return
            self._thread = thread
        _at_child_exit(self)

    def _check_process(self) -> None:
        """Notices a fork that no hook announced, when the sender should be woken and may not exist."""
        if os.getpid() != self.pid:
            self.forked()

    def _lane_stats(self, kind: str) -> dict[str, Any]:
        lane = self._lanes[kind]
        return {
            "recorded": lane.intake.offered,
            "adopted": lane.adopted,
            "queued": lane.queued(),
            "sent": lane.sent,
            "spooled": 0 if self._spool is None else self._spool.waiting[kind],
            "dropped": lane.counts.by_reason(),
        }


def _spool_folder(settings: Settings) -> Path | None:
    """Where this client spools: the folder that was set, else one per endpoint and working directory."""
    if settings.spool_dir is not None:
        return Path(settings.spool_dir) if settings.spool_dir else None
    try:
        state = Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state")
        place = f"{settings.endpoint}\n{Path.cwd()}"
    except (OSError, RuntimeError):  # no home, or a working directory that is gone
        return None
    return state / "driftline" / "spool" / hashlib.sha256(os.fsencode(place)).hexdigest()[:16]


def _at_child_exit(client: Client) -> None:
    """Children of multiprocessing end without `atexit`, but run its finalizers; those of Celery's pool only tell so."""
    for package in ("multiprocessing", "billiard"):
        children, finalizers = sys.modules.get(package + ".process"), sys.modules.get(package + ".util")
        if children is None or finalizers is None or type(children.current_process()).__name__ == "_MainProcess":
            continue
        timeout_s = client.settings.exit_timeout_s
        quietly(
            functools.partial(finalizers.Finalize, None, client.shutdown, (timeout_s,), exitpriority=10),
            f"registering with {package}",
        )
    signals = sys.modules.get("celery.signals")
    if signals is not None:
        quietly(functools.partial(_at_pool_exit, client, signals), "registering with celery")


def _at_pool_exit(client: Client, signals: Any) -> None:
    def end(**_: Any) -> None:
        quietly(functools.partial(client.shutdown, client.settings.exit_timeout_s), "the end of a pool's process")

    signals.worker_process_shutdown.connect(end, weak=False, dispatch_uid=f"driftline-{id(client)}")
