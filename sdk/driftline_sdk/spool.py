"""What could not be delivered yet, on disk: it survives the process and the next one delivers it.

A folder holds, per process (`owner`), a lock, segments of lines and the counts:

    <owner>.lock                  held with flock while the owner lives; the kernel lets go, however it dies
    <owner>-<n>.<kind>.part       being appended to
    <owner>-<n>.<kind>.jsonl      closed, renamed in one step
    <owner>.counts                the owner's counts, as last told to the disk

Whoever can take a lock knows that its owner is gone and renames what it left to itself. Files of any other name are
somebody else's, and are left alone.
"""

from __future__ import annotations

import json
import os
import re
import threading
import time
from pathlib import Path
from typing import Any, NamedTuple

try:
    import fcntl
except ImportError:  # no flock on Windows: segments untouched for so long are taken over, ids make that harmless
    fcntl = None  # type: ignore[assignment]

_SEGMENT_BYTES = 1 << 20
_UNLOCKED_AGE_S = 600.0
_SEGMENT = re.compile(r"([0-9a-f]{32})-[0-9]{8,}\.(records|feedback)\.(?:part|jsonl)")
_OWNED = re.compile(r"([0-9a-f]{32})(?:\.lock|\.counts|-[0-9]{8,}\.(?:records|feedback)\.(?:part|jsonl))")


class Refused(OSError):
    """The disk took `written` of the lines, and no more."""

    def __init__(self, error: OSError, written: int) -> None:
        super().__init__(error.errno, error.strerror, error.filename)
        self.written = written


class Segment(NamedTuple):
    """A closed file of lines of one kind."""

    path: Path
    kind: str
    lines: list[bytes]


class Spool:
    """This process's part of the folder. Methods raise OSError when the disk refuses; safe to call from threads.

    A line is safe from the death of the process once `append` returns. It is not synced, so the death of the machine
    may take the last seconds.
    """

    def __init__(self, folder: str | Path, max_bytes: int, owner: str) -> None:
        self.folder = Path(folder)
        self.max_bytes = max_bytes
        self.owner = owner
        self.waiting = {"records": 0, "feedback": 0}
        self.lost = {"records": 0, "feedback": 0}  # lines that were waiting and are there no more
        self._bytes = 0
        self._number = 0
        self._open: dict[str, tuple[int, Path]] = {}
        self._lock_file: int | None = None
        self._lines: dict[Path, int] = {}
        self._lock = threading.Lock()

    def append(self, kind: str, lines: list[bytes], capped: bool = True) -> int:
        """Writes lines at the end and answers how many fitted under the cap; `capped=False` is for moved lines.

        Raises:
            Refused: The disk took only some of them, or none.
        """
        written = 0
        with self._lock:
            try:
                while written < len(lines):
                    fitting = self._append(kind, lines[written:], capped)
                    if not fitting:
                        break
                    written += fitting
            except OSError as error:
                raise Refused(error, written) from error
        return written

    def _append(self, kind: str, lines: list[bytes], capped: bool) -> int:
        """Writes what still belongs into the open segment; how many lines that is."""
        descriptor, path = self._open.get(kind) or self._begin(kind)
        size = os.fstat(descriptor).st_size
        chunk: list[bytes] = []
        room = self.max_bytes - self._bytes
        for line in lines:
            if (capped and room < len(line) + 1) or (chunk and size >= _SEGMENT_BYTES):
                break
            chunk.append(line)
            size += len(line) + 1
            room -= len(line) + 1
        if chunk:
            self._write(descriptor, b"\n".join(chunk) + b"\n")
            self._lines[path] = self._lines.get(path, 0) + len(chunk)
            self.waiting[kind] += len(chunk)
            if size >= _SEGMENT_BYTES:
                self._finish(kind)
        return len(chunk)

    def oldest(self, turn: int = 0) -> Segment | None:
        """A closed segment, closing an open one if there is no other; `turn` picks another when one cannot be sent."""
        with self._lock:
            closed = sorted(path for path in self._lines if path.suffix == ".jsonl")
            if not closed:
                for kind in list(self._open):
                    self._finish(kind)
                closed = sorted(self._lines)
            while closed:
                path = closed.pop(turn % len(closed))
                try:
                    lines = path.read_bytes().split(b"\n")[:-1]  # after the last newline: nothing, or half a line
                except OSError:  # somebody cleaned up, or the disk is broken
                    gone = self._lines.pop(path)
                    self.waiting[_kind(path)] -= gone
                    self.lost[_kind(path)] += gone
                    continue
                return Segment(path, _kind(path), lines)
            return None

    def remove(self, segment: Segment) -> None:
        """Forgets a segment that has been dealt with."""
        with self._lock:
            self.waiting[segment.kind] -= self._lines.pop(segment.path, 0)
            self._unlink(segment.path)

    def keep_counts(self, counts: dict[str, Any]) -> None:
        """Puts the owner's counts on disk, in one step."""
        with self._lock:
            self._claim()
            temporary = self.folder / f"{self.owner}.counts.new"
            temporary.write_text(json.dumps(counts))
            temporary.replace(self.folder / f"{self.owner}.counts")

    def forget_counts(self, owner: str) -> None:
        """Removes the counts of an owner: the collector has them."""
        (self.folder / f"{owner}.counts").unlink(missing_ok=True)

    def adopt(self) -> tuple[dict[str, int], list[dict[str, Any]]]:
        """Takes over what dead processes left: how many lines of each kind, and their counts to send and `forget`."""
        adopted = dict.fromkeys(self.waiting, 0)
        counts: list[dict[str, Any]] = []
        if not self.folder.is_dir():
            return adopted, counts
        with self._lock:
            owned = filter(None, (_OWNED.fullmatch(path.name) for path in self.folder.iterdir()))
            for owner in sorted({found[1] for found in owned} - {self.owner}):
                guard = self.folder / f"{owner}.lock"
                try:
                    lock = _lock(guard)
                except BlockingIOError:  # it lives
                    continue
                try:
                    self._claim()
                    self._take_over(owner, adopted, counts)
                    if not any(self.folder.glob(f"{owner}*[!k]")):  # nothing but the lock is left
                        guard.unlink(missing_ok=True)
                finally:
                    if lock is not None:
                        os.close(lock)
            return adopted, counts

    def close(self) -> None:
        """Closes the segments; the lock file stays only while it guards something."""
        with self._lock:
            for kind in list(self._open):
                self._finish(kind)
            if self._lock_file is not None:
                if not self._lines and not (self.folder / f"{self.owner}.counts").exists():
                    (self.folder / f"{self.owner}.lock").unlink(missing_ok=True)
                os.close(self._lock_file)
                self._lock_file = None

    def leave(self) -> None:
        """In a forked child: lets go of the parent's files without unlocking or closing anything of the parent's."""
        descriptors = [descriptor for descriptor, _ in self._open.values()]
        for descriptor in [*descriptors, self._lock_file]:
            if descriptor is not None:
                os.close(descriptor)

    def _begin(self, kind: str) -> tuple[int, Path]:
        self._claim()
        self._bytes = sum(_size(path) for path in self.folder.iterdir() if _SEGMENT.fullmatch(path.name))
        path = self.folder / f"{self.owner}-{self._number:08d}.{kind}.part"
        self._number += 1
        self._open[kind] = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600), path
        return self._open[kind]

    def _finish(self, kind: str) -> None:
        descriptor, path = self._open.pop(kind)
        os.close(descriptor)
        closed = path.with_suffix(".jsonl")
        path.replace(closed)
        self._lines[closed] = self._lines.pop(path, 0)

    def _write(self, descriptor: int, content: bytes) -> None:
        before = os.fstat(descriptor).st_size
        try:
            written = 0
            while written < len(content):
                written += os.write(descriptor, content[written:])
        except OSError:
            os.ftruncate(descriptor, before)  # a full disk must not leave half a line
            raise
        self._bytes += len(content)

    def _claim(self) -> None:
        """Makes the folder and takes this process's lock, once."""
        if self._lock_file is not None:
            return
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        new = self.folder / f"{self.owner}.lock.new"
        new.touch(mode=0o600)
        lock = _lock(new)
        new.replace(self.folder / f"{self.owner}.lock")  # only now can others see it, and it is locked already
        self._lock_file = lock

    def _take_over(self, owner: str, adopted: dict[str, int], counts: list[dict[str, Any]]) -> None:
        for path in sorted(self.folder.glob(f"{owner}-*.*")):
            if not _SEGMENT.fullmatch(path.name):
                continue
            if fcntl is None and time.time() - path.stat().st_mtime < _UNLOCKED_AGE_S:
                continue
            kind = _kind(path)
            mine = self.folder / f"{self.owner}-{self._number:08d}.{kind}.jsonl"
            self._number += 1
            try:
                lines = path.read_bytes().count(b"\n")
                path.replace(mine)
            except OSError:  # another process was faster, or another user's are in the way
                continue
            self._lines[mine] = lines
            self.waiting[kind] += lines
            adopted[kind] += lines
        for path in self.folder.glob(f"{owner}.counts"):
            try:
                told = json.loads(path.read_bytes())
            except (OSError, ValueError, RecursionError):
                told = None
            if isinstance(told, dict) and told.get("id") == owner and isinstance(told.get("counts"), list):
                counts.append(told)
            else:
                path.unlink(missing_ok=True)

    def _unlink(self, path: Path) -> None:
        self._bytes -= _size(path)
        path.unlink(missing_ok=True)


def holds_something(folder: Path) -> bool:
    """Whether a process left lines or counts in a folder."""
    try:
        return any(_OWNED.fullmatch(path.name) and path.suffix != ".lock" for path in folder.iterdir())
    except OSError:
        return False


def _kind(path: Path) -> str:
    found = _SEGMENT.fullmatch(path.name)
    assert found is not None
    return found[2]


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:  # delivered meanwhile, by the process whose it is
        return 0


def _lock(path: Path) -> int | None:
    """An open file, locked for this process until it is closed; None when there is no such file.

    Raises:
        BlockingIOError: Somebody alive holds it.
    """
    try:
        descriptor = os.open(path, os.O_RDWR)
    except FileNotFoundError:
        return None
    if fcntl is not None:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(descriptor)
            raise
    return descriptor
