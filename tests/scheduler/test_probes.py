"""Probes, border inputs, anchors and pairs of answers are measured by jobs, judged, and find a model that changed."""

import random
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from far_models import FarModel, far_model
from sqlmodel import col, select

from driftline.acts import monitors
from driftline.moment import DAY, SECOND
from driftline.protocols import AnswerLogProbs
from driftline.store.engine import reading, writing
from driftline.store.tables import Job, Monitor, Observation, Reading, Variant
from scheduler import probes
from scheduler.work import run_job


class Watch:
    """A monitor whose values a job measures once a day."""

    def __init__(self, world: Any, time: Any, ask: Any, signal: str, source: str = "", **params: Any) -> None:
        self.world, self.time, self.ask = world, time, ask
        told = {"block_s": 3600.0, "every_s": 86_400.0} | params
        with writing() as session:
            self.id = monitors.add(session, world.project_id, signal, signal, "test", source=source, params=told).id

    def day(self) -> dict[str, Any]:
        """One run and the check after it; the run's result."""
        self.time.advance(86_400)
        job = self.ask("monitor.observe", {"monitor_id": self.id}, queue="replay", project_id=self.world.project_id)
        assert run_job(job) == "done"
        self.time.advance(7200)
        check = self.ask("monitor.check", {"monitor_id": self.id}, project_id=self.world.project_id)
        assert run_job(check) == "done"
        self.time.advance(-7200)
        with reading() as session:
            result: dict[str, Any] = session.get_one(Job, job).result or {}
        return result

    @property
    def monitor(self) -> Monitor:
        with reading() as session:
            return session.get_one(Monitor, self.id)


@pytest.fixture
def watch(world: Any, time: Any, ask: Any) -> Callable[..., Watch]:
    return lambda signal, source="", **params: Watch(world, time, ask, signal, source, **params)


def observations() -> list[Observation]:
    with reading() as session:
        return list(session.exec(select(Observation).order_by(col(Observation.id))))


class Weighing:
    """A model that weighs answers; `shift` is what somebody did to its weights."""

    fingerprint = "weights"
    shift = 0.0

    def log_probs(self, pairs: Any) -> list[AnswerLogProbs]:
        return [AnswerLogProbs((-1.0 - len(text) / 100 - self.shift,) * 5, (True,) * 5) for _, text in pairs]


def test_probes_measure_their_base_then_find_weights_that_changed(
    watch: Callable[..., Watch], world: Any, golden: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.production(world.recorded("base"))
    model = Weighing()
    monkeypatch.setattr(probes, "weigher_of", lambda variant: model)
    watching = watch("probes", "qa")
    assert watching.day()["measured"] == 30
    assert {row.value for row in observations()} == {None}
    for _ in range(6):
        watching.day()
    assert watching.monitor.status == "watching"
    assert {row.value for row in observations()} == {None, 0.0}
    model.shift = 0.05
    watching.day()
    watching.day()
    assert watching.monitor.status == "alarmed"


def test_a_variant_that_takes_over_gets_a_base_of_its_own(
    watch: Callable[..., Watch], world: Any, golden: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    base, other = world.recorded("base"), world.recorded("other", right=10)
    model = Weighing()
    monkeypatch.setattr(probes, "weigher_of", lambda variant: model)
    world.production(base)
    watching = watch("probes", "qa")
    watching.day()
    world.production(other)
    model.shift = 3.0
    watching.day()
    assert {row.value for row in observations()} == {None}


def test_a_run_that_is_delivered_twice_is_measured_once(
    watch: Callable[..., Watch], world: Any, golden: Any, monkeypatch: pytest.MonkeyPatch, ask: Any
) -> None:
    world.production(world.recorded("base"))
    monkeypatch.setattr(probes, "weigher_of", lambda variant: Weighing())
    watching = watch("probes", "qa")
    watching.day()
    again = ask("monitor.observe", {"monitor_id": watching.id}, queue="replay", project_id=world.project_id)
    assert run_job(again) == "done"
    assert len(observations()) == 30


@pytest.fixture
def third_party() -> Iterator[FarModel]:
    """An endpoint of somebody else's, whose model can be replaced."""
    with far_model(wavering(1)) as model:
        yield model


def wavering(weights: int) -> Callable[[str], str]:
    """One token per prompt, which differs from time to time on one prompt in five."""
    chance = random.Random(1)

    def answer(asked: str) -> str:
        own = random.Random(f"{weights}|{asked}")
        share = own.uniform(0.2, 0.8) if random.Random(asked).random() < 0.2 else 1.0
        first, second = own.sample(["yes", "no", "the"], 2)
        return first if chance.random() < share else second

    return answer


def test_a_third_partys_model_that_was_replaced_is_found_by_its_border_inputs(
    watch: Callable[..., Watch], world: Any, third_party: FarModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(probes, "CANDIDATES", 40)
    monkeypatch.setattr(probes.border, "REFERENCE", 40)
    world.production(world.declare("theirs", third_party.spec))
    watching = watch("border", items=5, reference_items=20)
    assert watching.day() == {"measured": 5, "run": 1}
    for _ in range(6):
        watching.day()
    assert watching.monitor.status == "watching", watching.monitor.pending
    third_party.answer = wavering(2)
    for _ in range(12):
        watching.day()
        if watching.monitor.status == "alarmed":
            break
    assert watching.monitor.status == "alarmed"


def test_a_judge_that_grows_lenient_is_found_by_its_anchors(
    watch: Callable[..., Watch], world: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from driftline.acts.golden import canonical, import_items
    from driftline.protocols import Scored

    items = [
        canonical({"input": f"Question {n}?", "expected": f"Answer {n}", "tags": {"label": str(n % 5 / 4)}})
        for n in range(40)
    ]
    with writing() as session:
        import_items(session, world.project_id, "anchors", items, "test", source="test")
    lenient = [0.0]

    def scorer(name: str, **_: Any) -> Any:
        return lambda answers: [Scored(min(1.0, float(one.tags["label"]) + lenient[0])) for one in answers]

    monkeypatch.setattr(probes, "scorer", scorer)
    watching = watch("judge", "judge@anchors", items=40, reference_items=120)
    for _ in range(6):
        watching.day()
    assert watching.monitor.status == "watching"
    lenient[0] = 0.25
    for _ in range(4):
        watching.day()
    assert watching.monitor.status == "alarmed"


def test_answers_that_change_in_kind_are_found_from_replays(
    watch: Callable[..., Watch], world: Any, golden: Any, work_off: Any
) -> None:
    from driftline.acts.replays import request_replay
    from driftline.store.tables import Answer, Replay

    variant = world.recorded("base")
    world.production(variant)
    watching = watch("answers", "qa", items=60)

    def replay(opening: str) -> None:
        with writing() as session:
            request_replay(session, world.project_id, session.get_one(Variant, variant.id), golden, "test")
        work_off({"replay.run"})
        with writing() as session:
            newest = session.exec(select(Replay).order_by(col(Replay.id).desc())).first()
            for row in session.exec(select(Answer).where(Answer.replay_id == newest.id)):
                row.text = opening + row.text
                session.add(row)

    replay("")
    replay("")
    assert watching.day()["measured"] == 60
    assert watching.monitor.status == "watching", watching.monitor.pending
    replay("**Answer:**\n\n- ")
    watching.day()
    assert watching.monitor.status == "alarmed"
    with reading() as session:
        alarm = session.exec(select(Reading).where(col(Reading.alarmed))).one()
    assert alarm.n == 60
    assert DAY == 86_400 * SECOND


@pytest.mark.parametrize(
    ("signal", "source", "says"),
    [
        ("probes", "qa", "No variant answers the route"),
        ("border", "", "No variant answers the route"),
        ("judge", "judge", "EVALUATOR@GOLDEN"),
        ("probes", "nowhere", "No variant answers"),
    ],
)
def test_what_stands_in_the_way_of_a_run_is_told_on_the_monitor(
    watch: Callable[..., Watch], golden: Any, signal: str, source: str, says: str
) -> None:
    watching = watch(signal, source)
    assert says in watching.day()["problem"]
    assert says in watching.monitor.pending["problem"]
