"""What goes out together, what waits, what is mute, and what is over before anybody was told."""

from collections.abc import Callable
from typing import Any

import pytest
from sqlmodel import col, select

from driftline.acts import alerts
from driftline.moment import HOUR, parse
from driftline.settings import settings
from driftline.store.engine import reading, writing
from driftline.store.tables import Alert, Channel, Notification, Silence
from scheduler import outbox
from scheduler.incidents import raise_alerts
from scheduler.outbox import ask_for_flushes


@pytest.fixture
def channel(world: Any, receiver: Any) -> Channel:
    """A webhook that is told of every drift."""
    with writing() as session:
        made = alerts.add_channel(session, world.project_id, "hook", "webhook", {"url": receiver.url}, "ann")
        alerts.add_rule(session, world.project_id, "drift", "drift", "ann", channels=["hook"])
    return made


@pytest.fixture
def happens(world: Any, time: Any) -> Callable[..., Alert]:
    """Something drifts."""

    def fire(key: str, on: str = "drift", **labels: str) -> Alert:
        given = {"route": "chat", **labels}
        with writing() as session:
            return raise_alerts(session, world.project_id, on, key, f"Drift {key}", given, {"summary": key})[0]

    return fire


def states() -> list[tuple[str, str]]:
    with reading() as session:
        rows = session.exec(select(Notification).order_by(col(Notification.id))).all()
        return [(row.happening, row.state) for row in rows]


def resolve(alert: Alert) -> None:
    with writing() as session:
        alerts.resolve(session, session.get_one(Alert, alert.id), "ann")


def clock_round() -> None:
    with writing() as session:
        ask_for_flushes(session)


@pytest.mark.slow
def test_a_storm_of_a_thousand_alerts_in_a_minute_is_one_message(
    world: Any, receiver: Any, channel: Channel, time: Any, work_off: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DRIFTLINE_GROUP_WAIT_S", "1")  # as it is where nobody sets it
    settings.cache_clear()
    for second in range(60):
        with writing() as session:
            for n in range(20 if second % 3 else 10):
                labels = {"route": f"r{n}", "variant": f"v{second}"}
                raise_alerts(session, world.project_id, "drift", f"{second}-{n}", "Drift", labels, {"summary": "s"})
        time.advance(1)
        clock_round()
        work_off()
    for _ in range(10):
        time.advance(2)
        clock_round()
        work_off()
    (body,) = receiver.bodies
    assert body["data"]["title"] == "1000 alerts at once: 1000 fired"
    assert len(body["data"]["alerts"]) == 200
    assert set(states()) == {("fired", "sent")}
    assert len(states()) == 1000


def test_a_few_at_once_are_told_one_by_one(receiver: Any, channel: Channel, happens: Any, work_off: Any) -> None:
    for key in "abc":
        happens(key)
    work_off()
    assert [body["data"]["summary"] for body in receiver.bodies] == ["a", "b", "c"]


def test_a_busy_channel_gets_the_rest_of_a_minute_together(
    receiver: Any, channel: Channel, happens: Any, work_off: Any, time: Any
) -> None:
    for number in range(12):
        happens(str(number))
        work_off()
        time.advance(2)
    assert len(receiver.requests) == 6
    time.advance(60)
    work_off()
    assert len(receiver.requests) == 7
    assert receiver.bodies[-1]["data"]["title"] == "6 alerts at once: 6 fired"


def test_what_comes_while_a_channel_fails_waits_and_goes_out_together(
    receiver: Any, channel: Channel, happens: Any, work_off: Any, time: Any
) -> None:
    receiver.answers = [(503, {"retry-after": "20"}, "down"), (200, {}, "ok")]
    for key in "abcde":
        happens(key)
        work_off()
        time.advance(1)
    with reading() as session:
        assert session.get_one(Channel, channel.id).last_error == "127.0.0.1 answered 503 down"
    time.advance(20)
    for _ in range(5):
        work_off()
        time.advance(5)
    assert [body["data"]["title"] for body in receiver.bodies] == [
        "Drift a", "Drift a", "4 alerts at once: 4 fired"
    ]  # fmt: skip
    with reading() as session:
        assert session.get_one(Channel, channel.id).failing_since is None


def test_a_thread_waits_only_a_moment_for_its_turn_at_a_channel(
    receiver: Any, channel: Channel, happens: Any, work_off: Any, time: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outbox, "PATIENCE_S", 0.05)
    with outbox._turn_of(channel.id):
        happens("a")
        work_off()
        assert (receiver.requests, states()) == ([], [("fired", "queued")])
    time.advance(1)
    work_off()
    assert states() == [("fired", "sent")]


def test_nobody_is_told_of_what_was_over_before(receiver: Any, channel: Channel, happens: Any, work_off: Any) -> None:
    resolve(happens("a"))
    work_off()
    assert receiver.requests == []
    assert states() == [("fired", "moot"), ("resolved", "moot")]


def test_an_end_never_overtakes_its_beginning(
    receiver: Any, channel: Channel, happens: Any, work_off: Any, time: Any
) -> None:
    receiver.answers = [(503, {"retry-after": "30"}, "down"), (200, {}, "ok")]
    alert = happens("a")
    work_off()
    resolve(alert)
    for _ in range(20):
        work_off()
        time.advance(2)
    types = [body["type"] for body in receiver.bodies]
    assert types == ["driftline.alert.fired", "driftline.alert.fired", "driftline.alert.resolved"]


def test_pagerduty_gets_every_alert_by_itself_and_the_end_of_each(
    world: Any, receiver: Any, happens: Any, work_off: Any
) -> None:
    with writing() as session:
        alerts.add_channel(
            session, world.project_id, "pager", "pagerduty", {"routing_key": "R", "url": receiver.url}, "ann"
        )
        alerts.add_rule(session, world.project_id, "drift", "drift", "ann", channels=["pager"])
    several = [happens(str(number)) for number in range(12)]
    work_off()
    with writing() as session:
        alerts.acknowledge(session, session.get_one(Alert, several[0].id), "ann")
    resolve(several[1])
    work_off()
    assert len({body["dedup_key"] for body in receiver.bodies[:12]}) == 12
    assert sorted(body["event_action"] for body in receiver.bodies[12:]) == ["acknowledge", "resolve"]


def test_an_outage_of_the_platform_speaks_for_its_variants(
    receiver: Any, channel: Channel, happens: Any, work_off: Any
) -> None:
    happens("platform", cause="platform", variant="base")
    happens("victim", variant="int8")
    happens("elsewhere", route="search", variant="int8")
    work_off()
    assert states() == [("fired", "sent"), ("fired", "inhibited"), ("fired", "sent")]


def test_one_alert_may_be_told_to_speak_for_others(
    world: Any, receiver: Any, channel: Channel, happens: Any, work_off: Any
) -> None:
    with writing() as session:
        alerts.inhibit(session, world.project_id, "errors", {"signal": "errors"}, {"signal": "!errors"}, ["route"], "a")
    happens("quality", signal="quality")
    work_off()
    happens("errors", signal="errors")
    happens("latency", signal="latency")
    work_off()
    assert states() == [("fired", "sent"), ("fired", "sent"), ("fired", "inhibited")]


@pytest.mark.parametrize(
    ("matchers", "muted"),
    [
        ({"route": "chat"}, True), ({"route": "!chat"}, False), ({"route": "~ch.*"}, True), ({"route": "~c"}, False),
        ({"route": "!~s.*"}, True), ({"variant": ""}, True), ({"variant": "!"}, False), ({"route": "=chat"}, True),
        ({"route": "chat", "signal": "quality"}, False),
    ],
)  # fmt: skip
def test_silences_match_as_they_say(
    world: Any, receiver: Any, channel: Channel, happens: Any, work_off: Any, time: Any, matchers: Any, muted: bool
) -> None:
    with writing() as session:
        alerts.silence(session, world.project_id, matchers, time.now + HOUR, "ann")
    happens("a")
    work_off()
    assert states() == [("fired", "silenced" if muted else "sent")]


def test_a_silence_may_begin_later_and_be_ended(
    world: Any, receiver: Any, channel: Channel, happens: Any, work_off: Any, time: Any
) -> None:
    with writing() as session:
        row = alerts.silence(
            session, world.project_id, {"route": "chat"}, time.now + 3 * HOUR, "ann", since_us=time.now + HOUR
        )
    happens("before")
    work_off()
    time.advance(3600)
    happens("during")
    work_off()
    with writing() as session:
        alerts.end_silence(session, session.get_one(Silence, row.id), "ann")
    happens("after")
    work_off()
    assert [state for _, state in states()] == ["sent", "silenced", "sent"]


def test_a_maintenance_window_comes_back_every_week_in_its_time_zone(
    world: Any, receiver: Any, channel: Channel, happens: Any, work_off: Any, time: Any
) -> None:
    with writing() as session:
        alerts.silence(
            session, world.project_id, {"route": "chat"}, time.now + 60 * 24 * HOUR, "ann", "backups",
            cron="0 2 * * 0", lasts_s=3600, timezone="Europe/Berlin",
        )  # fmt: skip
    for number, moment in enumerate(
        ("2026-06-06T23:30Z", "2026-06-07T00:30Z", "2026-06-07T01:30Z", "2026-06-14T00:59Z")
    ):
        time.now = parse(moment)
        happens(str(number))
        work_off()
    assert [state for _, state in states()] == ["sent", "silenced", "sent", "silenced"]


def test_rules_that_group_make_one_alert_of_an_incident(
    world: Any, receiver: Any, channel: Channel, work_off: Any, time: Any
) -> None:
    with writing() as session:
        alerts.add_rule(session, world.project_id, "drift", "drift", "ann", channels=["hook"], group_by=["route"])
    for part, signal in (("drift_event:1", "quality"), ("drift_event:2", "errors")):
        with writing() as session:
            raise_alerts(
                session, world.project_id, "drift", f"drift:{part}", f"{signal} drifted",
                {"route": "chat", "signal": signal}, {"summary": signal}, part=part,
            )  # fmt: skip
        work_off()
        time.advance(21)
        clock_round()
        work_off()
    with reading() as session:
        alert = session.exec(select(Alert)).one()
    assert [body["type"].rsplit(".", 1)[1] for body in receiver.bodies] == ["fired", "joined"]
    assert receiver.bodies[1]["data"]["facts"]["Also (1)"] == "errors drifted"
    with writing() as session:
        assert alerts.end_part(session, world.project_id, "drift_event:1", "driftline") == []
        (ended,) = alerts.end_part(session, world.project_id, "drift_event:2", "driftline")
    assert (ended.id, ended.state) == (alert.id, "resolved")


def test_an_alert_that_keeps_coming_back_stays_until_it_has_held_still(
    world: Any, receiver: Any, channel: Channel, happens: Any, work_off: Any, time: Any
) -> None:
    for _ in range(2):
        happens("a")
        work_off()
        with writing() as session:
            assert len(alerts.end_part(session, world.project_id, "a", "driftline")) == 1
        work_off()
        time.advance(300)
    third = happens("a")
    work_off()
    assert third.flapping
    assert receiver.bodies[-1]["data"]["title"] == "Flapping: Drift a"
    with writing() as session:
        assert alerts.end_part(session, world.project_id, "a", "driftline") == [], "it is well, but not for long enough"
    with reading() as session:
        assert session.get_one(Alert, third.id).next_at == time.now + HOUR


def test_a_look_at_ten_thousand_alerts_finds_the_same_silences_as_trying_each() -> None:
    import random

    from driftline.acts.matching import MatcherIndex, matches

    rng = random.Random(1)
    values = ["a", "b", "c", "!a", "~[ab]", "!~b|c", ""]
    several = [{name: rng.choice(values) for name in rng.sample(["x", "y", "z"], 2)} for _ in range(40)]
    index = MatcherIndex(several)
    for _ in range(500):
        labels = {name: rng.choice("abc") for name in rng.sample(["x", "y", "z"], rng.randint(0, 3))}
        plain = next((place for place, one in enumerate(several) if matches(labels, one)), None)
        assert index.first(labels) == plain
