"""Where built steps lie: one directory per chain prefix, complete or absent, whoever builds or dies meanwhile.

```
<cache>/<key>/built.json     what was made, from what, with which versions, and the sha256 of each file
<cache>/<key>/model/         the files, absent where the step is made again at every opening
<cache>/<key>.lock           held while somebody builds the key; the system lets go of it when the builder dies
<cache>/.building-<key>-*    a build in progress, or the leavings of a killed one
```
"""

import fcntl
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from driftline.errors import DriftlineError
from variants.method import Say

MODEL = "model"
MANIFEST = "built.json"
KEYS = {"directory", "files", "bytes_stored", "measured", "seconds", "deterministic", "versions"}


def find(cache: Path, key: str) -> dict[str, Any] | None:
    """The manifest of `key`, or None where it is not built or its files are no longer the ones that were built."""
    try:
        manifest: dict[str, Any] = json.loads((cache / key / MANIFEST).read_text())
    except (FileNotFoundError, ValueError):
        return None
    if not isinstance(manifest, dict) or not manifest.keys() >= KEYS:
        return None
    directory = manifest["directory"]
    if directory is None:
        return manifest
    home = cache / key / directory  # an absolute one stays itself
    for name, file in manifest["files"].items():
        path = home / name
        if not path.is_file() or path.stat().st_size != file["bytes"]:
            return None
    return manifest


def directory_of(cache: Path, key: str, manifest: Mapping[str, Any]) -> Path | None:
    """Where the model of a manifest lies."""
    directory = manifest["directory"]
    return None if directory is None else cache / key / directory


def ready(cache: Path) -> None:
    """Makes the cache directory where it is missing.

    Raises:
        DriftlineError: It cannot be made or written.
    """
    try:
        cache.mkdir(parents=True, exist_ok=True)
        if not os.access(cache, os.W_OK | os.X_OK):
            raise PermissionError(13, "it is not writable")
    except OSError as wrong:
        said = f"Variants cannot be kept in {cache}: {wrong.strerror}. Choose another directory."
        raise DriftlineError(said) from wrong


@contextmanager
def building(cache: Path, key: str, say: Say) -> Iterator[Path]:
    """A fresh directory to build `key` in, alone: another builder of the same key waits. Removed at the end."""
    with (cache / f"{key}.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say("waiting for another process that builds the same")
            fcntl.flock(lock, fcntl.LOCK_EX)
        for leaving in cache.glob(f".building-{key}-*"):  # ours is the lock, so their builder is dead
            shutil.rmtree(leaving, ignore_errors=True)
        room = Path(tempfile.mkdtemp(prefix=f".building-{key}-", dir=cache))
        try:
            yield room
        finally:
            shutil.rmtree(room, ignore_errors=True)


def put(cache: Path, key: str, room: Path, manifest: Mapping[str, Any]) -> None:
    """Makes what was built in `room` the content of `key`, in one rename, after it has reached the disk."""
    (room / MANIFEST).write_text(json.dumps(manifest, indent=1, sort_keys=True))
    for path in sorted(room.rglob("*")):
        if path.is_file():
            with path.open("rb") as file:
                os.fsync(file.fileno())
    if (cache / key).exists():  # damaged, else nobody had built it again
        shutil.rmtree(cache / key)
    room.rename(cache / key)


def hashed(directory: Path) -> dict[str, dict[str, Any]]:
    """`{name: {"bytes", "sha256"}}` of the files in `directory`, not of folders in it; or of that one file."""
    paths = [directory] if directory.is_file() else [path for path in sorted(directory.iterdir()) if path.is_file()]
    return {path.name: {"bytes": path.stat().st_size, "sha256": file_sha256(path)} for path in paths}


def hashed_outside(cache: Path, directory: Path) -> dict[str, dict[str, Any]]:
    """As `hashed`, for a directory or file that is not ours; remembered while no size or time of change differs."""
    paths = [directory] if directory.is_file() else [p for p in sorted(directory.iterdir()) if p.is_file()]
    now = {p.name: [p.stat().st_size, p.stat().st_mtime_ns] for p in paths}
    memory = cache / "hashes" / f"{hashlib.sha256(str(directory).encode()).hexdigest()}.json"
    try:
        remembered = json.loads(memory.read_text())
    except (FileNotFoundError, ValueError):
        remembered = {}
    if remembered.get("seen") != now:
        remembered = {"seen": now, "files": hashed(directory)}
        memory.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile("w", dir=memory.parent, delete=False) as file:
            json.dump(remembered, file)
        Path(file.name).replace(memory)
    files: dict[str, dict[str, Any]] = remembered["files"]
    return files


def file_sha256(path: Path) -> str:
    """sha256 (hex) of a file's content."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
