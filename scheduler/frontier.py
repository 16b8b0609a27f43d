"""Which of the candidates that passed shall serve: those on the Pareto frontier first, then what the plan aims at."""

from collections.abc import Sequence
from typing import Any

Entry = dict[str, Any]

LESS_IS_BETTER = ("bytes_stored", "latency_p50_ms")
AIMS = {
    "size": ("bytes_stored", "latency_p50_ms"), "latency": ("latency_p50_ms", "bytes_stored"),
    "cost": ("latency_p50_ms", "bytes_stored"),  # a replay knows no price; the time on a machine stands for it
}  # fmt: skip


def mark(entries: Sequence[Entry]) -> None:
    """Sets `on_frontier` of every entry: whether it passed and no other that passed is as good in all respects.

    Respects are the estimate of the comparison (more is better) and `LESS_IS_BETTER`; what is not known of one of two
    entries does not tell them apart.
    """
    passed = [entry for entry in entries if entry.get("passed")]
    for entry in entries:
        entry["on_frontier"] = entry in passed and not any(_beats(other, entry) for other in passed)


def _beats(one: Entry, other: Entry) -> bool:
    gains = [
        sign * (one[name] - other[name])
        for name, sign in (("estimate", 1), *((name, -1) for name in LESS_IS_BETTER))
        if one.get(name) is not None and other.get(name) is not None
    ]
    return all(gain >= 0 for gain in gains) and any(gain > 0 for gain in gains)


def choose(entries: Sequence[Entry], aim: str, before: Entry | None = None) -> Entry | None:
    """The entry to serve, None where none that passed reaches the aim.

    For latency and cost that means to be better there than what serves now (`before`), where that is known.

    >>> small, fast = ({"name": n, "passed": True, "estimate": 0.0, "bytes_stored": b, "latency_p50_ms": ms}
    ...                for n, b, ms in (("small", 10, 90.0), ("fast", 20, 50.0)))
    >>> mark([small, fast])
    >>> choose([small, fast], "size")["name"], choose([small, fast], "latency", {"latency_p50_ms": 60.0})["name"]
    ('small', 'fast')
    >>> choose([small, fast], "latency", {"latency_p50_ms": 40.0}) is None
    True
    """
    able = [entry for entry in entries if entry.get("on_frontier")]
    if aim in ("latency", "cost"):
        respect = AIMS[aim][0]
        now = (before or {}).get(respect)
        able = [one for one in able if now is None or one.get(respect) is None or one[respect] < now]

    def rank(entry: Entry) -> tuple[float, ...]:
        known = (entry.get(name) for name in AIMS[aim])
        return tuple(float("inf") if value is None else value for value in known)

    return min(able, key=rank, default=None)
