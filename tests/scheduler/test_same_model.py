"""A drift under a name whose model was exchanged: the model is asked again, and its answers enter the verdict."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from far_models import FarModel, far_model
from sqlmodel import col, select

from driftline.acts import alerts
from driftline.acts.replays import request_replay
from driftline.protocols import AnswerLogProbs, Completion
from driftline.store.engine import reading, writing
from driftline.store.tables import Alert, DriftEvent, Job, Notification, Reoptimization, Variant
from scheduler import same_model

Watched = Any  # see conftest
OPENINGS = {1: "", 2: "**Sure!** Let me think about that step by step.\n\n- "}


@pytest.fixture
def theirs() -> Iterator[FarModel]:
    """Somebody else's endpoint, whose model can be exchanged behind its name."""
    with far_model(weights(1)) as model:
        yield model


def weights(which: int) -> Callable[[str], str]:
    """The answers of one of its models."""
    return lambda asked: f"{OPENINGS[which]}{asked.replace('Question', 'answer').rstrip('?')}"


@pytest.fixture
def told(watch_errors: Callable[..., Watched], receiver: Any, theirs: FarModel, work_off: Any) -> Watched:
    """A watched route answered by that endpoint since before the reference; it has been replayed once."""
    stream = watch_errors()
    stream.variant = stream.world.declare("theirs", theirs.spec)
    with writing() as session:
        alerts.add_channel(session, stream.world.project_id, "slack", "slack", {"url": receiver.url}, "ann")
        alerts.add_rule(session, stream.world.project_id, "drift", "drift", "ann", channels=["slack"])
    stream.golden = stream.world.golden()
    stream.world.production(stream.variant)
    replay(stream, work_off)
    stream.time.advance(3600)
    stream.healthy(20)
    stream.check()
    stream.healthy(10)
    stream.check()
    assert stream.monitor.status == "watching"
    return stream


def replay(stream: Watched, work_off: Any) -> None:
    with writing() as session:
        variant = session.get_one(Variant, stream.variant.id)
        request_replay(session, stream.world.project_id, variant, stream.golden, "test", reuse=False)
    work_off({"replay.run"})


def fail(stream: Watched) -> None:
    """Requests fail more often, under the same name, until the monitor notices."""
    while stream.monitor.status != "alarmed":
        stream.block(errors=8)
        stream.check()
    stream.time.advance(3)


def only(table: Any) -> Any:
    with reading() as session:
        return session.exec(select(table)).one()


def test_a_model_exchanged_behind_its_name_is_asked_again_and_takes_the_blame(
    told: Watched, theirs: FarModel, work_off: Any, receiver: Any
) -> None:
    theirs.answer = weights(2)
    fail(told)
    work_off(["event.explain"])
    event = only(DriftEvent)
    assert event.cause == "infrastructure", "nothing else is known yet"
    assert event.evidence["same_model"]["state"] == "asked"
    work_off(["channel.flush", "notification.send"])
    assert len(receiver.requests) == 1
    asked = theirs.asked
    assert work_off(["event.same_model"]) == [("event.same_model", "done")]
    assert theirs.asked - asked == same_model.ITEMS
    event = only(DriftEvent)
    assert event.cause == "variant"
    check = event.evidence["same_model"]
    assert (check["state"], check["verdict"], check["by"]) == ("measured", "changed", "answers")
    assert [(one["by"], one["verdict"]) for one in check["looked"]] == [("fingerprint", "same"), ("answers", "changed")]
    assert "40 pairs, 0 identical" in check["looked"][1]["rests_on"]
    assert "Its golden answers differ in kind." in event.evidence["reasons"]
    assert "probes_moved" not in event.evidence["not_looked_at"]
    assert only(Alert).body["cause"] == "variant"
    assert "probes" not in event.evidence["others"]
    told.time.advance(30)
    work_off(["channel.flush", "notification.send"])
    assert "Now explained: " in receiver.bodies[-1]["text"]
    with reading() as session:
        happened = session.exec(select(Notification.happening).order_by(col(Notification.id))).all()
    assert happened == ["fired", "explained"]


def test_a_model_that_is_still_the_same_is_acquitted(told: Watched, work_off: Any, receiver: Any) -> None:
    fail(told)
    work_off(["event.explain", "channel.flush", "notification.send"])
    work_off(["event.same_model"])
    event = only(DriftEvent)
    assert event.cause == "infrastructure"
    assert event.evidence["same_model"]["verdict"] == "same"
    assert "It is still the same model. Its golden answers are of the same kind." in event.evidence["reasons"]
    work_off(["channel.flush", "notification.send"], early=True)
    assert len(receiver.requests) == 1, "a verdict that stands is told once"
    with reading() as session:
        assert session.exec(select(Reoptimization)).all() == []


def test_a_replay_since_the_change_is_read_and_nobody_is_asked(told: Watched, theirs: FarModel, work_off: Any) -> None:
    theirs.answer = weights(2)
    fail(told)
    replay(told, work_off)
    asked = theirs.asked
    work_off(["event.explain"])
    event = only(DriftEvent)
    assert event.cause == "variant"
    check = event.evidence["same_model"]
    assert (check["state"], check["by"]) == ("read", "answers")
    with reading() as session:
        assert session.exec(select(Job).where(Job.kind == "event.same_model")).all() == []
    assert theirs.asked == asked


def test_an_endpoint_that_does_not_answer_is_told_on_the_event(told: Watched, theirs: FarModel, work_off: Any) -> None:
    theirs.answer = lambda asked: None
    fail(told)
    work_off(["event.explain"])
    work_off(["event.same_model"])
    event = only(DriftEvent)
    assert event.cause == "infrastructure"
    check = event.evidence["same_model"]
    assert "answered 0 of 40 items asked again" in check["problem"]
    assert check["verdict"] == "unknown"


def test_the_check_runs_once_however_often_it_is_delivered(
    told: Watched, theirs: FarModel, work_off: Any, ask: Any
) -> None:
    theirs.answer = weights(2)
    fail(told)
    work_off(["event.explain", "event.same_model"])
    before, asked = only(DriftEvent).model_dump(exclude={"explained_at"}), theirs.asked
    for kind in ("event.same_model", "event.explain"):
        ask(kind, {"event_id": before["id"]}, project_id=told.world.project_id)
    work_off(["event.explain", "event.same_model"])
    assert only(DriftEvent).model_dump(exclude={"explained_at"}) == before
    assert theirs.asked == asked


def test_a_switch_of_variants_asks_no_model(told: Watched, theirs: FarModel, work_off: Any) -> None:
    spec = {**told.variant.spec, "runner_config": {**told.variant.spec["runner_config"], "model": "other"}}
    told.variant = told.world.declare("smaller", spec)
    fail(told)
    work_off(["event.explain"])
    assert only(DriftEvent).cause == "variant"
    with reading() as session:
        assert session.exec(select(Job).where(Job.kind == "event.same_model")).all() == []


def test_an_alias_that_another_model_answers_is_seen_from_the_records(
    watch_errors: Callable[..., Watched], work_off: Any
) -> None:
    stream = watch_errors()
    stream.world.golden()
    stream.world.production(stream.variant)
    called = ["gpt-4-0314"]
    traffic = stream.world.traffic
    stream.world.traffic = lambda *given, **columns: traffic(*given, **columns, model=called[0])
    stream.healthy(20)
    stream.check()
    stream.healthy(10)
    stream.check()
    called[0] = "gpt-4-0613"
    fail(stream)
    work_off(["event.explain"])
    event = only(DriftEvent)
    assert event.cause == "variant"
    (looked,) = event.evidence["same_model"]["looked"]
    assert looked["rests_on"] == "the records say gpt-4-0314 before, gpt-4-0613 after"


class Weighing:
    """A model that weighs answers and gives them; `shift` is what somebody did to its weights."""

    fingerprint = "weights"
    shift = 0.0

    def generate(self, prompts: Any, sampling: Any) -> list[Completion]:
        return [Completion(f"It is {messages[-1]['content'][9:-1]}.", 1.0) for messages in prompts]

    def log_probs(self, pairs: Any) -> list[AnswerLogProbs]:
        return [AnswerLogProbs((-1.0 - len(text) / 100 - self.shift,) * 5, (True,) * 5) for _, text in pairs]


@pytest.mark.parametrize(("shift", "verdict"), [(0.0, "same"), (0.05, "changed")])
def test_weights_that_changed_show_in_how_expected_answers_are_weighed(
    world: Any, golden: Any, time: Any, work_off: Any, monkeypatch: pytest.MonkeyPatch, shift: float, verdict: str
) -> None:
    from scheduler import replays

    model = Weighing()
    monkeypatch.setattr(replays, "model_of", lambda variant: model)
    monkeypatch.setattr(same_model, "model_of", lambda variant: model)
    variant = world.recorded("base")
    with writing() as session:
        there = session.get_one(Variant, variant.id)
        request_replay(session, world.project_id, there, golden, "test", scorers=["reference_likelihood"])
    work_off({"replay.run"})
    time.advance(60)
    model.shift = shift
    with reading() as session:
        then = same_model.replay_before(session, variant, time.now)
    check = same_model.ask_again(variant, then, []).to_json("measured")
    assert check["verdict"] == verdict
    assert [one["by"] for one in check["looked"]] == ["fingerprint", "probes", "answers"]
