"""From a drift to somebody who knows what, since when and who: explained if possible, told in any case."""

from collections.abc import Callable
from typing import Any

import pytest
from sqlmodel import select

from driftline.acts import alerts, monitors
from driftline.moment import SECOND
from driftline.store.artifacts import content
from driftline.store.engine import reading, writing
from driftline.store.tables import Alert, DriftEvent, Job, Notification, Reading, Reference, Reoptimization
from scheduler.incidents import PATIENCE_S

Watched = Any  # see conftest


@pytest.fixture
def told(watch_errors: Callable[..., Watched], receiver: Any) -> Watched:
    """A watched route whose drifts are told to Slack; int8 can take the place of base."""
    stream = watch_errors()
    with writing() as session:
        alerts.add_channel(session, stream.world.project_id, "slack", "slack", {"url": receiver.url}, "ann")
        alerts.add_rule(session, stream.world.project_id, "drift", "drift", "ann", channels=["slack"])
    stream.world.golden()
    stream.world.production(stream.variant)
    stream.healthy(20)
    stream.check()
    stream.healthy(10)
    stream.check()
    assert stream.monitor.status == "watching"
    return stream


def drift(stream: Watched) -> int:
    """int8 is deployed and fails often, until the monitor notices; gives the moment of its deployment."""
    deployed: int = stream.time.now
    stream.variant = stream.world.recorded("int8", right=30)
    while stream.monitor.status != "alarmed":
        assert stream.time.now - deployed < 3600 * SECOND
        stream.block(errors=8)
        stream.check()
    stream.time.advance(3)  # which the check was ahead
    return deployed


def only(table: Any) -> Any:
    with reading() as session:
        return session.exec(select(table)).one()


@pytest.mark.parametrize("first", ["event.explain", "channel.flush"])
def test_an_alert_says_what_happened_since_when_and_by_whom(
    told: Watched, receiver: Any, work_off: Any, first: str
) -> None:
    deployed = drift(told)
    if first == "channel.flush":
        assert work_off(["channel.flush"]) == [], "it waits for its explanation"
    assert work_off(["event.explain"]) == [("event.explain", "done")]
    event = only(DriftEvent)
    assert event.cause == "variant"
    assert abs(event.began_at - deployed) < 3 * 60 * SECOND
    assert event.began_low <= event.began_at <= event.began_high
    assert event.effect["reference"] == pytest.approx(0.025, abs=0.02)
    assert event.effect["current"] == pytest.approx(0.4, abs=0.1)
    assert event.evidence["variants_after"] == {"int8": 1.0}
    work_off(["channel.flush", "notification.send"])
    (body,) = receiver.bodies
    text = receiver.requests[0].body.decode()
    assert body["text"].startswith("🔴 Errors of default drifted: from 0.0")
    assert "int8" in text
    assert f"/alerts/{only(Alert).id}" in text


def test_a_drift_blamed_on_a_variant_proposes_its_repair(told: Watched, work_off: Any) -> None:
    drift(told)
    work_off(["event.explain"])
    proposal = only(Reoptimization)
    assert proposal.state == "proposed"
    assert proposal.drift_event_id == only(DriftEvent).id
    assert [candidate["name"] for candidate in proposal.plan["candidates"]] == ["base"]


@pytest.mark.parametrize("problem", ["explanation fails", "explanation never runs"])
def test_an_alert_goes_out_even_when_it_cannot_be_explained(
    told: Watched, receiver: Any, work_off: Any, problem: str
) -> None:
    drift(told)
    if problem == "explanation fails":
        with writing() as session:
            for row in session.exec(select(Reference)):
                row.frozen = {"damaged": True}
                session.add(row)
        work_off(["event.explain"], early=True)
        with reading() as session:
            assert session.exec(select(Job.state).where(Job.kind == "event.explain")).one() == "failed"
    told.time.advance(PATIENCE_S)
    work_off(["channel.flush", "notification.send"])
    (body,) = receiver.bodies
    assert "Errors of route default has drifted." in body["text"]
    assert only(Notification).state == "sent"


def test_an_explanation_that_comes_after_the_alert_is_kept_with_it_and_tells_nobody_twice(
    told: Watched, receiver: Any, work_off: Any
) -> None:
    drift(told)
    told.time.advance(PATIENCE_S)
    work_off(["channel.flush", "notification.send"])
    work_off(["event.explain"])
    work_off(["channel.flush", "notification.send"], early=True)
    assert len(receiver.requests) == 1
    assert only(Alert).body["cause"] == "variant"


def test_explaining_twice_changes_nothing(told: Watched, work_off: Any, ask: Any) -> None:
    drift(told)
    work_off(["event.explain"])
    before = only(DriftEvent).model_dump(exclude={"explained_at"})
    ask("event.explain", {"event_id": before["id"]}, project_id=told.world.project_id)
    work_off(["event.explain"])
    assert only(DriftEvent).model_dump(exclude={"explained_at"}) == before
    assert only(Reoptimization).state == "proposed"


def test_a_drift_that_goes_on_is_one_incident(told: Watched, receiver: Any, work_off: Any) -> None:
    drift(told)
    for _ in range(10):
        told.block(errors=8)
        told.check()
    work_off(["event.explain", "channel.flush", "notification.send"], early=True)
    assert only(Alert).state == "firing"
    assert len(receiver.requests) == 1


def test_closing_the_event_resolves_its_alert_and_says_so(told: Watched, receiver: Any, work_off: Any) -> None:
    drift(told)
    work_off(["event.explain", "channel.flush", "notification.send"], early=True)
    with writing() as session:
        monitors.close_event(session, session.exec(select(DriftEvent)).one(), "ann")
    work_off(["channel.flush", "notification.send"])
    assert only(Alert).state == "resolved"
    assert [body["text"][:11].strip() for body in receiver.bodies][1].startswith("🟢 Resolved")


def test_a_drift_that_is_over_is_closed_with_a_certificate_and_the_monitor_watches_on(
    told: Watched, receiver: Any, work_off: Any
) -> None:
    drift(told)
    work_off(["event.explain", "channel.flush", "notification.send"], early=True)
    for _ in range(20):
        told.time.advance(60)
        told.check()
    assert only(DriftEvent).state == "open", "silence ends nothing"
    blocks = 0
    while only(DriftEvent).state == "open":
        told.block(errors=0)
        told.check()
        blocks += 1
        assert blocks < 60
    alert = only(Alert)
    assert (alert.state, alert.resolved_by) == ("resolved", "driftline")
    assert 20 * blocks - 20 < alert.certificate["items"] <= 20 * blocks
    assert told.monitor.status == "watching"
    told.time.advance(3)  # which the check was ahead
    work_off(["channel.flush", "notification.send"])
    assert "Back within the margin" in receiver.requests[-1].body.decode()


def test_an_event_of_nobody_told_is_still_an_event(watch_errors: Callable[..., Watched]) -> None:
    stream = watch_errors()
    stream.healthy(20)
    stream.check()
    drift(stream)
    assert only(DriftEvent).state == "open"
    with reading() as session:
        assert session.exec(select(Alert)).all() == []


def test_what_an_alarm_stores_is_enough_to_compute_it_again(told: Watched) -> None:
    from evaluators.drift import detector
    from scheduler.judging import sample_hash
    from scheduler.references import frozen_mean
    from scheduler.signals import read_rows

    drift(told)
    event = only(DriftEvent)
    with reading() as session:
        alarm = session.get_one(Reading, event.reading_id)
        reference = session.get_one(Reference, event.evidence["reference_id"])
        judged = session.exec(select(Reading).where(Reading.id <= alarm.id)).all()
        watch = detector("esr", {**frozen_mean(reference).params(), "log_threshold": event.evidence["threshold"]})
        for row in judged:
            rows = read_rows(session, told.monitor, after=row.evidence["after"], up_to=row.evidence["last"])
            assert sample_hash(rows) == row.evidence["sample_hash"]
            again = watch.update([one.level for one in rows])
            assert again.statistic == pytest.approx(row.statistic)
    assert again.alarmed


@pytest.mark.slow
def test_the_windows_report_is_kept_and_can_be_read(told: Watched, work_off: Any) -> None:
    drift(told)
    assert work_off(["event.report", "event.explain"]) == [("event.explain", "done"), ("event.report", "done")]
    event = only(DriftEvent)
    with reading() as session:
        artifact, html = content(session, event.project_id, event.report_sha256)
    assert artifact.media_type.startswith("text/html")
    assert b"<html" in html
    assert event.cause == "variant"
    assert event.evidence["evidently"]
