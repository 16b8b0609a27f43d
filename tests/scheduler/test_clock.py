"""Any number of clocks run, one ticks; what is due becomes one job."""

import os
import socket
import subprocess
import threading
from collections.abc import Callable
from time import monotonic, sleep
from typing import Any

import pytest
from sqlmodel import select

from driftline.acts import monitors, schedules
from driftline.errors import BadInput, Conflict
from driftline.moment import SECOND, parse
from driftline.store.engine import reading, writing
from driftline.store.tables import Bookmark, Firing, Job, Lease, Monitor, Replay, Schedule
from scheduler import clock
from scheduler.clock import Clock, ask_for_checks, fire, hold_lease, watch_new_routes

HERE = socket.gethostname()
THREE = parse("2026-06-02T03:00:00Z")


@pytest.fixture
def as_clock(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], bool]:
    """Lets a clock of this name ask for the lease."""

    def ask(owner: str) -> bool:
        monkeypatch.setattr(clock, "OWNER", owner)
        return hold_lease()

    return ask


def test_of_two_clocks_one_ticks_until_it_falls_silent(
    project_on_each: int, time: Any, as_clock: Callable[[str], bool]
) -> None:
    assert as_clock("east:1")
    assert not as_clock("west:1")
    time.advance(14)
    assert as_clock("east:1")
    time.advance(14)
    assert not as_clock("west:1")
    time.advance(2)
    assert as_clock("west:1")
    assert not as_clock("east:1")


def test_a_clock_of_this_machine_that_was_killed_is_replaced_at_once(
    project: int, time: Any, as_clock: Callable[[str], bool]
) -> None:
    killed = subprocess.Popen(["true"])
    killed.wait()
    assert as_clock(f"{HERE}:{killed.pid}")
    assert as_clock(f"{HERE}:{os.getpid()}")
    assert not as_clock("elsewhere:1")


def test_a_clock_that_stops_in_order_hands_its_lease_over(project: int, as_clock: Callable[[str], bool]) -> None:
    ticking = Clock()
    ticking.start()
    wait_until(lambda: _lease() is not None)
    ticking.stop()
    assert as_clock("elsewhere:1")


def _lease() -> Lease | None:
    with reading() as session:
        return session.get(Lease, clock.NAME)


def wait_until(ready: Callable[[], Any], seconds: float = 20.0) -> None:
    deadline = monotonic() + seconds
    while not ready():
        assert monotonic() < deadline, "it took too long"
        sleep(0.05)


@pytest.fixture
def nightly(world: Any, time: Any) -> Schedule:
    """A replay of `base` every night at three, made at noon of the day before."""
    return _nightly(world)


def _nightly(world: Any, **changed: Any) -> Schedule:
    world.golden()
    world.recorded("base")
    told = {"cron": "0 3 * * *"} | changed
    with writing() as session:
        return schedules.add(
            session, world.project_id, "nightly", "replay", {"variant": "base", "golden": "qa"}, "test", **told
        )


def firings() -> list[int]:
    with reading() as session:
        return sorted(session.exec(select(Firing.due_at)))


def replays() -> int:
    with reading() as session:
        return len(session.exec(select(Replay)).all())


def test_a_schedule_that_is_due_becomes_one_replay_however_many_clocks_see_it(
    project_on_each: int, time: Any, world_on_each: Any
) -> None:
    row = _nightly(world_on_each)
    time.now = THREE + 200
    start = threading.Barrier(3)

    def see() -> None:
        start.wait()
        fire(row.id)

    threads = [threading.Thread(target=see) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    time.advance(30)
    fire(row.id)
    assert firings() == [THREE]
    assert replays() == 1


def test_a_schedule_fires_again_the_next_night(nightly: Schedule, time: Any) -> None:
    for night in range(3):
        time.now = THREE + night * 86_400 * SECOND
        fire(nightly.id)
    assert replays() == 3


def test_a_clock_that_starts_late_makes_up_for_a_missed_moment_once(nightly: Schedule, time: Any) -> None:
    time.now = THREE + 40 * 60 * SECOND
    for _ in range(2):
        late = Clock()
        late._load_schedules()
    assert firings() == [THREE]
    assert replays() == 1


def test_a_disabled_schedule_does_not_fire_and_one_enabled_again_does_not_catch_up(
    nightly: Schedule, time: Any
) -> None:
    def enable(enabled: bool) -> None:
        with writing() as session:
            schedules.set_enabled(session, session.get_one(Schedule, nightly.id), enabled, "test")

    enable(False)
    time.now = THREE
    fire(nightly.id)
    time.advance(60)
    enable(True)
    fire(nightly.id)
    assert firings() == []
    time.now = THREE + 86_400 * SECOND
    fire(nightly.id)
    assert replays() == 1


def test_a_schedule_whose_variant_is_gone_says_so_and_holds_no_other_up(
    nightly: Schedule, world: Any, time: Any, caplog: pytest.LogCaptureFixture
) -> None:
    with writing() as session:
        row = session.get_one(Schedule, nightly.id)
        row.args = {"variant": "gone", "golden": "qa"}
        session.add(row)
        schedules.add(
            session, world.project_id, "other", "replay", {"variant": "base", "golden": "qa"}, "test", cron="0 3 * * *"
        )
    time.now = THREE
    Clock()._load_schedules()
    assert "There is no variant gone. Known: base." in caplog.text
    assert replays() == 1


def test_a_schedule_that_cannot_be_read_holds_no_other_up(
    nightly: Schedule, world: Any, time: Any, caplog: pytest.LogCaptureFixture
) -> None:
    with writing() as session:
        broken = nightly.model_dump(exclude={"id"}) | {"name": "aaa", "cron": "99 * * * *"}
        session.add(Schedule(**broken))
    time.now = THREE
    Clock()._load_schedules()
    assert "Schedule aaa never fires: The minute '99'" in caplog.text
    assert replays() == 1


def test_a_running_clock_fires_an_interval_by_itself(
    world: Any, monkeypatch: pytest.MonkeyPatch, forget_settings: Callable[[], None]
) -> None:
    monkeypatch.setenv("DRIFTLINE_SWEEP_S", "0.2")
    forget_settings()
    _nightly(world, cron=None, every_s=1.0)
    ticking = Clock()
    ticking.start()
    try:
        wait_until(lambda: len(firings()) >= 2)
    finally:
        ticking.stop()
    assert replays() == len(firings())


@pytest.mark.parametrize(
    ("told", "says"),
    [
        ({}, "either a cron line or an interval"),
        ({"cron": "0 3 * * *", "every_s": 5.0}, "either a cron line or an interval"),
        ({"every_s": 0.5}, "between one second and a year"),
        ({"cron": "0 3 * * *", "timezone": "Europe/Bern"}, "no time zone 'Europe/Bern'"),
        ({"cron": "0 3 * * *", "timezone": "../etc/passwd"}, "no time zone"),
        ({"cron": "61 3 * * *"}, "The minute '61'"),
        ({"cron": "0 3 31 2,4 *"}, "never be due"),
        ({"every_s": 60, "args": {"variant": "int8"}}, "is told golden and variant, and perhaps baseline, as texts"),
        ({"every_s": 60, "args": {"variant": "int8", "golden": 7}}, "as texts; got"),
        ({"every_s": 60, "args": {"variant": "int8", "golden": "qa", "budget": {"calls": -1}}}, "cannot be spent"),
        ({"every_s": 60, "args": {"variant": "int8", "golden": "qa", "budget": "5 calls"}}, "amounts by name"),
        ({"every_s": 60, "args": {"variant": "int8", "golden": "qa", "margin": 1.5}}, "below 1"),
        ({"every_s": 60, "kind": "reoptimize", "args": {"route": "chat", "trigger": "person"}}, "is told route"),
    ],
)
def test_a_schedule_that_makes_no_sense_is_refused(project: int, told: dict[str, Any], says: str) -> None:
    usual = {"kind": "replay", "args": {"variant": "int8", "golden": "qa"}}
    with writing() as session, pytest.raises(BadInput, match=says):
        schedules.add(session, project, "nightly", actor="test", **(usual | told))


def test_a_second_schedule_of_one_name_is_refused(nightly: Schedule, project: int) -> None:
    with writing() as session, pytest.raises(Conflict, match="named nightly already"):
        schedules.add(session, project, "nightly", "replay", nightly.args, "test", every_s=60)


def test_every_route_is_watched_from_its_first_traffic_on(world: Any) -> None:
    for route in ("chat", "mail"):
        world.production(world.recorded("base"), route)
        for _ in range(2):
            with writing() as session:
                watch_new_routes(session)
    with reading() as session:
        rows = session.exec(select(Monitor)).all()
    per_route = {"errors", "latency", "quality", "empty", "refusals", "ttft", "cost", "prompt_length",
                 "prompt_language", "answer_length"}  # fmt: skip
    wanted = {(route, signal) for route in ("chat", "mail") for signal in per_route} | {("chat", "captured")}
    assert {(row.route, row.signal) for row in rows} == wanted
    assert len(rows) == len(wanted)


def test_a_monitor_is_checked_once_per_half_block_and_at_least_every_minute(world: Any, time: Any) -> None:
    with writing() as session:
        for name, block_s in (("short", 4.0), ("long", 900.0)):
            monitors.add(session, world.project_id, name, "errors", "test", params={"block_s": block_s})
        paused = monitors.add(session, world.project_id, "paused", "errors", "test")
        monitors.pause(session, paused, "test")
    asked: dict[int, int] = {}
    counts = {"short": 0, "long": 0, "paused": 0}
    for _ in range(60):
        with writing() as session:
            ask_for_checks(session, asked)
            for job in session.exec(select(Job)):
                counts[session.get_one(Monitor, job.args["monitor_id"]).name] += 1
                session.delete(job)
        time.advance(2)
    assert counts == {"short": 60, "long": 2, "paused": 0}


def test_two_monitors_of_one_evaluator_share_its_scoring(world: Any, time: Any) -> None:
    base = world.recorded("base")
    world.production(base)
    with writing() as session:
        for name in ("one", "two"):
            monitors.add(session, world.project_id, name, "quality", "test", source="empty", params={"block_s": 4.0})
    world.traffic(base, [time.now - 10 * SECOND])
    with writing() as session:
        ask_for_checks(session, {})
    with reading() as session:
        assert [job.kind for job in session.exec(select(Job))].count("traffic.score") == 1
        assert len(session.exec(select(Bookmark)).all()) == 1


def test_a_schedule_may_be_late_bounded_and_end_early(project: int, world: Any, time: Any) -> None:
    world.golden()
    world.recorded("base")
    world.recorded("int8", right=30)
    told = {"variant": "int8", "golden": "qa", "baseline": "base", "early_stop": True, "budget": {"calls": 50}}
    time.now = THREE - 3600 * SECOND
    with writing() as session:
        row = schedules.add(session, project, "bounded", "replay", told, "test", cron="0 3 * * *", jitter_s=900)
    time.now = THREE + SECOND
    fire(row.id)
    with reading() as session:
        made = session.exec(select(Replay).order_by(Replay.id)).all()
        due = {job.due_at for job in session.exec(select(Job).where(Job.kind == "replay.run"))}
    assert [one.plan["budget"] for one in made] == [{"calls": 50}, {"calls": 50}]
    assert made[1].plan["early_stop"]["baseline_replay_id"] == made[0].id
    assert len(due) == 1
    assert THREE < due.pop() < THREE + 900 * SECOND


def test_coverage_may_be_scheduled_as_well(project: int, world: Any, time: Any) -> None:
    world.golden()
    time.now = THREE - 3600 * SECOND
    told = {"golden": "qa", "route": "chat", "days": 2}
    with writing() as session:
        row = schedules.add(session, project, "covered", "coverage", told, "test", cron="0 3 * * *")
    time.now = THREE
    fire(row.id)
    with reading() as session:
        job = session.exec(select(Job)).one()
    assert (job.kind, job.args["route"], job.args["window_us"]) == ("golden.coverage", "chat", 2 * 86_400 * SECOND)


@pytest.mark.parametrize(
    ("told", "says"),
    [
        ({"jitter_s": -1}, "A schedule may be late by up to a day"),
        ({"catch_up": "never"}, "catches up once, skip, each"),
        ({"catch_up_s": 0}, "moments up to a year old"),
        ({"args": {"variant": "base", "golden": "qa", "speed": 3}}, "A replay cannot be told 'speed'"),
    ],
)
def test_a_rule_that_cannot_be_kept_is_refused(project: int, told: dict[str, Any], says: str) -> None:
    options = {"args": {"variant": "base", "golden": "qa"}} | told
    args = options.pop("args")
    with writing() as session, pytest.raises(BadInput, match=says):
        schedules.add(session, project, "odd", "replay", args, "test", every_s=60, **options)


def test_a_defect_in_one_duty_keeps_no_other_from_being_done(
    project: int, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def withdraw_expired(session: Any) -> None:
        raise KeyError("a defect")

    done: list[str] = []
    monkeypatch.setattr(clock, "withdraw_expired", withdraw_expired)
    monkeypatch.setattr(clock, "decide_by_policy", lambda session: done.append("policy"))
    Clock().tick()
    assert done == ["policy"]
    assert "could not withdraw expired" in caplog.text
