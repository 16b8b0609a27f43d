"""Built steps shared between machines: whole artifacts at any fsspec URL, files by content hash.

```
<url>/<sha256[:2]>/<sha256>   a file, whatever step made it; the same file of two steps lies there once
<url>/built/<key>.json        the manifest of a step, written after all its files
```

A manifest names its files with their sizes and hashes, and what arrives is checked against them: a half-written or
damaged file is never used. Nothing is pickled.
"""

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import fsspec

from driftline.errors import DriftlineError
from variants import shelf
from variants.build import keys_of
from variants.method import Say, quiet
from variants.recipe import Spec

PIECE = 8 * 2**20  # bytes copied at a time


def push(spec: Spec, cache: Path, url: str, on_progress: Say = quiet) -> int:
    """Puts every built step of `spec` in `cache` under `url`; gives how many files were not there yet.

    Directories that were used where they lie (`hf_dir`) are not ours and stay there.

    Raises:
        DriftlineError: The URL cannot be written.
    """
    sent = 0
    with _at(url) as (filesystem, root):
        for key in _keys(spec, cache):
            manifest = shelf.find(cache, key)
            if manifest is None or _is_outside(manifest) or filesystem.exists(f"{root}/built/{key}.json"):
                continue
            home = shelf.directory_of(cache, key, manifest)
            for name, file in manifest["files"].items():
                place = _place(root, file["sha256"])
                if filesystem.exists(place) and filesystem.size(place) == file["bytes"]:
                    continue
                assert home is not None
                on_progress(f"sending {name} ({file['bytes'] / 1e6:.0f} MB)")
                _copy_out(filesystem, home / name, place)
                sent += 1
            _write(filesystem, f"{root}/built/{key}.json", json.dumps(manifest, sort_keys=True).encode())
    return sent


def pull(spec: Spec, cache: Path, url: str, on_progress: Say = quiet) -> int:
    """Fetches the steps of `spec` that `url` has and `cache` has not; gives how many.

    Raises:
        DriftlineError: The URL cannot be read.
    """
    fetched = 0
    shelf.ready(cache)
    with _at(url) as (filesystem, root):
        for key in _keys(spec, cache):
            told = f"{root}/built/{key}.json"
            if shelf.find(cache, key) is None and filesystem.exists(told):
                with shelf.building(cache, key, on_progress) as room:
                    if shelf.find(cache, key) is None:
                        fetched += _fetch(filesystem, root, told, cache, key, room, on_progress)
    return fetched


def _fetch(filesystem: Any, root: str, told: str, cache: Path, key: str, room: Path, say: Say) -> bool:
    manifest = json.loads(filesystem.cat_file(told))
    if not isinstance(manifest, dict) or not manifest.keys() >= shelf.KEYS or _is_outside(manifest):
        return False
    if manifest["directory"] is not None:
        (room / shelf.MODEL).mkdir()
        for name, file in manifest["files"].items():
            say(f"fetching {name} ({file['bytes'] / 1e6:.0f} MB)")
            place, path = _place(root, file["sha256"]), room / shelf.MODEL / Path(name).name
            if not filesystem.exists(place):
                return False
            with filesystem.open(place, "rb") as from_there, path.open("wb") as here:
                shutil.copyfileobj(from_there, here, PIECE)
            if shelf.file_sha256(path) != file["sha256"]:
                say(f"{name} arrived damaged; it is built here instead")
                return False
    shelf.put(cache, key, room, manifest)
    return True


def _keys(spec: Spec, cache: Path) -> Iterator[str]:
    """The keys of all that `spec` is made of, of the variants it asks too, each before what stands on it."""
    seen: set[str] = set()
    for key in keys_of(spec, cache):
        if key not in seen:
            seen.add(key)
            yield key


def _is_outside(manifest: dict[str, Any]) -> bool:
    return manifest["directory"] not in (None, shelf.MODEL)


def _place(root: str, sha256: str) -> str:
    return f"{root}/{sha256[:2]}/{sha256}"


def _copy_out(filesystem: Any, path: Path, place: str) -> None:
    filesystem.makedirs(place.rsplit("/", 1)[0], exist_ok=True)
    with filesystem.transaction, path.open("rb") as here, filesystem.open(place, "wb") as there:
        shutil.copyfileobj(here, there, PIECE)


def _write(filesystem: Any, place: str, content: bytes) -> None:
    filesystem.makedirs(place.rsplit("/", 1)[0], exist_ok=True)
    with filesystem.transaction, filesystem.open(place, "wb") as there:
        there.write(content)


@contextmanager
def _at(url: str) -> Iterator[tuple[Any, str]]:
    """The file system of a URL and the path in it; its errors become ours, with the URL."""
    try:
        filesystem, root = fsspec.core.url_to_fs(url)
    except (ValueError, ImportError) as wrong:
        raise DriftlineError(f"DRIFTLINE_ARTIFACT_URL is {url}, which cannot be opened: {wrong}") from wrong
    try:
        yield filesystem, root.rstrip("/")
    except OSError as wrong:
        raise DriftlineError(f"Artifacts at {url} cannot be reached: {wrong}") from wrong
