"""From production traffic to a delivered alert, through every room, on recorded answers."""

import time
from typing import Any

import pytest
from sqlmodel import select

from driftline.acts import alerts, default_monitors, monitors
from driftline.acts.variants import declare, find_route, find_variant, promote, set_baseline
from driftline.moment import SECOND, now_us
from driftline.store.engine import reading, writing
from driftline.store.projects import ensure_project
from driftline.store.tables import Alert, DriftEvent, Generation, Monitor, Notification, Reading

BLOCK_S = 0.02
REFERENCE, QUIET, MOST = 100, 40, 180  # records, records, batches
BEFORE = {"right": 0.85, "ms": 400.0}
AFTER = {"right": 0.35, "ms": 900.0}


def prepare(url: str) -> None:
    """A route with a baseline, two monitors of short blocks, and Slack told of every drift."""
    params = {"block_s": BLOCK_S, "reference_items": REFERENCE, "reference_s": 0.0}
    with writing() as session:
        project = ensure_project(session)
        base = declare(
            session, project.id, "base", {"runner": "recorded", "runner_config": {"answers": {}}, "chain": []}, "test"
        )
        promote(session, project.id, "qa", base, "test", "first")
        set_baseline(session, find_route(session, project.id, "qa"), base, "test")
        alerts.add_channel(session, project.id, "slack", "slack", {"url": url}, "test")
        alerts.add_rule(session, project.id, "drift", "drift", "test", channels=["slack"])
        monitors.add(session, project.id, "qa/latency", "latency", "test", route="qa", params=params)
        monitors.add(session, project.id, "qa/right", "quality", "test", route="qa", source="contains", params=params)


def prepare_defaults(url: str) -> None:
    """The same route with the default monitors, all on short blocks, and the demo's monitor of true answers."""
    params = {"block_s": BLOCK_S, "reference_items": REFERENCE, "reference_s": 0.0}
    prepare(url)
    with writing() as session:
        project = ensure_project(session)
        for row in session.exec(select(Monitor)):
            session.delete(row)
        session.flush()
        default_monitors.ensure_defaults(session, project.id, "qa", params)
        monitors.add(
            session,
            project.id,
            "qa/right",
            "quality",
            "test",
            route="qa",
            source="contains",
            params=params,
            weight=0.25,
        )


def drive(road: Any, make_records: Any, seed: int) -> int:
    """Healthy traffic, then from a known moment on a worse and slower variant, until both drifts are found."""
    batches = (REFERENCE + QUIET) // 4
    for batch in range(batches):
        road.send(*make_records("base", seed * 1000 + batch, **BEFORE))
        if batch % 5 == 0:
            time.sleep(BLOCK_S)
            road.work()
    road.work()
    injected = now_us()
    for batch in range(MOST):
        road.send(*make_records("int8", seed * 1000 + batch, **AFTER))
        time.sleep(BLOCK_S / 2)
        if batch % 5 == 4:
            road.work()
            if {"quality", "latency"} <= {monitor.signal for _, monitor in events()} and len(road.received) >= 2:
                break
    return injected


def events() -> list[tuple[DriftEvent, Monitor]]:
    with reading() as session:
        return list(session.exec(select(DriftEvent, Monitor).join(Monitor, Monitor.id == DriftEvent.monitor_id)))


def check(road: Any, injected: int) -> None:
    found = {monitor.signal: event for event, monitor in events()}
    assert set(found) == {"quality", "latency"}
    for event in found.values():
        assert event.detected_at > injected, "an alarm before anything had changed"
        assert event.explained_at is not None
        assert abs(event.began_at - injected) < 2 * SECOND
        assert event.cause == "variant"
    with reading() as session:
        assert len(session.exec(select(Generation)).all()) == road.sent
        delivered = session.exec(select(Notification)).all()
        assert [(row.state, row.happening) for row in delivered] == [("sent", "fired")] * 2
        assert len(session.exec(select(Alert)).all()) == 2
        early = session.exec(select(Reading).where(Reading.block_end < injected, Reading.alarmed)).all()
        assert early == []
    assert len({note["key"] for note in road.received}) == len(road.received) == 2


@pytest.mark.parametrize("seed", [0, pytest.param(1, marks=pytest.mark.slow)])
def test_a_worse_and_slower_variant_is_found_dated_explained_and_told(road: Any, make_records: Any, seed: int) -> None:
    prepare(road.url)
    check(road, drive(road, make_records, seed))


def check_defaults(injected: int) -> None:
    """Both injected drifts are found and laid to the variant; whatever moved with them moved after the injection."""
    found = events()
    assert {"quality", "latency"} <= {monitor.signal for _, monitor in found}
    assert {monitor.signal for _, monitor in found} <= {"quality", "latency", "answer_length", "refusals"}
    for event, monitor in found:
        assert event.detected_at > injected, f"{monitor.signal} alarmed before anything had changed"
        if monitor.signal in ("quality", "latency"):
            assert (event.cause, event.explained_at is not None) == ("variant", True)
    with reading() as session:
        quiet = session.exec(select(Reading.monitor_id).where(Reading.block_end < injected).distinct()).all()
    assert len(quiet) >= 7, "errors, latency, right answers, empties, refusals and three of lengths and languages"


def test_with_every_default_monitor_both_drifts_are_found_and_nothing_alarms_before(
    road: Any, make_records: Any
) -> None:
    prepare_defaults(road.url)
    check_defaults(drive(road, make_records, 0))


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(200, 212))
def test_twelve_of_twelve_drifts_are_found_by_the_default_monitors(road: Any, make_records: Any, seed: int) -> None:
    prepare_defaults(road.url)
    check_defaults(drive(road, make_records, seed))


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(100, 120))
def test_twenty_of_twenty_injected_drifts_are_found_after_they_began(road: Any, make_records: Any, seed: int) -> None:
    prepare(road.url)
    check(road, drive(road, make_records, seed))


def test_everything_delivered_twice_and_worked_twice_changes_nothing(road: Any, make_records: Any) -> None:
    prepare(road.url)
    injected = drive(road, make_records, 7)
    records, _ = make_records("int8", 7000, **AFTER)
    answer = road.client.post("/v1/records", json={"records": records})
    assert answer.json() == {"accepted": 0, "duplicates": 4, "rejected": []}
    for _ in range(3):
        road.work()
    check(road, injected)


def test_a_variant_that_answers_as_before_raises_nothing(road: Any, make_records: Any) -> None:
    prepare(road.url)
    for batch in range((REFERENCE + QUIET) // 4):
        road.send(*make_records("base", batch, **BEFORE))
    road.work()
    for batch in range(40):
        road.send(*make_records("twin", batch, **BEFORE))
        if batch % 10 == 0:
            road.work()
    road.work()
    assert events() == []
    assert road.received == []
    with reading() as session:
        assert session.exec(select(Reading)).all() != []
        assert find_variant(session, 1, "twin").spec == {"runner": "external"}
