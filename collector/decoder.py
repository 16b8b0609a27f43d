"""Reading large trace requests in a second process, so that one core reads while another writes.

Python runs one thread at a time, and reading a span takes longer than storing it. Whatever the second process cannot
do, because it is busy, broken or not there yet, is read where the request came in: it makes nothing possible, only
faster, and nothing is lost with it.
"""

import asyncio
import contextlib
import logging
import queue
import subprocess
import sys
import time
from collections import deque
from dataclasses import dataclass
from threading import Lock, Thread
from typing import IO

import msgspec

from collector.decoding import LENGTH, LENGTHS, Head, Spans, read_fully
from collector.sender import Sender

log = logging.getLogger("collector.decoder")

WORTHWHILE = 32 * 1024  # bytes: handing over smaller bodies costs more than it saves
_AHEAD = 4  # bodies it is given at a time: whoever comes first is read first, while this process answers others
_PATIENCE_S = 30.0  # for one body
_PAUSE_S = 5.0  # between two starts, where it cannot live
_PIPE = 2**20  # bytes, the most that Linux gives anyone: a body passes in one go, however busy its sender is


@dataclass(slots=True)
class _Job:
    loop: asyncio.AbstractEventLoop
    answer: "asyncio.Future[Spans | None]"

    def done(self, spans: Spans | None) -> None:
        with contextlib.suppress(RuntimeError):  # the loop has ended, and who waited with it
            self.loop.call_soon_threadsafe(self._set, spans)

    def _set(self, spans: Spans | None) -> None:
        if not self.answer.done():  # else its sender has gone away
            self.answer.set_result(spans)


class Decoder:
    """One such process: started by the first large body, ended by `stop`."""

    def __init__(self) -> None:
        self._lock = Lock()  # of what follows
        self._process: subprocess.Popen[bytes] | None = None
        self._jobs: deque[_Job] = deque()  # given to the process, in the order of its answers
        self._sending: queue.SimpleQueue[tuple[bytes, bytes] | None] = queue.SimpleQueue()
        self._thread: Thread | None = None
        self._begun = -_PAUSE_S
        self._stopped = False
        self._head = msgspec.msgpack.Encoder()
        self._spans = msgspec.msgpack.Decoder(Spans)
        self.done = 0  # bodies since the start

    @property
    def pid(self) -> int | None:
        """Of the process that lives now."""
        process = self._process
        return None if process is None else process.pid

    @property
    def waiting(self) -> int:
        """How many bodies it holds."""
        return len(self._jobs)

    async def read(self, body: bytes, sender: Sender, as_json: bool) -> Spans | None:
        """What a trace request holds; None where it must be read here."""
        loop = asyncio.get_running_loop()
        head = self._head.encode(Head(sender.project_id, sender.privacy.store_text, as_json))
        with self._lock:
            if self._process is None:
                self._begin()
                return None
            if len(self._jobs) >= _AHEAD:
                return None
            job = _Job(loop, loop.create_future())
            self._jobs.append(job)
            self._sending.put((LENGTHS.pack(len(head), len(body)) + head, body))
        try:
            async with asyncio.timeout(_PATIENCE_S):
                return await job.answer
        except TimeoutError:
            log.warning("A body was not read within %.0f s; the process that read it is ended.", _PATIENCE_S)
            self._kill()
            return None

    def stop(self) -> None:
        """Ends the process for good; what it holds is to be read here."""
        with self._lock:
            self._stopped = True
            thread = self._thread
        self._kill()
        if thread is not None:
            thread.join()

    def _begin(self) -> None:
        idle = self._thread is None or not self._thread.is_alive()
        if idle and not self._stopped and time.monotonic() - self._begun >= _PAUSE_S:
            self._begun = time.monotonic()
            self._thread = Thread(target=self._live, name="collector-decoder", daemon=True)
            self._thread.start()

    def _live(self) -> None:
        try:
            process = _started()
        except OSError as error:
            log.warning("No process can be started to read beside the collector: %s.", error)
            return
        assert process.stdin is not None
        assert process.stdout is not None
        sending: queue.SimpleQueue[tuple[bytes, bytes] | None] = queue.SimpleQueue()
        sender = Thread(target=_send, args=(sending, process.stdin), name="collector-decoder-jobs", daemon=True)
        sender.start()
        with self._lock:
            self._process, self._sending = process, sending
            if self._stopped:  # while it started
                process.kill()
        try:
            while len(length := read_fully(process.stdout, LENGTH.size)) == LENGTH.size:
                (size,) = LENGTH.unpack(length)
                said = read_fully(process.stdout, size)
                if len(said) < size:
                    break
                spans = self._spans.decode(said) if size else None
                self.done += 1
                self._jobs.popleft().done(spans)
        finally:
            with self._lock:
                self._process = None
                left = list(self._jobs)
                self._jobs.clear()
            for job in left:
                job.done(None)
            process.kill()
            sending.put(None)
            sender.join()
            process.wait()
            process.stdout.close()

    def _kill(self) -> None:
        with self._lock:
            if self._process is not None:
                self._process.kill()


def _started() -> "subprocess.Popen[bytes]":
    command = [sys.executable, "-P", "-m", "collector.decoding"]  # ours, whatever lies in the folder we run in
    try:
        return subprocess.Popen(command, bufsize=0, stdin=subprocess.PIPE, stdout=subprocess.PIPE, pipesize=_PIPE)
    except PermissionError:  # this user's pipes hold as much as they may
        return subprocess.Popen(command, bufsize=0, stdin=subprocess.PIPE, stdout=subprocess.PIPE)


def _send(jobs: "queue.SimpleQueue[tuple[bytes, bytes] | None]", pipe: IO[bytes]) -> None:
    with contextlib.suppress(OSError), pipe:  # it ended; what it held is read elsewhere
        while (job := jobs.get()) is not None:
            for part in job:
                rest = memoryview(part)
                while rest:
                    rest = rest[pipe.write(rest) :]
            del job, part, rest
