"""How much memory there is to build and load models with."""

import ctypes
import gc
from contextlib import suppress
from pathlib import Path

from driftline.errors import BadInput

LIMITS = (
    # what a container may hold, what it holds, and what of that are files that give way (cgroups version 2 and 1)
    ("memory.max", "memory.current", "inactive_file"),
    ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes", "total_inactive_file"),
)


def check_free(wanted: int, who: str) -> None:
    """Returns when `wanted` bytes of memory are free.

    Raises:
        BadInput: They are not; says how much there is.
    """
    free = free_bytes()
    if wanted > free:
        raise BadInput(
            f"{who} needs {wanted / 2**30:.1f} GiB of memory, {free / 2**30:.1f} GiB are free. "
            "Stop something, or use a smaller or narrower variant (bf16 halves float32)."
        )


def free_bytes(groups: Path = Path("/sys/fs/cgroup")) -> int:
    """Bytes that processes here can still take: the machine's, or fewer where a container's limit leaves fewer."""
    import psutil

    found = int(psutil.virtual_memory().available)
    for limit, usage, inactive in LIMITS:
        try:
            most, used = int((groups / limit).read_text()), int((groups / usage).read_text())
            counted = (groups / limit).with_name("memory.stat").read_text().split()
        except (OSError, ValueError):  # no such group, or "max": no limit
            continue
        found = min(found, most - used + int(dict(zip(counted[::2], counted[1::2], strict=True)).get(inactive, 0)))
    return max(0, found)


def hand_back() -> None:
    """Returns memory of models that are gone to the machine: glibc keeps it, as if this process still used it."""
    gc.collect()
    trim()


def trim() -> None:
    """As `hand_back`, for what no cycle of references holds; takes a millisecond."""
    with suppress(OSError, AttributeError, TypeError):  # another C library
        ctypes.CDLL(None).malloc_trim(0)


def held_bytes() -> int:
    """Memory that this process uses now (its resident set, without what it was done with)."""
    import psutil

    hand_back()
    return int(psutil.Process().memory_info().rss)
