"""Of the candidates that passed, those on the Pareto frontier are chosen from, by what the plan aims at."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scheduler.frontier import choose, mark


def entry(name: str, estimate: float = 0.0, size: int | None = 10, ms: float | None = 50.0, passed: bool = True) -> Any:
    return {"name": name, "estimate": estimate, "bytes_stored": size, "latency_p50_ms": ms, "passed": passed}


def test_what_another_beats_in_all_respects_is_not_on_the_frontier() -> None:
    entries = [entry("small", size=5), entry("both", size=5, ms=40.0), entry("good", 0.1), entry("bad", passed=False)]
    mark(entries)
    assert [one["name"] for one in entries if one["on_frontier"]] == ["both", "good"]


@pytest.mark.parametrize(("aim", "chosen"), [("size", "small"), ("latency", "fast"), ("cost", "fast")])
def test_the_aim_decides_on_the_frontier(aim: str, chosen: str) -> None:
    entries = [entry("small", size=5, ms=90.0), entry("fast", size=20, ms=30.0)]
    mark(entries)
    assert (choose(entries, aim) or {})["name"] == chosen


def test_for_latency_only_what_is_faster_than_now_will_do() -> None:
    entries = [entry("same", ms=50.0)]
    mark(entries)
    assert choose(entries, "latency", {"latency_p50_ms": 50.0}) is None
    assert choose(entries, "latency", {"latency_p50_ms": 51.0}) is entries[0]
    assert choose(entries, "size", {"latency_p50_ms": 1.0}) is entries[0]


some = st.builds(
    entry, st.just("x"), st.floats(-1, 1), st.none() | st.integers(1, 9), st.none() | st.floats(1, 9), st.booleans()
)


@given(st.lists(some, max_size=6), st.sampled_from(["size", "latency", "cost"]))
def test_only_what_passed_is_chosen_and_something_is_where_anything_passed(entries: list[Any], aim: str) -> None:
    mark(entries)
    chosen = choose(entries, aim)
    assert chosen is None or chosen["passed"]
    if all(one["latency_p50_ms"] is not None and one["bytes_stored"] is not None for one in entries):
        assert (chosen is not None) == any(one["passed"] for one in entries)
