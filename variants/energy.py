"""Joules spent in a stretch of code: read from the processor where it tells, else estimated from processor time."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

POWERCAP = Path("/sys/class/powercap")
WATTS_PER_BUSY_CORE = 4.0
"""What the estimate takes a busy core to draw; servers lie between about 2 and 8 W. Good for ratios, not for bills."""


@dataclass
class Spent:
    """Filled when the stretch ends. `joules` are of the whole processor where read, of this process where estimated."""

    joules: float = 0.0
    estimated: bool = True
    cpu_seconds: float = 0.0
    seconds: float = 0.0


@contextmanager
def metered(powercap: Path = POWERCAP) -> Iterator[Spent]:
    """What the code in the `with` block spends, as a Spent that is filled at its end."""
    spent = Spent()
    counters, cpu, began = _counters(powercap), time.process_time(), time.perf_counter()
    yield spent
    spent.seconds, spent.cpu_seconds = time.perf_counter() - began, time.process_time() - cpu
    after = _counters(powercap)
    if counters and after.keys() == counters.keys():
        spent.estimated = False
        spent.joules = sum(_difference(counters[c], after[c]) for c in counters) / 1e6
    else:
        spent.joules = spent.cpu_seconds * WATTS_PER_BUSY_CORE


def _counters(powercap: Path) -> dict[Path, tuple[int, int]]:
    """Per processor package: (microjoules so far, the value at which the counter wraps); empty where unreadable."""
    found = {}
    for package in powercap.glob("intel-rapl:[0-9]"):
        try:
            microjoules = int((package / "energy_uj").read_text())
            found[package] = (microjoules, int((package / "max_energy_range_uj").read_text()))
        except (OSError, ValueError):
            return {}
    return found


def _difference(before: tuple[int, int], after: tuple[int, int]) -> int:
    return after[0] - before[0] if after[0] >= before[0] else after[0] + before[1] - before[0]
