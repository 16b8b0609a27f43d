"""What every route is watched for without being asked: one budget over all of it, kept however many freeze."""

import math
import random
from typing import Any

import pytest
from sqlmodel import col, select

from driftline.acts import monitors
from driftline.acts.default_monitors import BESIDE, DEFAULTS, ensure_defaults
from driftline.moment import SECOND
from driftline.store.engine import reading, writing
from driftline.store.tables import DriftEvent, Monitor, Project, Reading, Reference
from scheduler import scoring
from scheduler.references import blocks_per_year
from scheduler.work import run_job

BLOCK_S, PER_BLOCK = 60.0, 20
SHORT = {"block_s": BLOCK_S, "reference_items": 400, "reference_s": 0.0}
QUESTIONS = ("What is the time and where is the station?", "Tell me about the history of this town, please.")


def block(world: Any, time: Any, rng: random.Random, variant: Any, routes: tuple[str, ...]) -> None:
    """One minute of healthy, streamed, priced traffic on each route."""
    start, n = time.now, PER_BLOCK
    for route in routes:
        answers = ["Yes." if rng.random() < 0.3 else "It is past noon, and the station is near." for _ in range(n)]
        world.traffic(
            variant, [start + int(place * BLOCK_S / n * SECOND) for place in range(n)], route=route,
            status=["error" if rng.random() < 0.02 else "ok" for _ in range(n)],
            latency_ms=[400 * rng.lognormvariate(0, 0.3) for _ in range(n)],
            ttft_ms=[40 * rng.lognormvariate(0, 0.3) for _ in range(n)],
            cost_nano=[int(1000 * rng.lognormvariate(0, 0.3)) for _ in range(n)],
            input=[rng.choice(QUESTIONS) for _ in range(n)], output=answers, output_chars=[len(a) for a in answers],
            input_tokens=[rng.randint(8, 60) for _ in range(n)], output_tokens=[len(a) // 4 for a in answers],
        )  # fmt: skip
    time.now = start + int(BLOCK_S * SECOND)


def look(world: Any, time: Any, ask: Any, routes: tuple[str, ...]) -> None:
    """Every scorer reads what came, every monitor judges."""
    time.advance(3)
    with reading() as session:
        rows = session.exec(select(Monitor).order_by(col(Monitor.id))).all()
    for row in rows:
        if row.source == "refusal":
            with writing() as session:
                scoring.ensure_bookmark(session, row)
            job = ask("traffic.score", {"route": row.route, "evaluator": "refusal"}, project_id=world.project_id)
            while run_job(job) == "queued":
                pass
        job = ask("monitor.check", {"monitor_id": row.id}, project_id=world.project_id)
        while run_job(job) == "queued":
            pass
    time.advance(-3)


def test_quality_and_latency_keep_the_third_they_had_when_only_errors_stood_beside_them() -> None:
    total = math.fsum(one.weight for one in DEFAULTS)
    share = {one.signal: one.weight / total for one in DEFAULTS}
    assert share["quality"] == share["latency"] == pytest.approx(1 / 3)
    assert share["errors"] == pytest.approx(1 / 6)
    assert {one.weight for one in DEFAULTS if not one.is_main} == {BESIDE}


def test_the_default_monitors_of_two_routes_spend_one_budget_and_stay_quiet_on_calm_traffic(
    world: Any, time: Any, ask: Any
) -> None:
    routes, rng, variant = ("chat", "mail"), random.Random(5), world.recorded("base")
    with writing() as session:
        for route in routes:
            ensure_defaults(session, world.project_id, route, SHORT)
    for _ in range(30):
        block(world, time, rng, variant, routes)
    look(world, time, ask, routes)
    for _ in range(40):
        block(world, time, rng, variant, routes)
    look(world, time, ask, routes)
    with reading() as session:
        rows = {row.id: row for row in session.exec(select(Monitor))}
        readings = session.exec(select(Reading)).all()
        references = session.exec(select(Reference)).all()
        alpha = session.exec(select(Project.false_alarms_per_year)).one()
        assert session.exec(select(DriftEvent)).all() == []
    judged = {rows[one.monitor_id].signal for one in readings}
    assert judged == {one.signal for one in DEFAULTS} - {"quality", "captured"}, "no baseline weighs, no day has passed"
    lines = {one.monitor_id: one.threshold for one in readings}
    spent = math.fsum(one.frozen["spent"] for one in references)
    detectors = math.fsum(blocks_per_year(rows[key]) * math.exp(-line) for key, line in lines.items())
    assert 0 < spent <= alpha / 2
    assert 0 < detectors <= alpha / 2
    # Both halves are for those as well that still wait for values.
    waiting = math.fsum(row.weight for row in rows.values() if row.id not in lines)
    whole = math.fsum(row.weight for row in rows.values())
    assert detectors == pytest.approx(alpha / 2 * (1 - waiting / whole))


def test_a_stream_that_never_gets_a_value_waits_and_says_nothing(world: Any, time: Any, ask: Any) -> None:
    variant = world.recorded("base")
    with writing() as session:
        ensure_defaults(session, world.project_id, "chat", SHORT)
    world.traffic(variant, [time.now + n for n in range(60)], route="chat", cost_nano=None, ttft_ms=None)
    time.advance(60)
    look(world, time, ask, ("chat",))
    with reading() as session:
        rows = {row.signal: row for row in session.exec(select(Monitor))}
    assert rows["cost"].status == rows["ttft"].status == "collecting"


def test_defaults_leave_a_monitor_of_their_name_alone(world: Any) -> None:
    with writing() as session:
        mine = monitors.add(session, world.project_id, "chat/latency", "latency", "ann", route="chat", weight=3.0)
        found = ensure_defaults(session, world.project_id, "chat")
        again = ensure_defaults(session, world.project_id, "chat")
    assert mine.id in {row.id for row in found}
    assert [row.id for row in found] == [row.id for row in again]
    assert next(row for row in found if row.signal == "latency").weight == 3.0
