"""Measured rules: what fires, after how long, what ends it, and what would have happened had the rule been there."""

import json
from collections.abc import Callable
from typing import Any

import pytest
from sqlmodel import delete, select

from collector.retention import fold_rollups
from driftline.acts import alerts
from driftline.acts.rules import request_preview
from driftline.errors import BadInput, NotFound
from driftline.moment import DAY, HOUR, MINUTE, SECOND
from driftline.store.engine import reading, writing
from driftline.store.tables import Alert, AlertRule, Answer, Comparison, Job, Replay, Rollup, Route, Variant
from scheduler.rules import ask_for_rules
from scheduler.tidying import HOURS_AFTER, QUARTER, QUARTERS_AFTER
from scheduler.work import run_job

NOTHING: list[str] = []


@pytest.fixture
def rule(world: Any, time: Any) -> Callable[..., AlertRule]:
    """Adds a rule."""

    def add(on: str, **columns: Any) -> AlertRule:
        with writing() as session:
            return alerts.add_rule(
                session, world.project_id, f"rule on {on}", on, "ann", **({"channels": NOTHING} | columns)
            )

    return add


@pytest.fixture
def counts(world: Any, time: Any) -> Callable[..., None]:
    """Adds what the collector counted in the current minute."""
    variant = world.recorded("base")

    def add(
        n: int, errors: int = 0, cost: float = 0.0, tokens: int = 0, route: str = "chat", at: int | None = None
    ) -> None:
        minute = (time.now if at is None else at) // MINUTE * MINUTE
        with writing() as session:
            if session.exec(select(Route).where(Route.name == route)).first() is None:
                session.add(Route(project_id=world.project_id, name=route, updated_at=0))
            session.add(
                Rollup(
                    project_id=world.project_id, variant_id=variant.id, route=route, minute=minute, n=n, errors=errors,
                    cost_nano=int(cost * 1e9), input_tokens=tokens,
                )
            )  # fmt: skip

    return add


@pytest.fixture
def look(world: Any, time: Any) -> Callable[[], list[Alert]]:
    """One round of the clock, two seconds later; gives the alerts that stand."""

    def once() -> list[Alert]:
        time.advance(2)
        with writing() as session:
            ask_for_rules(session)
            jobs = session.exec(select(Job.id).where(Job.kind == "rules.evaluate")).all()
        for job in jobs:
            assert run_job(job) == "done"
        return standing()

    return once


def standing() -> list[Alert]:
    with reading() as session:
        return list(session.exec(select(Alert).where(Alert.state != "resolved")))


def said(text: str) -> str:
    return json.dumps([{"role": "user", "content": text}])


def only() -> Alert:
    with reading() as session:
        return session.exec(select(Alert)).one()


def test_errors_above_the_line_fire_once_and_end_with_a_certificate(rule: Any, counts: Any, look: Any) -> None:
    rule("error_rate", condition={"threshold": 0.05})
    look()
    for _ in range(30):
        counts(50, errors=1)
        assert look() == []
    for _ in range(30):
        counts(50, errors=25)
        look()
    (alert,) = standing()
    assert alert.title == "Error rate of route chat: rule on error_rate"
    assert alert.labels == {"on": "error_rate", "route": "chat"}
    rounds = 0
    while standing() and rounds < 200:
        counts(50, errors=1)
        look()
        rounds += 1
    ended = only()
    assert (ended.state, ended.resolved_by) == ("resolved", "driftline")
    assert ended.certificate is not None
    assert "Back below 5.0%" in ended.certificate["says"]
    assert rounds >= 3


def test_silence_does_not_end_an_alert(rule: Any, counts: Any, look: Any) -> None:
    rule("error_rate")
    look()
    for _ in range(30):
        counts(50, errors=25)
        look()
    for _ in range(100):
        look()
    assert only().state == "firing"


def test_a_rule_waits_as_long_as_it_was_told(rule: Any, counts: Any, look: Any, time: Any) -> None:
    rule("cost", condition={"threshold": 10.0, "window_s": 3600.0}, for_s=600.0)
    counts(1, cost=12.0)
    assert look() == []
    time.advance(590)
    assert look() == []
    time.advance(10)
    (alert,) = look()
    assert alert.body["summary"] == "The calls of the last 1 hours cost $12.00; the budget is $10.00."
    time.advance(3600)
    assert look() == []
    assert only().state == "resolved"


def test_a_budget_may_be_of_tokens_and_of_one_route(rule: Any, counts: Any, look: Any) -> None:
    rule("tokens", condition={"threshold": 1000.0}, group_by=["route"])
    counts(1, tokens=900, route="chat")
    counts(1, tokens=1100, route="search")
    assert [alert.labels["route"] for alert in look()] == ["search"]


def test_a_route_that_falls_silent_is_named_and_one_that_never_spoke_is_not(
    world: Any, rule: Any, counts: Any, look: Any, time: Any
) -> None:
    rule("no_data", condition={"window_s": 300.0})
    variant = world.declare("talker", {"runner": "recorded", "runner_config": {"answers": {}}, "chain": []})
    counts(1, route="quiet")
    counts(1, route="chat")
    world.traffic(variant, [time.now], route="chat")
    assert look() == []
    time.advance(300)
    (alert,) = look()
    assert alert.labels["route"] == "chat"
    world.traffic(variant, [time.now], route="chat", id="again")
    assert look() == []


def test_lost_calls_fire_and_sampled_ones_do_not(world: Any, rule: Any, counts: Any, look: Any, time: Any) -> None:
    from driftline.store.tables import ClientCount

    def client(reason: str, n: int) -> None:
        with writing() as session:
            session.connection().execute(delete(ClientCount).where(ClientCount.reason == reason))  # type: ignore[arg-type]
            session.add(
                ClientCount(
                    project_id=world.project_id, client="c", variant="v", reason=reason, n=n, updated_at=time.now
                )
            )

    rule("captured_share", condition={"threshold": 0.9})
    look()
    for place in range(1, 40):
        counts(50)
        client("sampled_out", 500 * place)
        assert look() == []
    for place in range(1, 40):
        counts(50)
        client("queue_full", 50 * place)
        look()
    assert [alert.labels["on"] for alert in standing()] == ["captured_share"]


def test_prompts_that_no_golden_item_resembles_fire(world: Any, rule: Any, look: Any, time: Any, counts: Any) -> None:
    topics = ("capital of France", "capital of Spain", "river in Egypt", "mountain in Nepal")
    world.golden([(f"What is the {topic}, number {n}?", "x") for n in range(15) for topic in topics])
    rule("coverage_gap", condition={"threshold": 0.2})
    variant = world.recorded("base")
    counts(1)
    look()
    asked = [
        json.dumps([{"role": "user", "content": f"What is the {t}, number {n}?"}]) for n in range(10) for t in topics
    ]
    code = [json.dumps([{"role": "user", "content": f"def f{n}(x): return [y ** 2 for y in x]"}]) for n in range(40)]
    for texts, wanted in ((asked, 0), (code, 1)):
        for block in range(25):
            now = time.now
            world.traffic(variant, [now] * len(texts), input=texts, route="chat",
                          id=[f"{wanted}-{block}-{n}" for n in range(len(texts))])  # fmt: skip
            time.advance(60)
            look()
        assert len(standing()) == wanted


def test_a_variant_that_lost_its_advantage_is_named(world: Any, rule: Any, look: Any, time: Any) -> None:
    version = world.golden()
    base, int8 = world.recorded("base"), world.recorded("int8")
    rule("benefit_erosion", condition={"benefit": 0.2})
    look()

    def compared(speed: float) -> None:
        from driftline.store.tables import GoldenItem

        with writing() as session:
            items = session.exec(select(GoldenItem.id).where(GoldenItem.version_id == version.id)).all()
            replays = []
            for variant, ms in ((int8, 400.0 * speed), (base, 400.0)):
                replay = Replay(project_id=world.project_id, variant_id=variant.id, golden_version_id=version.id,
                                state="done", n_items=len(items), requested_by="t", created_at=time.now)  # fmt: skip
                session.add(replay)
                session.flush()
                replays.append(replay.id)
                session.add_all(
                    Answer(replay_id=replay.id, item_id=item, latency_ms=ms + place, created_at=time.now)
                    for place, item in enumerate(items)
                )
            session.add(
                Comparison(
                    project_id=world.project_id, candidate_replay_id=replays[0], baseline_replay_id=replays[1],
                    evaluator="exact", evaluator_version="1", margin=0.02, level=0.95, n=60, unscored=0,
                    candidate_mean=1, baseline_mean=1, estimate=0, low=0, high=0, better=0, worse=0, ties=60,
                    verdict="equivalent", method="m", created_at=time.now,
                )
            )  # fmt: skip

    for _ in range(20):
        compared(0.5)
        assert look() == []
    for _ in range(60):
        compared(0.97)
        look()
    (alert,) = standing()
    assert alert.labels == {"on": "benefit_erosion", "variant": "int8", "baseline": "base"}


def test_a_rule_that_names_a_variant_that_is_gone_says_so_and_harms_nothing(
    world: Any, rule: Any, counts: Any, look: Any
) -> None:
    with pytest.raises(NotFound, match="no variant ghost"):
        rule("drift", matchers={"variant": "ghost"})
    gone = world.declare("gone", {"runner": "recorded", "runner_config": {"answers": {}}, "chain": []})
    broken = rule("error_rate", matchers={"variant": "gone"})
    rule("cost", condition={"threshold": 1.0})
    with writing() as session:
        session.connection().execute(delete(Variant).where(Variant.id == gone.id))  # type: ignore[arg-type]
    counts(1, cost=2.0)
    assert [alert.labels["on"] for alert in look()] == ["cost"]
    with reading() as session:
        assert session.get_one(AlertRule, broken.id).problem == (
            "There is no variant gone (any more), so this rule can raise nothing."
        )
    world.declare("gone", {"runner": "recorded", "runner_config": {"answers": {}}, "chain": []})
    look()
    with reading() as session:
        assert session.get_one(AlertRule, broken.id).problem is None


@pytest.mark.parametrize(
    ("on", "columns", "match"),
    [
        ("weather", {}, "one of drift"), ("cost", {}, "needs a threshold"),
        ("error_rate", {"condition": {"threshold": 2.0}}, "between 0 and 1"),
        ("error_rate", {"condition": {"window_s": 60.0}}, "has no window_s"),
        ("no_data", {"condition": {"window_s": float("nan")}}, "number above 0"),
        ("drift", {"severity": "loud"}, "severity"), ("drift", {"for_s": -1.0}, "waits between"),
        ("drift", {"group_by": ["colour"]}, "groups by"), ("drift", {"renotify_s": 1.0}, "reminds"),
        ("drift", {"matchers": {"route": "~["}}, "cannot be read"),
        ("drift", {"escalation": [{"after_s": 5}, {"after_s": 1}]}, "rising order"),
    ],
)  # fmt: skip
def test_a_rule_that_cannot_work_is_refused(rule: Any, on: str, columns: Any, match: str) -> None:
    with pytest.raises(BadInput, match=match):
        rule(on, **columns)


def preview(world: Any, on: str, days: float = 30.0, **wish: Any) -> dict[str, Any]:
    with writing() as session:
        job = request_preview(session, world.project_id, {"on": on, **wish}, days)
    assert run_job(job.id) == "done"
    with reading() as session:
        result = session.get_one(Job, job.id).result
        assert session.exec(select(AlertRule)).all() == [], "nothing is saved"
    assert result is not None
    return result


def test_a_preview_says_how_often_and_how_sure(world: Any, counts: Any, time: Any) -> None:
    for day, share in enumerate((0.01, 0.5, 0.01, 0.6, 0.01, 0.4, 0.01)):
        for minute in range(120):
            counts(50, errors=int(50 * share), at=time.now - (7 - day) * DAY + minute * MINUTE)
    found = preview(world, "error_rate", condition={"threshold": 0.05})
    assert found["times"] == 3
    assert "3 times in 30 days" in found["says"]
    assert "false-alarm bound 1.00% a year" in found["says"]
    assert preview(world, "error_rate", condition={"threshold": 0.7})["times"] == 0
    assert preview(world, "error_rate", days=1.5, condition={"threshold": 0.05})["times"] == 0


def test_a_preview_of_facts_knows_silences_and_budgets(world: Any, counts: Any, time: Any) -> None:
    start = time.now - 2 * DAY
    for minute in (*range(60), *range(600, 660), *range(1200, 1260)):
        counts(1, cost=0.1, at=start + minute * MINUTE)
    assert preview(world, "no_data", condition={"window_s": 3600.0})["times"] == 3  # two gaps, and since the end
    assert preview(world, "cost", condition={"threshold": 5.0, "window_s": 3600.0})["times"] == 3
    assert preview(world, "cost", condition={"threshold": 15.0, "window_s": 86_400.0})["times"] == 1
    assert preview(world, "cost", condition={"threshold": 5.0, "window_s": 3600.0}, for_s=7200.0)["times"] == 0


def test_a_preview_finds_no_silence_between_counts_that_were_folded(world: Any, counts: Any, time: Any) -> None:
    for ago in (4 * DAY, 30 * HOUR):
        for minute in range(0, 240, 5):
            counts(1, at=time.now - ago + minute * MINUTE)
    fold_rollups(world.project_id, time.now - HOURS_AFTER, HOUR)
    fold_rollups(world.project_id, time.now - QUARTERS_AFTER, QUARTER)
    assert preview(world, "no_data", condition={"window_s": 600.0})["times"] == 2  # after the first, and since the last


def test_a_preview_of_drifts_counts_events_and_groups_them(world: Any, time: Any, drifted: Any) -> None:
    time.advance(60)
    assert preview(world, "drift")["says"].startswith("It would have fired once in 30 days")
    assert preview(world, "drift", matchers={"signal": "latency"})["times"] == 0
    assert preview(world, "drift", for_s=float(HOUR // SECOND))["times"] == 0


def test_reminders_and_escalations_come_until_somebody_acknowledges(
    world: Any, receiver: Any, look: Any, time: Any, work_off: Any
) -> None:
    from scheduler.incidents import raise_alerts

    with writing() as session:
        for name in ("team", "boss"):
            alerts.add_channel(session, world.project_id, name, "webhook", {"url": f"{receiver.url}/{name}"}, "ann")
        alerts.add_rule(
            session, world.project_id, "drift", "drift", "ann", channels=["team"], renotify_s=600.0,
            escalation=[{"after_s": 900.0, "channels": ["boss"]}],
        )  # fmt: skip
        (alert,) = raise_alerts(session, world.project_id, "drift", "k", "Drift", {"route": "chat"}, {"summary": "s"})
    seen: list[tuple[str, str]] = []
    for _ in range(7):
        look()
        work_off()
        time.advance(298)
        seen = [(body["type"].rsplit(".", 1)[1], request.path.rsplit("/", 1)[1])
                for body, request in zip(receiver.bodies, receiver.requests, strict=True)]  # fmt: skip
    assert seen == [("fired", "team"), ("reminder", "team"), ("escalated", "boss"), ("reminder", "team"),
                    ("reminder", "team")][: len(seen)]  # fmt: skip
    assert len(seen) >= 4
    with writing() as session:
        alerts.acknowledge(session, session.get_one(Alert, alert.id), "ann")
    time.advance(3600)
    look()
    work_off()
    assert len(receiver.requests) == len(seen)
    with writing() as session:
        alerts.resolve(session, session.get_one(Alert, alert.id), "ann")
    work_off()
    told = {request.path.rsplit("/", 1)[1] for request in receiver.requests[len(seen) :]}
    assert told == {"team", "boss"}, "whoever was told of it is told of its end"


def test_what_a_silence_muted_and_still_fires_is_told_when_it_ends(
    world: Any, receiver: Any, look: Any, time: Any, work_off: Any
) -> None:
    from scheduler.incidents import raise_alerts

    with writing() as session:
        alerts.add_channel(session, world.project_id, "team", "webhook", {"url": receiver.url}, "ann")
        alerts.add_rule(session, world.project_id, "drift", "drift", "ann", channels=["team"])
        alerts.silence(session, world.project_id, {"route": "chat"}, time.now + HOUR, "ann")
        raise_alerts(session, world.project_id, "drift", "k", "Drift", {"route": "chat"}, {"summary": "s"})
    work_off()
    look()
    work_off()
    assert receiver.requests == []
    time.advance(3600)
    look()
    work_off()
    assert len(receiver.requests) == 1
