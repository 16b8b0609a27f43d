"""How a process that runs for weeks holds memory: little of what it is done with, no search in what never changes."""

import ctypes
import gc
from contextlib import suppress

# Parameters of glibc's mallopt(3). Left alone, it takes what is freed as a sign to keep more the next time, up to 32 MB
# a block, and gives each thread a heap of its own, none of which shrinks while one long-lived object lies at its end.
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _M_ARENA_MAX = -1, -3, -8
_KEPT = 2**20  # bytes free at the end of the heap, before they are handed back
_LARGE = 2**17  # bytes from which on a block is the machine's own, and goes back to it when freed
_HEAPS = 1


def hold_little() -> None:
    """Large blocks go back to the machine as soon as they are freed, and threads share one heap. Only on glibc."""
    with suppress(OSError, AttributeError, TypeError):  # another C library
        library = ctypes.CDLL(None)
        for parameter, value in ((_M_MMAP_THRESHOLD, _LARGE), (_M_TRIM_THRESHOLD, _KEPT), (_M_ARENA_MAX, _HEAPS)):
            library.mallopt(parameter, value)


def settle() -> None:
    """What there is now stays for good: the search for cycles leaves it out, which is most of what it would look at."""
    gc.collect()
    gc.freeze()
