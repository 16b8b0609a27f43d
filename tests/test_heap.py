"""Memory of processes that run long."""

import gc
import os
import platform
import subprocess
import sys

import pytest

PAGE = os.sysconf("SC_PAGE_SIZE")

# As request bodies come and go beside small things that stay: without the setting, glibc takes blocks of a size that
# was freed once from its heap, and what stays behind them keeps them there.
COMES_AND_GOES = """
import sys
from driftline import heap
if sys.argv[1] == "little":
    heap.hold_little()
stays = []
for _ in range(8):
    bodies = [bytes(700_000) for _ in range(20)]
    stays += [b"x" * (2_000 + n) for n in range(20)]
    del bodies
    bodies = []
    for _ in range(20):
        bodies.append(b"b" * 900_000)
        stays.append(b"x" * 3_000)
    del bodies
print(int(open("/proc/self/statm").read().split()[1]))
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the C library is not glibc")
def test_what_large_bodies_took_goes_back_to_the_machine() -> None:
    def pages(how: str) -> int:
        asked = [sys.executable, "-c", COMES_AND_GOES, how]
        return int(subprocess.run(asked, capture_output=True, text=True, check=True).stdout)

    assert (pages("usual") - pages("little")) * PAGE > 5 * 2**20


def test_what_there_is_when_it_settles_is_not_searched_again() -> None:
    code = (
        "import gc; from driftline import heap; kept = [[] for _ in range(9_000)]; heap.settle(); "
        "print(gc.get_freeze_count() > 9_000, len(gc.get_objects()) < 1_000)"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert said.stdout.split() == ["True", "True"]
    assert gc.get_freeze_count() == 0  # of this process nothing
