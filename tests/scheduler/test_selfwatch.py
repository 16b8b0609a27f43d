"""Driftline notices its own dead clock, piled-up work and silent collector, tells it, and says when it is over."""

from collections.abc import Callable
from typing import Any

import pytest
from sqlmodel import select

from driftline.acts import alerts
from driftline.moment import HOUR, SECOND
from driftline.queue import request
from driftline.settings import settings
from driftline.store.engine import reading, writing
from driftline.store.tables import Alert, Job, Lease, Process
from scheduler import selfwatch
from scheduler.heartbeat import ask_for_heartbeat
from scheduler.selfwatch import SelfWatch


@pytest.fixture
def told(world: Any, receiver: Any, time: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A webhook that is told of Driftline's own trouble; looks are as frequent as the test likes."""
    monkeypatch.setattr(selfwatch, "EVERY_S", 0.0)
    monkeypatch.setattr(selfwatch, "settings", settings)
    with writing() as session:
        alerts.add_channel(session, world.project_id, "hook", "webhook", {"url": receiver.url}, "ann")
        alerts.add_rule(session, world.project_id, "self", "self", "ann", channels=["hook"])
    return receiver


def sign(name: str, at: int) -> None:
    with writing() as session:
        row = session.exec(select(Process).where(Process.name == name)).first()
        row = row or Process(host="h", name=name, pid=1, started_at=0, seen_at=0)
        row.seen_at = at
        session.add(row)


def lease(until: int) -> None:
    with writing() as session:
        row = session.get(Lease, "clock") or Lease(name="clock", owner="h:1", until=until)
        row.until = until
        session.add(row)


def lasting(watch: SelfWatch, time: Any, keep: Callable[[], None] = lambda: None) -> list[str]:
    """What the watch finds after a minute of looking."""
    found: list[str] = []
    for _ in range(7):
        keep()
        found = [one.part for one in watch.round()]
        time.advance(10)
    return found


def titles(receiver: Any) -> list[str]:
    return [body["data"]["title"] for body in receiver.bodies]


def test_a_dead_clock_is_told_by_whoever_sends_notices_without_the_clocks_help(told: Any, time: Any) -> None:
    watch = SelfWatch(looks_at_clock=True)
    lease(time.now + 15 * SECOND)
    assert watch.round() == []
    time.advance(20)
    assert lasting(watch, time) == ["clock"]
    assert titles(told) == ["Driftline: No clock ticks"], "once, and sent though nobody sweeps"
    lease(time.now + HOUR)
    assert lasting(watch, time) == []
    selfwatch.lend_a_hand()
    assert titles(told)[-1] == "Resolved: Driftline: No clock ticks"
    with reading() as session:
        assert session.exec(select(Alert.state)).all() == ["resolved"]


def test_a_clock_that_is_started_again_in_time_is_no_news(told: Any, time: Any) -> None:
    watch = SelfWatch(looks_at_clock=True)
    lease(time.now - SECOND)
    watch.round()
    time.advance(30)
    watch.round()
    lease(time.now + 15 * SECOND)
    assert lasting(watch, time, lambda: lease(time.now + 15 * SECOND)) == []
    assert told.requests == []


@pytest.mark.parametrize(
    ("name", "part"), [("collect", "collector"), ("web", "collector"), ("worker-checks", "workers")]
)
def test_a_room_that_has_gone_silent_is_named(told: Any, time: Any, name: str, part: str) -> None:
    watch = SelfWatch(looks_at_clock=False)
    sign(name, time.now)
    assert watch.round() == []
    time.advance(40)
    assert lasting(watch, time) == [part]
    assert len(told.requests) == (1 if part == "workers" else 0), "a clock sends by itself only where no worker is left"
    assert lasting(watch, time, lambda: sign(name, time.now)) == []


def test_one_of_two_collectors_may_go(told: Any, time: Any) -> None:
    watch = SelfWatch(looks_at_clock=False)
    sign("collect", time.now)
    sign("collect-2", time.now)
    time.advance(60)
    assert lasting(watch, time, lambda: sign("collect-2", time.now)) == []


def test_work_that_lies_is_told_with_how_much_and_how_long(world: Any, told: Any, time: Any) -> None:
    watch = SelfWatch(looks_at_clock=False)
    with writing() as session:
        for number in range(3):
            request(session, "monitor.check", "drift", {"n": number}, project_id=world.project_id)
    assert watch.round() == []
    time.advance(100)
    assert lasting(watch, time) == []
    time.advance(60)
    assert lasting(watch, time) == ["queue:drift"]
    with reading() as session:
        (alert,) = session.exec(select(Alert)).all()
    assert alert.title == "Driftline: Work piles up in the queue drift"
    assert "3 jobs are due" in alert.body["summary"]


def test_a_silent_collector_speaks_for_routes_that_seem_silent(world: Any, told: Any, time: Any, work_off: Any) -> None:
    from scheduler.incidents import raise_alerts

    watch = SelfWatch(looks_at_clock=False)
    sign("collect", time.now)
    time.advance(60)
    lasting(watch, time)
    with writing() as session:
        alerts.add_rule(session, world.project_id, "no data", "no_data", "ann", channels=["hook"])
        raise_alerts(session, world.project_id, "no_data", "k", "No data", {"route": "chat"}, {"summary": "s"})
    work_off(["channel.flush", "notification.send"])
    assert titles(told) == ["Driftline: The collector is silent"]


def test_the_heartbeat_goes_to_its_address_once_per_interval(
    receiver: Any, world: Any, time: Any, work_off: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    with writing() as session:
        assert ask_for_heartbeat(session, 0) == 0, "nobody asked for it"
    monkeypatch.setenv("DRIFTLINE_HEARTBEAT_URL", receiver.url)
    settings.cache_clear()
    asked = 0
    for _ in range(13):
        with writing() as session:
            asked = ask_for_heartbeat(session, asked)
        work_off()
        time.advance(10)
    assert len(receiver.requests) == 3
    with reading() as session:
        assert session.exec(select(Job)).all() == []
