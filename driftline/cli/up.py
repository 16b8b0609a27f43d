"""Everything on one machine: starts web, clock and workers, starts again what crashes, stops all of it cleanly."""

import fcntl
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import IO

from sqlalchemy.exc import SQLAlchemyError
from sqlmodel import delete

from driftline.cli.say import out
from driftline.cli.serving import count_end
from driftline.cli.web import listen, refuse_open_doors
from driftline.errors import Conflict, DriftlineError
from driftline.settings import address_of, settings
from driftline.store.engine import make_folder, writing
from driftline.store.tables import Process
from driftline.store.upgrade import upgrade

STOP_S = 12.0  # a child that has not ended by then is killed; jobs in hand are taken up again at the next start
ORPHANS_S = STOP_S + 3.0  # children whose supervisor was killed are gone by then
LONGEST_PAUSE_S = 15.0
NOTICES = "6"  # threads that send alerts
CHECKS = "3"  # threads that look at traffic: a report takes ten seconds, and no check waits for it
SETTLED_S = 30.0  # a child that lived this long starts again at once when it crashes
LOCKS = ("up.lock", "children.lock")  # in the data folder: held by the supervisor, and by all of its children
MOST_LOG = 5_000_000  # bytes of each child's log, and as many of what was before
# Model workers and the app's own model share the cores: threads that spin while waiting would starve each other.
QUIET_THREADS = {"OMP_WAIT_POLICY": "PASSIVE", "GOMP_SPINCOUNT": "0"}


@dataclass
class Child:
    """A process that shall run, and how often it had to be started again."""

    name: str
    arguments: Sequence[str]
    process: subprocess.Popen[bytes] | None = None
    started: float = 0.0
    restarts: int = 0
    due: float = 0.0
    crashes: int = 0
    exits: list[str] = field(default_factory=list)


class Supervisor:
    """Keeps the children running until told to stop."""

    def __init__(self, say: Callable[[str], None], held_open: int) -> None:
        self._say = say
        self._held_open = held_open  # a descriptor that every child holds as long as it lives
        self._listener = listen(settings().host, settings().port)
        self._listener.set_inheritable(True)
        self._tether, self._held = os.pipe()
        os.set_inheritable(self._tether, True)
        tether = ("--tether", str(self._tether))
        self.children = [
            Child("web", ("web", "--listener", str(self._listener.fileno()), *tether)),
            Child("clock", ("clock", *tether)),
            Child("worker-models", ("work", "--queues", "replay,build", "--name", "worker-models", *tether)),
            Child(
                "worker-checks",
                ("work", "--queues", "drift", "--concurrency", CHECKS, "--name", "worker-checks", *tether),
            ),
            Child(
                "worker-notices",
                ("work", "--queues", "notify", "--concurrency", NOTICES, "--name", "worker-notices", *tether),
            ),
        ]
        self._tending = threading.Lock()
        self.stopping = False  # set by a signal or `request_stop`

    @property
    def address(self) -> str:
        """Where the dashboard is: the port that was really taken, which matters when port 0 was asked for."""
        host, port = self._listener.getsockname()[:2]
        return settings().public_url.rstrip("/") or address_of(host, port)

    def start(self) -> None:
        """Starts every child."""
        for child in self.children:
            self._launch(child)

    def watch(self, until: Callable[[], bool] = lambda: False) -> None:
        """Starts again what ends, until told to stop."""
        while not self.stopping and not until():
            with self._tending:
                for child in self.children:
                    if not self.stopping:
                        self._tend(child)
                    shorten(_log_path(child.name))
            time.sleep(0.1)

    def request_stop(self, *_: int | FrameType | None) -> None:
        """Makes `watch` return."""
        self.stopping = True

    def stop(self) -> None:
        """Ends every child: asks first, kills what does not listen."""
        self.stopping = True
        with self._tending:  # nothing is started again from here on
            running = [child.process for child in self.children if child.process is not None]
        for process in running:
            process.terminate()
        deadline = time.monotonic() + STOP_S
        for process in running:
            try:
                process.wait(max(0.0, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        self._listener.close()
        for end in (self._tether, self._held):
            with suppress(OSError):
                os.close(end)

    def _launch(self, child: Child) -> None:
        try:
            with _log(child.name) as log:
                child.process = subprocess.Popen(
                    [sys.executable, "-m", "driftline", *child.arguments],
                    pass_fds=(self._listener.fileno(), self._tether, self._held_open),
                    stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=log, start_new_session=True,
                    env=QUIET_THREADS | dict(os.environ),
                )  # fmt: skip
        except OSError as error:  # no process, memory or disk left: the others go on, this one is tried again
            child.due = time.monotonic() + LONGEST_PAUSE_S
            self._say(f"{child.name} cannot be started ({error.strerror}); the next try is in {LONGEST_PAUSE_S:.0f} s.")
            return
        child.started = time.monotonic()

    def _tend(self, child: Child) -> None:
        now = time.monotonic()
        if child.process is None:
            if now >= child.due:
                self._launch(child)
            return
        code = child.process.poll()
        if code is None:
            return
        how = f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
        child.process, child.restarts = None, child.restarts + 1
        child.crashes = 0 if now - child.started > SETTLED_S else child.crashes + 1
        child.due = now + min(LONGEST_PAUSE_S, 0.25 * 2**child.crashes)
        self._say(f"{child.name} ended ({how}) and is started again. Its log: {_log_path(child.name)}")
        # A full disk or a locked store must not end the one process that keeps the others running.
        with suppress(DriftlineError, SQLAlchemyError), writing() as session:
            count_end(session, child.name, how, child.restarts)


def run_up(as_json: bool) -> int:
    """Runs everything until Ctrl-C or SIGTERM; with `as_json` standard output holds one document: where it is."""

    def say(line: str) -> None:
        print(line, flush=True, file=sys.stderr if as_json else sys.stdout)

    with supervised(say) as supervisor:
        say(f"Driftline is up at {supervisor.address} (pages, /api and /v1). Ctrl-C stops it.")
        say(f"Data: {settings().data_dir.absolute()}")
        if as_json:
            out(True, {"address": supervisor.address, "data_dir": str(settings().data_dir.absolute())}, "")
            sys.stdout.flush()
        supervisor.watch()
        say("Stopping: jobs in hand are finished or taken up again at the next start.")
    return 0


@contextmanager
def supervised(say: Callable[[str], None], prepare: Callable[[], object] = bool) -> Iterator[Supervisor]:
    """A supervisor with all children started; they end with the block.

    `prepare` is called once the data folder is ours alone, before anything in it is used.

    Raises:
        Conflict: Another Driftline runs on this data folder.
        BadInput: The port is in use.
        StoreUnavailable: The store cannot be opened or is of a newer version.
    """
    make_folder(settings().data_dir)
    ours, theirs = (settings().data_dir / name for name in LOCKS)
    with _only_one(ours), _children_held(theirs, say) as held:
        prepare()
        upgrade()
        refuse_open_doors()
        with writing() as session:
            session.connection().execute(delete(Process).where(Process.host == socket.gethostname()))  # type: ignore[arg-type]
        supervisor = Supervisor(say, held)
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, supervisor.request_stop)
        supervisor.start()
        try:
            yield supervisor
        finally:
            supervisor.stop()


@contextmanager
def _only_one(path: Path) -> Iterator[None]:
    with path.open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise Conflict(
                f"Another Driftline is up on the data folder {path.parent}. "
                "Stop it, or set DRIFTLINE_DATA_DIR to another folder."
            ) from None
        yield


@contextmanager
def _children_held(path: Path, say: Callable[[str], None]) -> Iterator[int]:
    """A descriptor to pass to all children: locked until the last of them has ended, even when nobody watches them.

    Raises:
        Conflict: Children of a supervisor that was killed still run, and do not end.
    """
    with path.open("w") as lock:
        deadline, told = time.monotonic() + ORPHANS_S, False
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise Conflict(
                        f"Processes of an earlier Driftline still run on the data folder {path.parent}. End them first."
                    ) from None
            if not told:
                say("Waiting for the processes of an earlier start, which was killed, to end.")
                told = True
            time.sleep(0.1)
        yield lock.fileno()


def _log_path(name: str) -> Path:
    return settings().data_dir / "logs" / f"{name}.log"


def _log(name: str) -> IO[bytes]:
    path = _log_path(name)
    path.parent.mkdir(exist_ok=True)
    return path.open("ab")


def shorten(log: Path) -> None:
    """Moves the content of a log that has grown too long aside, while its child goes on writing to it."""
    if log.exists() and log.stat().st_size > MOST_LOG:
        shutil.copyfile(log, log.with_suffix(".log.old"))
        os.truncate(log, 0)  # the child appends, so it writes at the new end
