"""A notice reaches its channel: at least once, with patience, to allowed addresses, its secret never in clear."""

import logging
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import pytest
from sqlmodel import col, select

from driftline.acts import alerts
from driftline.errors import BadInput, Conflict, NotFound
from driftline.moment import SECOND
from driftline.settings import settings
from driftline.store.engine import reading, writing
from driftline.store.secrets import installation_key
from driftline.store.tables import Alert, AuditEntry, Channel, Job, Notification
from scheduler.channels.sending import refuse_private
from scheduler.incidents import raise_alerts
from scheduler.work import run_job

CLEAR = "hush-hush"  # the secret part of the receiver's address


@pytest.fixture
def slack(world: Any, receiver: Any) -> Channel:
    """A Slack channel at the receiver, told of every drift."""
    return add_channel(world, "slack", {"url": receiver.url})


def add_channel(world: Any, kind: str, address: dict[str, str], **rule: Any) -> Channel:
    with writing() as session:
        channel = alerts.add_channel(session, world.project_id, kind, kind, address, "ann")
        told = {"channels": [kind]} | rule
        alerts.add_rule(session, world.project_id, f"drift to {kind}", "drift", "ann", **told)
    return channel


@pytest.fixture
def happens(world: Any) -> Callable[..., list[Alert]]:
    """Something drifts on a route."""

    def fire(key: str = "drift:1", **labels: str) -> list[Alert]:
        body = {"summary": "Quality fell from 0.8 to 0.5.", "route": "chat", "variant": "int8"}
        with writing() as session:
            given = {"route": "chat", "signal": "quality"} | labels
            return raise_alerts(session, world.project_id, "drift", key, "Quality drifted", given, body)

    return fire


def notifications() -> list[Notification]:
    with reading() as session:
        return list(session.exec(select(Notification).order_by(col(Notification.id))))


def sending() -> Job:
    with reading() as session:
        return session.exec(select(Job).where(Job.kind == "notification.send")).one()


def test_an_alert_reaches_every_channel_of_its_rule_once(
    world: Any, receiver: Any, slack: Channel, happens: Any, work_off: Any
) -> None:
    add_channel(world, "webhook", {"url": receiver.url, "secret": "whisper"})
    happens()
    work_off()
    work_off()
    assert [(row.state, row.happening, row.attempt) for row in notifications()] == [("sent", "fired", 1)] * 2
    assert notifications()[0].response == "200 ok"
    assert len(receiver.requests) == 2
    assert {request.headers["idempotency-key"] for request in receiver.requests} == {"notification-1", "notification-2"}
    assert "Quality fell from 0.8 to 0.5." in receiver.requests[0].body.decode()


def test_a_notice_whose_worker_died_after_sending_is_sent_again_with_the_same_key(
    receiver: Any, slack: Channel, happens: Any, work_off: Any
) -> None:
    happens()
    work_off()
    with writing() as session:
        row = session.exec(select(Notification)).one()
        row.state = "sending"
        job = session.exec(select(Job).where(Job.kind == "notification.send")).one()
        job.state = "queued"
        session.add_all([row, job])
    work_off()
    keys = [request.headers["idempotency-key"] for request in receiver.requests]
    assert keys == ["notification-1"] * 2


def test_a_busy_receiver_is_given_the_time_it_asks_for(
    receiver: Any, slack: Channel, happens: Any, work_off: Any, time: Any
) -> None:
    receiver.answers = [(429, {"retry-after": "70"}, "slow down"), (200, {}, "ok")]
    happens()
    work_off()
    assert sending().due_at == time.now + 70 * SECOND
    assert (notifications()[0].state, notifications()[0].response) == ("queued", "127.0.0.1 answered 429 slow down")
    time.advance(69)
    assert work_off() == []
    time.advance(1)
    work_off()
    assert (notifications()[0].state, notifications()[0].attempt) == ("sent", 2)


def test_a_date_to_retry_after_is_understood(
    receiver: Any, slack: Channel, happens: Any, work_off: Any, time: Any
) -> None:
    later = format_datetime(datetime.now(UTC) + timedelta(seconds=200), usegmt=True)
    receiver.answers = [(503, {"retry-after": later}, "soon")]
    happens()
    work_off()
    assert 190 < (sending().due_at - time.now) / SECOND <= 200


def test_pauses_between_attempts_grow_and_vary_and_end(
    receiver: Any, slack: Channel, happens: Any, work_off: Any, time: Any
) -> None:
    receiver.answers = [(500, {}, "broken")]
    happens()
    work_off()
    pauses = []
    while sending().state == "queued":
        pauses.append((sending().due_at - time.now) / SECOND)
        time.now = sending().due_at
        work_off()
    assert len(pauses) == 11
    assert all(0.5 * min(600, 2**n) <= pause <= min(600, 2**n) for n, pause in enumerate(pauses, 1))
    assert (notifications()[0].state, notifications()[0].response) == ("failed", "127.0.0.1 answered 500 broken")


@pytest.mark.parametrize("code", [400, 403, 404, 410, 302])
def test_a_refusal_for_good_is_shown_and_not_repeated(
    receiver: Any, slack: Channel, happens: Any, work_off: Any, code: int
) -> None:
    receiver.answers = [(code, {"location": "http://127.0.0.1:9/"}, "invalid_blocks")]
    happens()
    work_off(early=True)
    assert len(receiver.requests) == 1
    (row,) = notifications()
    assert row.state == "failed"
    assert f"answered {code} invalid_blocks" in (row.response or "")


def test_a_receiver_that_is_away_is_tried_again(
    world: Any, receiver: Any, happens: Any, work_off: Any, time: Any
) -> None:
    add_channel(world, "slack", {"url": "http://127.0.0.1:9/services/x"})
    happens()
    work_off()
    assert notifications()[0].state == "queued"
    assert notifications()[0].response == "127.0.0.1 could not be reached (ConnectError)"


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1/x", "http://localhost:8400/x", "http://10.1.2.3/x", "http://192.168.0.1/x",
        "http://169.254.169.254/latest/meta-data", "http://[::1]/x", "http://[::ffff:127.0.0.1]/x", "http://0.0.0.0/x",
        "http://100.64.0.1/x", "http://[fd00::1]/x",
    ],
)  # fmt: skip
def test_private_addresses_are_refused_unless_allowed(
    world: Any, happens: Any, work_off: Any, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    add_channel(world, "slack", {"url": url})
    happens()
    work_off(early=True)
    (row,) = notifications()
    assert row.state == "failed"
    assert "leads to the private address" in (row.response or "")
    assert "DRIFTLINE_ALLOW_PRIVATE_WEBHOOKS=true" in (row.response or "")
    monkeypatch.setenv("DRIFTLINE_ALLOW_PRIVATE_WEBHOOKS", "true")
    settings.cache_clear()
    assert refuse_private(url)


def test_a_public_address_may_be_called(data_dir: object) -> None:
    assert refuse_private("https://93.184.216.34/hook") == "93.184.216.34"


def test_a_silence_mutes_what_matches_until_it_ends(
    world: Any, receiver: Any, slack: Channel, happens: Any, work_off: Any, time: Any
) -> None:
    with writing() as session:
        alerts.silence(session, world.project_id, {"route": "chat"}, time.now + 60 * SECOND, "ann", "deploying")
    happens("drift:1")
    happens("drift:2", route="search")
    work_off()
    assert [row.state for row in notifications()] == ["silenced", "sent"]
    time.advance(61)
    happens("drift:3")
    work_off()
    assert [row.state for row in notifications()] == ["silenced", "sent", "sent"]
    assert len(receiver.requests) == 2


def test_a_silence_that_would_mute_everything_or_nothing_is_refused(world: Any, time: Any) -> None:
    with writing() as session:
        with pytest.raises(BadInput, match="at least one label"):
            alerts.silence(session, world.project_id, {}, time.now + SECOND, "ann")
        with pytest.raises(BadInput, match="has passed"):
            alerts.silence(session, world.project_id, {"route": "chat"}, time.now, "ann")


def test_a_rule_tells_only_what_it_matches(world: Any, receiver: Any, happens: Any) -> None:
    add_channel(world, "slack", {"url": receiver.url}, matchers={"route": "search"})
    assert happens("drift:1") == []
    assert len(happens("drift:2", route="search")) == 1


def test_a_standing_alert_is_not_raised_again_and_a_resolved_one_is(
    receiver: Any, slack: Channel, happens: Any, work_off: Any
) -> None:
    (alert,) = happens()
    assert happens() == []
    work_off()
    with writing() as session:
        alerts.resolve(session, session.get_one(Alert, alert.id), "ann")
    work_off()
    assert len(happens()) == 1
    work_off()
    assert [row.happening for row in notifications()] == ["fired", "resolved", "fired"]
    titles = [body["text"].split(":")[0] for body in receiver.bodies]
    assert titles[1].endswith("Resolved")


def test_acknowledging_is_done_once_and_says_by_whom(happens: Any, slack: Channel) -> None:
    (alert,) = happens()
    with writing() as session:
        alerts.acknowledge(session, session.get_one(Alert, alert.id), "ann")
    with writing() as session, pytest.raises(Conflict, match=f"Alert {alert.id} is acknowledged already"):
        alerts.acknowledge(session, session.get_one(Alert, alert.id), "bob")
    with reading() as session:
        assert session.get_one(Alert, alert.id).acknowledged_by == "ann"
        actions = session.exec(select(AuditEntry.actor).where(AuditEntry.action == "alert.acknowledged")).all()
    assert actions == ["ann"]


def test_a_test_notice_goes_to_its_channel_and_its_answer_is_kept(
    world: Any, receiver: Any, slack: Channel, job: Any
) -> None:
    with writing() as session:
        asked = alerts.test_channel(session, session.get_one(Channel, slack.id), "ann")
    assert run_job(asked.id) == "done"
    assert job(asked.id).result == {"answer": "200 ok"}
    assert "ann asked for this test of the channel slack." in receiver.requests[0].body.decode()


def test_the_secret_is_in_no_row_and_no_log_line(
    world: Any, receiver: Any, slack: Channel, happens: Any, work_off: Any, time: Any, everything: Any,
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    caplog.set_level(logging.INFO)
    add_channel(world, "webhook", {"url": receiver.url, "secret": "whisper"})
    receiver.answers = [(500, {}, "no"), (429, {}, "no"), (404, {}, "no"), (200, {}, "ok")]
    happens()
    for _ in range(4):
        work_off(early=True)
        time.advance(700)
    assert receiver.requests[0].path.endswith(CLEAR)
    for clear in (CLEAR, "whisper"):
        assert clear not in everything()
        assert clear not in caplog.text


def test_a_channel_sealed_with_another_key_fails_with_a_sentence(
    slack: Channel, happens: Any, work_off: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DRIFTLINE_SECRET_KEY", "another")
    settings.cache_clear()
    installation_key.cache_clear()
    happens()
    work_off(early=True)
    assert "cannot be read with this installation's key" in (notifications()[0].response or "")


@pytest.mark.parametrize(
    ("kind", "address"),
    [
        ("pager", {"url": "https://example.com"}),
        ("slack", {}),
        ("slack", {"url": "ftp://example.com"}),
        ("slack", {"url": "https://"}),
        ("slack", {"url": "https://example.com:99999/"}),
        ("slack", {"url": "http://[::1/"}),
        ("slack", {"url": "https://example.com", "secret": "x"}),
        ("webhook", {"url": "https://example.com", "token": "x"}),
    ],
)
def test_a_channel_that_cannot_work_is_refused(project: int, kind: str, address: dict[str, str]) -> None:
    with writing() as session, pytest.raises(BadInput):
        alerts.add_channel(session, project, "c", kind, address, "ann")


def test_a_rule_names_channels_and_occasions_that_exist(project: int, slack: Channel) -> None:
    with writing() as session:
        with pytest.raises(NotFound, match=r"no channel pager. Known: slack"):
            alerts.add_rule(session, project, "r", "drift", "ann", channels=["pager"])
        with pytest.raises(BadInput, match="one of drift, comparison"):
            alerts.add_rule(session, project, "r", "weather", "ann", channels=["slack"])


def test_a_channel_set_again_is_the_same_channel_with_the_new_address(
    world: Any, receiver: Any, slack: Channel, happens: Any, work_off: Any
) -> None:
    with writing() as session:
        again = alerts.add_channel(session, world.project_id, "slack", "slack", {"url": receiver.url + "2"}, "ann")
    assert again.id == slack.id
    happens()
    work_off()
    assert receiver.requests[0].path.endswith(CLEAR + "2")
