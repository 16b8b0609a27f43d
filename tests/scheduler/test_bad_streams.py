"""What production does to monitors: nothing of it may stop one, or make it alarm for the wrong reason."""

import json
from collections.abc import Callable
from typing import Any

import pytest
from sqlmodel import col, select

from driftline.acts import monitors
from driftline.moment import SECOND
from driftline.store.engine import reading, writing
from driftline.store.tables import DriftEvent, Generation, Monitor, Reading, Reference, Variant

ITEMS, PER_BLOCK, BLOCK_S = 400, 20, 60.0
Watched = Any


@pytest.fixture
def watching(watch_errors: Callable[..., Watched]) -> Watched:
    stream = watch_errors()
    stream.healthy(ITEMS // PER_BLOCK)
    stream.check()
    assert stream.monitor.status == "watching"
    return stream


def readings() -> list[Reading]:
    with reading() as session:
        return list(session.exec(select(Reading).order_by(col(Reading.id))))


def events() -> list[DriftEvent]:
    with reading() as session:
        return list(session.exec(select(DriftEvent)))


def latency(watch: Watched, **params: Any) -> None:
    """Makes the monitor one of latency, from the start."""
    told = {"block_s": BLOCK_S, "reference_items": ITEMS, "reference_s": 0.0} | params
    with writing() as session:
        row = monitors.add(session, watch.world.project_id, "latency", "latency", "test", params=told)
    watch.monitor_id = row.id


def lay(watch: Watched, blocks: int, **columns: Any) -> None:
    """Blocks of records that all look like this."""
    for _ in range(blocks):
        start = watch.time.now
        arrivals = [start + int(place * BLOCK_S / PER_BLOCK * SECOND) for place in range(PER_BLOCK)]
        watch.world.traffic(watch.variant, arrivals, **columns)
        watch.time.now = start + int(BLOCK_S * SECOND)


def test_a_constant_stream_is_watched_and_raises_nothing(watch_errors: Callable[..., Watched]) -> None:
    stream = watch_errors()
    latency(stream)
    lay(stream, 60, latency_ms=400.0)
    stream.check()
    assert len(readings()) == 40
    assert events() == []
    lay(stream, 30, latency_ms=600.0)
    stream.check()
    assert len(events()) == 1


def test_a_column_that_nobody_fills_is_told(watch_errors: Callable[..., Watched]) -> None:
    stream = watch_errors()
    latency(stream)
    lay(stream, 21, latency_ms=None)
    stream.check()
    assert stream.monitor.status == "collecting"
    assert stream.monitor.pending["problem"] == "400 records came and none has what the signal latency reads."
    lay(stream, 21, latency_ms=400.0)
    stream.check()
    assert stream.monitor.status == "watching"
    assert "problem" not in stream.monitor.pending


@pytest.mark.parametrize("bad", [float("inf"), float("-inf"), -5.0])
def test_values_that_are_none_are_left_out_and_counted(watch_errors: Callable[..., Watched], bad: float) -> None:
    stream = watch_errors()
    latency(stream)
    lay(stream, 25, latency_ms=[400.0 + place for place in range(PER_BLOCK - 1)] + [bad])
    stream.check()
    with reading() as session:
        (reference,) = session.exec(select(Reference)).all()
    assert reference.frozen["unusable"] == 20
    assert [(row.n, row.evidence["unusable"]) for row in readings()] == [(PER_BLOCK - 1, 1)] * 5


def test_a_reference_of_three_rows_says_what_it_lacks_and_waits_for_more(watch_errors: Callable[..., Watched]) -> None:
    stream = watch_errors(reference_items=3)
    stream.block()
    stream.check()
    assert "3 values; at least 20" in stream.monitor.pending["problem"]
    stream.healthy(10)
    for _ in range(4):  # each time it waits for twice as many
        stream.check()
    assert stream.monitor.status == "watching"


def test_a_variant_that_gets_another_name_is_still_the_same_stream(watching: Watched) -> None:
    watching.healthy(2)
    watching.check()
    with writing() as session:
        row = session.get_one(Variant, watching.variant.id)
        row.name = "renamed"
        session.add(row)
    watching.healthy(2)
    watching.check()
    assert [list(row.evidence["variants"]) for row in readings()] == [["base"]] * 2 + [["renamed"]] * 2
    assert len({row.reference_id for row in readings()}) == 1


def test_a_clock_that_goes_back_loses_no_record_and_counts_none_twice(watching: Watched) -> None:
    watching.healthy(3)
    watching.check()
    watching.time.advance(0.5 - 2 * BLOCK_S)
    watching.healthy(4)
    watching.check()
    assert sum(row.n for row in readings()) == 7 * PER_BLOCK
    assert events() == []


def test_a_record_stamped_far_ahead_does_not_stop_the_monitor(watching: Watched) -> None:
    ahead = watching.time.now + 86_400 * SECOND
    watching.world.traffic(watching.variant, [ahead])
    watching.healthy(5)
    watching.check()
    assert sum(row.n for row in readings()) >= 4 * PER_BLOCK
    with reading() as session:
        assert session.get_one(Monitor, watching.monitor_id).cursor > ITEMS + 1


def test_a_month_of_silence_is_no_evidence(watching: Watched) -> None:
    watching.healthy(2)
    watching.check()
    before = watching.monitor.state
    watching.time.advance(30 * 86_400)
    watching.check()
    assert watching.monitor.state == before
    watching.healthy(2)
    watching.check()
    assert len(readings()) == 4
    assert events() == []


def test_a_tag_with_more_values_than_can_be_watched_is_bounded_and_told(watch_errors: Callable[..., Watched]) -> None:
    stream = watch_errors()
    told = {"block_s": BLOCK_S, "reference_items": 3000, "reference_s": 0.0, "split_by": "user", "margin": 0.02}
    with writing() as session:
        stream.monitor_id = monitors.add(session, stream.world.project_id, "by user", "errors", "test", params=told).id
    for block in range(3):
        start = stream.time.now
        arrivals = [start + place * 50_000 for place in range(1100)]
        tags = [{"user": f"u{block}-{place}" if place % 11 else "robot"} for place in range(1100)]
        stream.world.traffic(stream.variant, arrivals, tags=tags)
        stream.time.now = start + int(BLOCK_S * SECOND)
    stream.healthy(2)
    stream.check()
    with reading() as session:
        (reference,) = session.exec(select(Reference)).all()
    assert reference.frozen["seen"] > 2500
    assert reference.frozen["labels"] == ["robot", "(other)"]
    assert len(json.dumps(stream.monitor.state)) < 5000


def test_a_state_that_an_older_version_wrote_goes_on(watching: Watched) -> None:
    watching.healthy(2)
    watching.check()
    with writing() as session:
        row = session.get_one(Monitor, watching.monitor_id)
        assert row.state is not None
        whole = row.state
        old = {key: whole[key] for key in ("detector", "m0", "direction", "log_threshold", "form", "blocks")}
        row.state = old | {"version": 1, "log_m": [None] * 16, "cusum": [None] * 16, "since": [0] * 16}
        session.add(row)
    watching.healthy(2)
    watching.check()
    assert len(readings()) == 4
    assert watching.monitor.state["version"] == whole["version"]


def test_a_state_of_a_newer_version_is_told_and_nothing_is_judged(watching: Watched) -> None:
    watching.healthy(2)
    watching.check()
    with writing() as session:
        row = session.get_one(Monitor, watching.monitor_id)
        assert row.state is not None
        row.state = {**row.state, "version": 99}
        session.add(row)
    watching.healthy(2)
    assert watching.check() == "done"
    assert "Upgrade this process" in watching.monitor.pending["problem"]
    assert len(readings()) == 2


def test_records_that_are_gone_leave_an_event_that_says_so(watching: Watched) -> None:
    from driftline.store.tables import Job
    from scheduler.work import run_job

    while not events():
        watching.block(errors=12)
        watching.check()
    with writing() as session:
        for row in session.exec(select(Generation)).all():
            session.delete(row)
    with reading() as session:
        job = session.exec(select(Job).where(Job.kind == "event.explain")).one()
    watching.time.advance(5)
    assert run_job(job.id) == "failed"
    with reading() as session:
        assert "are gone" in (session.get_one(Job, job.id).error or "")
