"""Every signal finds its own kind of change in production and stays quiet on traffic like its reference."""

import random
from collections.abc import Callable
from typing import Any

import pytest
from sqlmodel import select
from streams import PER_BLOCK, Columns

from driftline.acts.signals import SIGNALS
from driftline.moment import MINUTE, SECOND
from driftline.store.engine import reading, writing
from driftline.store.tables import ClientCount, Reference, Rollup

GERMAN = '[{"role": "user", "content": "Wie spät ist es und wo ist der Bahnhof, bitte?"}]'
ENGLISH = '[{"role": "user", "content": "What is the time and where is the station, please?"}]'


def timing(rng: random.Random, slower: float = 1.0, ttft: float = 100.0) -> dict[str, Any]:
    written = rng.randint(20, 200)
    return {"latency_ms": ttft + slower * written * 10 * rng.lognormvariate(0, 0.2), "ttft_ms": ttft,
            "output_tokens": written, "input_tokens": 10}  # fmt: skip


SPLICES: dict[str, tuple[Columns, Columns]] = {
    "token_time": (timing, lambda rng: timing(rng, 1.6)),
    "cost": (
        lambda rng: {"cost_nano": int(1e6 * rng.lognormvariate(0, 0.4))},
        lambda rng: {"cost_nano": int(1.5e6 * rng.lognormvariate(0, 0.4))},
    ),
    "prompt_length": (
        lambda rng: {"input_tokens": rng.randint(10, 100)}, lambda rng: {"input_tokens": rng.randint(60, 300)},
    ),
    "answer_length": (
        lambda rng: {"output_tokens": None, "output_chars": rng.randint(10, 100)},
        lambda rng: {"output_tokens": None, "output_chars": rng.randint(1, 30)},
    ),
    "prompt_language": (
        lambda rng: {"input": GERMAN if rng.random() < 0.05 else ENGLISH},
        lambda rng: {"input": GERMAN if rng.random() < 0.6 else ENGLISH},
    ),
    "empty": (
        lambda rng: {"output_chars": int(rng.random() > 0.02)}, lambda rng: {"output_chars": int(rng.random() > 0.4)},
    ),
}  # fmt: skip


@pytest.mark.parametrize("signal", SPLICES)
def test_a_signal_finds_its_own_change_and_no_other(stream: Callable[..., Any], signal: str) -> None:
    watching = stream(signal)
    calm, moved = SPLICES[signal]
    event = watching.run(calm, moved)
    assert event is not None, signal
    alarm = next(row for row in watching.readings if row.alarmed)
    quiet = [row for row in watching.readings if row.id < alarm.id]
    assert len(quiet) >= 10
    assert alarm.evidence["signal"] == SIGNALS[signal].about
    assert watching.readings[0].evidence["captured"]["rejected"] == 0


@pytest.mark.parametrize(
    ("signal", "good", "bad"),
    [
        ("invalid_json", '{"a": 1}', "Here you are: a=1"),
        ("refusals", "Seven.", "I'm sorry, but I cannot help with that."),
    ],
)
def test_validators_read_the_answers(stream: Callable[..., Any], signal: str, good: str, bad: str) -> None:
    watching = stream(signal, params={"reference_items": 200})
    for number in range(40):
        worse = 0.6 if number >= 20 else 0.05
        watching.block(lambda rng, worse=worse: {"output": bad if rng.random() < worse else good})
        watching.score(SIGNALS[signal].source)
    watching.check()
    assert watching.monitor.status == "alarmed"
    with reading() as session:
        reference = session.exec(select(Reference)).one()
    assert reference.frozen["mean"] == pytest.approx(0.05, abs=0.04)


def test_only_records_with_the_tags_are_read(stream: Callable[..., Any]) -> None:
    watching = stream("errors", params={"tags": {"kind": "prime"}})

    def mixed(rng: random.Random) -> dict[str, Any]:
        kind = rng.choice(["prime", "composite"])
        return {"tags": {"kind": kind}, "status": "error" if kind == "composite" else "ok"}

    for _ in range(60):
        watching.block(mixed)
    watching.check()
    assert watching.monitor.status == "watching"
    assert {row.value for row in watching.readings} == {0.0}
    assert 5 < sum(row.n for row in watching.readings) / len(watching.readings) < 15


@pytest.mark.parametrize(("season", "ends"), [("hour", "watching"), ("none", "alarmed")])
def test_a_night_that_always_fails_more_is_a_drift_only_without_its_season(
    stream: Callable[..., Any], season: str, ends: str
) -> None:
    days = 2 * 86_400.0 if season == "hour" else 0.0
    watching = stream("errors", params={"block_s": 1200.0, "reference_s": days, "season": season})
    for _ in range(3 * 72):
        night = watching.time.now // (12 * 3600 * SECOND) % 2 == 0
        arrivals = [watching.time.now + place * 60 * SECOND for place in range(PER_BLOCK)]
        status = ["error" if watching.rng.random() < (0.3 if night else 0.02) else "ok" for _ in arrivals]
        watching.world.traffic(watching.variant, arrivals, status=status)
        watching.time.advance(1200)
    watching.check()
    assert len(watching.readings) > 50
    assert watching.monitor.status == ends


def test_a_slow_hour_of_every_day_is_no_drift_for_a_seasonal_latency(stream: Callable[..., Any]) -> None:
    watching = stream("latency", params={"block_s": 3600.0, "reference_s": 3 * 86_400.0, "season": "hour"})
    for hour in range(6 * 24):
        slow = 3.0 if hour % 24 == 20 else 1.0
        arrivals = [watching.time.now + place * 100 * SECOND for place in range(30)]
        took = [slow * 500 * watching.rng.lognormvariate(0, 0.2) for _ in arrivals]
        watching.world.traffic(watching.variant, arrivals, latency_ms=took)
        watching.time.advance(3600)
    watching.check()
    assert watching.monitor.status == "watching"
    with reading() as session:
        offsets = session.exec(select(Reference)).one().frozen["made"]["offsets"]
    assert max(offsets, key=offsets.__getitem__) == "08:00"  # noon and twenty hours
    assert offsets["08:00"] == pytest.approx(1.1, abs=0.2)


def test_one_value_of_a_tag_that_breaks_is_found_and_named(stream: Callable[..., Any]) -> None:
    watching = stream("errors", params={"split_by": "tenant", "reference_items": 2000})

    def of_tenant(worse: str) -> Columns:
        def columns(rng: random.Random) -> dict[str, Any]:
            tenant = f"t{rng.randint(0, 9)}"
            return {"tags": {"tenant": tenant}, "status": "error" if rng.random() < (0.5 if tenant == worse else 0.02)
                    else "ok"}  # fmt: skip

        return columns

    for _ in range(20):
        watching.block(of_tenant(""), 120)
    for _ in range(40):
        watching.block(of_tenant("t3"), 120)
    watching.check()
    alarm = next(row for row in watching.readings if row.alarmed)
    assert alarm.evidence["detail"]["worst"] == "t3"
    assert alarm.evidence["detail"]["alone"]


def minute_of(world: Any, variant: Any, minute: int, stored: int, dropped: int) -> None:
    with writing() as session:
        session.add(
            Rollup(project_id=world.project_id, variant_id=variant.id, minute=minute, n=stored, weight_sum=stored)
        )
        of_client = select(ClientCount).where(ClientCount.client == "app")
        row = session.exec(of_client).first() or ClientCount(
            project_id=world.project_id, client="app", variant="base", reason="queue_full", updated_at=minute
        )
        row.n += dropped
        session.add(row)


def test_a_captured_share_that_falls_is_told(stream: Callable[..., Any]) -> None:
    watching = stream("captured", params={"reference_items": 60})
    for number in range(130):
        minute_of(watching.world, watching.variant, watching.time.now // MINUTE * MINUTE, 90, 60 if number > 80 else 1)
        watching.time.advance(60)
        if watching.monitor.status != "alarmed":
            watching.check()
    event_readings = watching.readings
    assert watching.monitor.status == "alarmed"
    assert next(row for row in event_readings if row.alarmed).block_start > event_readings[15].block_start
    assert event_readings[0].value == pytest.approx(1 / 91, abs=0.002)
