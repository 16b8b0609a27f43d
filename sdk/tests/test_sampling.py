"""Sampling keeps whole sessions, says with which probability, and counts the rest."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from local_collector import Collector, accounted, start

import driftline_sdk
from driftline_sdk.sampling import kept


def test_sessions_are_kept_or_left_out_whole(collector: Collector) -> None:
    start(collector, sample_rate=0.3, variant="v")
    for number in range(600):
        driftline_sdk.record(output="a", session_id=f"session {number % 60}")
    assert driftline_sdk.flush(5)
    sizes: dict[str, int] = {}
    for record in collector.records.values():
        sizes[record["session_id"]] = sizes.get(record["session_id"], 0) + 1
        assert record["sample_rate"] == 0.3
    assert set(sizes.values()) == {10}
    assert 5 <= len(sizes) <= 32
    stats = driftline_sdk.stats()
    assert stats["sampled_out"] == 600 - len(collector.records) == collector.dropped("sampled_out")
    assert accounted(stats)


def test_without_a_session_each_record_is_drawn_by_itself(collector: Collector) -> None:
    start(collector, sample_rate=0.5)
    for _ in range(1_000):
        driftline_sdk.record(output="a")
    assert driftline_sdk.flush(5)
    assert 400 < len(collector.records) < 600


def test_nothing_kept_is_still_counted(collector: Collector) -> None:
    start(collector, sample_rate=0.0, variant="v")
    for _ in range(10):
        driftline_sdk.record(output="a")
    assert driftline_sdk.flush(5)
    assert collector.records == {}
    assert list(collector.counts.values()) == [{("v", "sampled_out"): 10}]


def test_feedback_is_never_sampled_out(collector: Collector) -> None:
    start(collector, sample_rate=0.0)
    driftline_sdk.feedback("g", "good", True)
    assert driftline_sdk.flush(5)
    assert len(collector.feedback) == 1


@given(st.text(), st.floats(0, 1), st.floats(0, 1))
def test_what_a_small_share_keeps_a_larger_one_keeps_too(key: str, one: float, other: float) -> None:
    small, large = sorted((one, other))
    assert kept(key, small) <= kept(key, large)


@pytest.mark.parametrize("share", [0.01, 0.25, 0.9])
def test_the_share_kept_is_the_share_asked_for(share: float) -> None:
    number = 20_000
    found = sum(kept(f"session-{n}", share) for n in range(number)) / number
    assert abs(found - share) < 4 * math.sqrt(share * (1 - share) / number)


def test_counts_of_many_variants_stay_bounded(collector: Collector) -> None:
    start(collector, sample_rate=0.0)
    for number in range(2_000):
        driftline_sdk.record(output="a", variant=f"v{number}")
    assert driftline_sdk.flush(5)
    (counts,) = collector.counts.values()
    assert len(counts) <= 1_000
    assert sum(counts.values()) == 2_000
