"""A monitor freezes its reference by rule, judges every block once and raises one event for one drift."""

from collections.abc import Callable
from typing import Any

import pytest
from sqlmodel import col, select

from driftline.acts import monitors
from driftline.errors import BadInput, Conflict
from driftline.moment import SECOND
from driftline.store.engine import reading, writing
from driftline.store.tables import Alert, DriftEvent, Generation, Job, Monitor, Reading, Reference

BLOCK_S = 60.0
ITEMS = 400  # of a reference
PER_BLOCK = 20
Watched = Any  # see conftest


@pytest.fixture
def stream(watch_errors: Callable[..., Watched]) -> Watched:
    """A monitor that collects its reference."""
    return watch_errors()


@pytest.fixture
def watching(stream: Watched) -> Watched:
    """A monitor that has its reference."""
    stream.healthy(ITEMS // PER_BLOCK)
    stream.check()
    assert stream.monitor.status == "watching"
    return stream


def readings() -> list[Reading]:
    with reading() as session:
        return list(session.exec(select(Reading).order_by(col(Reading.id))))


def rows(table: Any) -> list[Any]:
    with reading() as session:
        return list(session.exec(select(table).order_by(table.id)))


def test_a_reference_is_frozen_when_enough_records_have_come(stream: Watched) -> None:
    stream.healthy(ITEMS // PER_BLOCK - 1)
    stream.check()
    assert stream.monitor.status == "collecting"
    assert rows(Reference) == []
    stream.healthy(1)
    stream.check()
    assert stream.monitor.status == "watching"
    (reference,) = rows(Reference)
    assert reference.frozen_by == "rule"
    assert reference.frozen["mean"] == pytest.approx(0.025, abs=0.005)


def test_a_reference_spans_at_least_its_time(watch_errors: Callable[..., Watched]) -> None:
    stream = watch_errors(reference_items=100, reference_s=25 * BLOCK_S)
    stream.healthy(25)
    stream.check()
    assert stream.monitor.status == "collecting"
    stream.healthy(1)
    stream.check()
    (reference,) = rows(Reference)
    assert reference.until - reference.since == 25 * BLOCK_S * SECOND
    assert reference.n == 25 * PER_BLOCK + 1


def test_the_same_reference_is_frozen_whenever_it_is_looked_at(stream: Watched) -> None:
    stream.healthy(ITEMS // PER_BLOCK + 30)
    stream.check()
    with writing() as session:
        monitors.rebaseline(session, session.get_one(Monitor, stream.monitor_id), "test")
        row = session.get_one(Monitor, stream.monitor_id)
        row.cursor = 0
        session.add(row)
    stream.check()
    early, late = rows(Reference)
    assert early.n == late.n == early.frozen["last_place"] == late.frozen["last_place"] == ITEMS
    assert early.frozen["mean"] == late.frozen["mean"]


def test_too_little_data_for_any_change_to_be_told_is_said_and_mended_by_more(
    watch_errors: Callable[..., Watched],
) -> None:
    stream = watch_errors(reference_items=20, margin=0.75)
    stream.block()
    stream.check()
    assert "leaves nothing beyond" in stream.monitor.pending["problem"]
    assert stream.monitor.status == "collecting"
    stream.healthy(5)
    stream.check()
    assert stream.monitor.status == "watching"
    assert "problem" not in stream.monitor.pending


def test_every_block_is_judged_once_and_quiet_traffic_raises_nothing(watching: Watched) -> None:
    watching.healthy(30)
    watching.check()
    judged = readings()
    assert [row.n for row in judged] == [PER_BLOCK] * 30
    assert len({row.block_start for row in judged}) == 30
    assert all(row.block_end - row.block_start == BLOCK_S * SECOND for row in judged)
    assert not any(row.alarmed for row in judged)
    assert rows(DriftEvent) == []


def test_a_block_is_not_judged_before_it_has_ended_and_settled(watching: Watched) -> None:
    watching.world.traffic(watching.variant, [watching.time.now + SECOND])
    watching.time.advance(BLOCK_S - 3)
    watching.check()
    assert readings() == []
    watching.time.advance(3 + 2)
    watching.check()
    assert len(readings()) == 1


def test_a_drift_is_announced_once_however_long_it_lasts(watching: Watched) -> None:
    watching.healthy(5)
    for _ in range(40):
        watching.block(errors=10)
        watching.check()
    (event,) = rows(DriftEvent)
    alarm = [row for row in readings() if row.alarmed]
    assert [row.id for row in alarm] == [event.reading_id]
    assert watching.monitor.status == "alarmed"
    assert len(readings()) == 45
    assert alarm[0].block_start > readings()[4].block_start, "an alarm before anything had changed"


def run_of(watching: Watched, check: Callable[[], None]) -> list[dict[str, Any]]:
    for number in range(24):
        watching.block(errors=number % 2 if number < 8 else 6)
        check()
    watching.check()
    told = {"id", "created_at", "reference_id"}
    return [row.model_dump(exclude=told) for row in readings()] + [
        row.model_dump(include={"began_at", "detected_at", "variant_id", "evidence"}) for row in rows(DriftEvent)
    ]


def test_checks_that_run_twice_late_or_at_once_leave_what_one_clean_run_leaves(
    watching: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    from scheduler import monitors as module

    untouched, began = watching.monitor, watching.time.now
    clean = run_of(watching, lambda: None)
    assert len(clean) == 25
    watching.time.now = began
    with writing() as session:
        later: Any = select(Generation).where(Generation.seq > ITEMS)
        for what in (select(Alert), select(DriftEvent), select(Reading), select(Job), later):
            for row in session.exec(what):
                session.delete(row)
        session.merge(untouched)

    step, turns, calls = module.step, iter(range(10_000)), iter(range(10_000))

    def disturbed(work: Any, monitor: Monitor) -> bool:
        went_on = step(work, monitor)
        if next(turns) % 2:
            step(work, monitor)  # the same step again, from what was read before: a job that was delivered twice
        return went_on

    def now_and_then() -> None:
        for _ in range(next(calls) % 3):
            watching.check()

    monkeypatch.setattr(module, "step", disturbed)
    muddled = run_of(watching, now_and_then)
    assert next(turns) > 24
    assert _without_places(muddled) == _without_places(clean)


def _without_places(found: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Rows were inserted anew, so their places differ and with them what is named by places."""
    for row in found:
        row["evidence"] = {k: v for k, v in row["evidence"].items() if k not in ("after", "last", "sample_hash")}
    return found


def test_a_late_record_joins_the_next_block_once(watching: Watched) -> None:
    watching.block()
    watching.check()
    start = watching.time.now
    watching.world.traffic(
        watching.variant, [start + SECOND], status="error", started_at=start - int(40 * BLOCK_S * SECOND)
    )
    watching.block()
    watching.check()
    watching.block()
    watching.check()
    assert [row.n for row in readings()] == [PER_BLOCK, PER_BLOCK + 1, PER_BLOCK]


def test_records_that_two_collectors_stamped_and_stored_in_different_orders_are_all_judged(watching: Watched) -> None:
    end = watching.time.now + int(BLOCK_S * SECOND)
    watching.world.traffic(watching.variant, [end - 3, end + 2, end - 1, end + 5])
    watching.time.now = end + int(2 * BLOCK_S * SECOND)
    watching.check()
    assert sum(row.n for row in readings()) == 4


def test_small_blocks_wait_for_company(watch_errors: Callable[..., Watched]) -> None:
    stream = watch_errors(min_block_items=50)
    stream.healthy(ITEMS // PER_BLOCK)
    stream.check()
    stream.healthy(7)
    stream.check()
    assert [row.n for row in readings()] == [60, 60]
    assert {row.block_end - row.block_start for row in readings()} == {3 * BLOCK_S * SECOND}


def test_an_empty_month_is_passed_over(watching: Watched) -> None:
    watching.block()
    watching.time.advance(30 * 86_400)
    watching.time.now -= watching.time.now % int(BLOCK_S * SECOND)
    watching.block()
    watching.check()
    assert [row.n for row in readings()] == [PER_BLOCK, PER_BLOCK]
    assert rows(DriftEvent) == []


def test_a_route_without_any_traffic_is_no_error(stream: Watched) -> None:
    assert stream.check() == "done"
    assert stream.monitor.status == "collecting"


def test_what_arrives_during_a_pause_is_never_judged(watching: Watched) -> None:
    def act(do: Callable[..., None]) -> None:
        with writing() as session:
            do(session, session.get_one(Monitor, watching.monitor_id), "test")

    watching.block()
    watching.check()
    act(monitors.pause)
    for _ in range(10):
        watching.block(errors=PER_BLOCK)
    watching.check()
    assert len(readings()) == 1
    act(monitors.resume)
    watching.block()
    watching.check()
    assert [row.value for row in readings()] == [0.0, 0.0]
    assert watching.monitor.status == "watching"


def drifted(watching: Watched) -> DriftEvent:
    while not rows(DriftEvent):
        watching.block(errors=10)
        watching.check()
    event: DriftEvent = rows(DriftEvent)[-1]
    return event


def test_a_monitor_that_is_paused_while_alarmed_raises_nothing_anew_when_it_resumes(watching: Watched) -> None:
    drifted(watching)
    for act in (monitors.pause, monitors.resume):
        with writing() as session:
            act(session, session.get_one(Monitor, watching.monitor_id), "test")
    assert watching.monitor.status == "alarmed"
    for _ in range(5):
        watching.block(errors=10)
        watching.check()
    assert len(rows(DriftEvent)) == 1


def close(event: DriftEvent) -> None:
    with writing() as session:
        monitors.close_event(session, session.get_one(DriftEvent, event.id), "test")


def test_after_an_event_is_closed_the_evidence_begins_anew(watching: Watched) -> None:
    first = drifted(watching)
    close(first)
    assert watching.monitor.status == "watching"
    watching.healthy(20)
    watching.check()
    assert len(rows(DriftEvent)) == 1
    for _ in range(30):
        watching.block(errors=10)
    watching.check()
    assert [event.state for event in rows(DriftEvent)] == ["closed", "open"]
    with pytest.raises(Conflict, match="closed already"):
        close(first)


def test_an_event_closed_during_a_pause_does_not_come_back(watching: Watched) -> None:
    event = drifted(watching)
    with writing() as session:
        monitors.pause(session, session.get_one(Monitor, watching.monitor_id), "test")
    close(event)
    with writing() as session:
        monitors.resume(session, session.get_one(Monitor, watching.monitor_id), "test")
    watching.healthy(3)
    watching.check()
    assert watching.monitor.status == "watching"
    assert len(rows(DriftEvent)) == 1


def test_rebaselining_freezes_what_comes_from_then_on(watching: Watched) -> None:
    with writing() as session:
        monitors.rebaseline(session, session.get_one(Monitor, watching.monitor_id), "ann")
    for _ in range(ITEMS // PER_BLOCK):
        watching.block(errors=4)
    watching.check()
    old, new = rows(Reference)
    assert old.replaced_at is not None
    assert new.frozen["mean"] == pytest.approx(0.2)
    watching.block(errors=4)
    watching.check()
    assert readings()[-1].reference_id == new.id


@pytest.mark.parametrize(
    ("told", "says"),
    [
        ({"signal": "mood"}, "no signal 'mood'. Known: errors"),
        ({"signal": "quality"}, "name it as the source"),
        ({"weight": 0.0}, "above 0"),
        ({"params": {"colour": 1}}, "no parameter 'colour'. Known: block_s"),
        ({"params": {"block_s": 0}}, "block_s is a number, at least 0.001"),
        ({"params": {"reference_items": "many"}}, "reference_items is a number"),
        ({"params": {"min_block_items": 0}}, "min_block_items is a number, at least 1"),
        ({"params": {"margin": float("nan")}}, "margin is a number"),
        ({"params": {"direction": "sideways"}}, "rise or fall"),
    ],
)
def test_a_monitor_that_makes_no_sense_is_refused(project: int, told: dict[str, Any], says: str) -> None:
    with writing() as session, pytest.raises(BadInput, match=says):
        monitors.add(session, project, "m", told.pop("signal", "errors"), "test", **told)
