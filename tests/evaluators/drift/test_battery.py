"""What every detector must pass. A new detector adds a row to CASES."""

import json
import math
import random
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from driftline.errors import BadInput, NotFound
from evaluators.drift import DETECTORS, Detector, detector, restore
from evaluators.drift.conformal import freeze_scores
from evaluators.drift.reference import freeze_quantiles
from evaluators.drift.shares import freeze_shares
from evaluators.drift.strata import freeze_strata

Block = list[Any]
OLDER = Path(__file__).parent / "states"  # <detector>-<version>.json: a state, the next block and what was said of it


@dataclass(frozen=True)
class Case:
    """One detector with a stream it must bear and one it must find."""

    name: str
    params: dict[str, Any]
    calm: Callable[[random.Random], Any]  # one value of the stream while all is well
    moved: Callable[[random.Random], Any]
    constant: Any
    unusable: tuple[Any, ...]
    found_within: int  # blocks of 20 values
    calm_blocks: int = 2000

    def make(self) -> Detector:
        return detector(self.name, self.params)

    def block(self, rng: random.Random, n: int, *, moved: bool = False) -> Block:
        draw = self.moved if moved else self.calm
        return [draw(rng) for _ in range(n)]


def latency(rng: random.Random, slower: float = 1.0) -> tuple[float, float, float]:
    read, written = rng.randint(5, 500), rng.randint(1, 200)
    return slower * (20 + read) ** 0.3 * (5 + written) ** 0.7 * rng.lognormvariate(0, 0.3), float(read), float(written)


def lines() -> dict[str, Any]:
    rng = random.Random(5)
    latencies, read, written = zip(*(latency(rng) for _ in range(400)), strict=True)
    return freeze_quantiles(latencies, input_tokens=read, output_tokens=written, confidence=0.995).to_json()


def frozen_shares() -> dict[str, Any]:
    rng = random.Random(5)
    return freeze_shares(rng.choices(["en", "de", "code"], [0.96, 0.03, 0.01], k=400), confidence=0.995).to_json()


def frozen_distances() -> dict[str, Any]:
    rng = random.Random(5)
    return freeze_scores([rng.gammavariate(4, 0.1) for _ in range(400)], confidence=0.995).to_json()


def stratified(rng: random.Random, worse: float) -> tuple[str, float]:
    """Good by day, poor at night, and hours that are too rare to be known."""
    hour = rng.choices(["day", "night", "noon"], [0.7, 0.28, 0.02])[0]
    return hour, float(rng.random() < {"day": 0.95, "night": 0.6, "noon": 0.8}[hour] - worse)


def frozen_strata() -> dict[str, Any]:
    rng = random.Random(5)
    values = [stratified(rng, 0.0) for _ in range(2000)]
    return freeze_strata(values, direction="fall", margin=0.01, confidence=0.995).to_json()


def answers(rng: random.Random, opening: str) -> tuple[str, str]:
    """An answer with another number each time, and one that opens this way to the same prompt."""
    number = rng.randint(1, 99)
    return f"The result is {number + rng.randint(0, 2)}.", f"{opening} {number + rng.randint(0, 2)}."


NEVER = (math.nan, math.inf, -math.inf)
LINE = math.log(35_040 / 0.005)

CASES = [
    Case(
        name="esr",
        params={"m0": 0.85, "direction": "fall", "log_threshold": LINE},
        calm=lambda rng: float(rng.random() < 0.9),
        moved=lambda rng: float(rng.random() < 0.6),
        constant=0.9,
        unusable=(*NEVER, -0.1, 1.1),
        found_within=60,
    ),
    Case(
        name="esr",
        params={"m0": 0.05, "direction": "rise", "log_threshold": LINE, "form": "item"},
        calm=lambda rng: float(rng.random() < 0.03),
        moved=lambda rng: float(rng.random() < 0.25),
        constant=0.0,
        unusable=(*NEVER, -0.1, 1.1),
        found_within=60,
    ),
    Case(
        name="esr",
        params={"m0": 0.85, "direction": "fall", "log_threshold": LINE, "bet": "grid"},
        calm=lambda rng: rng.betavariate(9, 1),
        moved=lambda rng: rng.betavariate(6, 4),
        constant=0.9,
        unusable=NEVER,
        found_within=60,
    ),
    Case(
        name="exceedance",
        params={"reference": lines(), "log_threshold": LINE},
        calm=latency,
        moved=lambda rng: latency(rng, slower=1.6),
        constant=(60.0, 100.0, 50.0),
        unusable=(*((bad, 10.0, 10.0) for bad in (*NEVER, -1.0)), (60.0, math.nan, 10.0), (60.0, 10.0)),
        found_within=60,
    ),
    Case(
        name="shares",
        params={"reference": frozen_shares(), "log_threshold": LINE},
        calm=lambda rng: rng.choices(["en", "de", "code"], [0.96, 0.03, 0.01])[0],
        moved=lambda rng: rng.choices(["en", "de", "code"], [0.6, 0.1, 0.3])[0],
        constant="en",
        unusable=(None, 1.0, (), ("en", 2)),
        found_within=60,
    ),
    Case(
        name="conformal",
        params={"reference": frozen_distances(), "log_threshold": LINE},
        calm=lambda rng: rng.gammavariate(4, 0.1),
        moved=lambda rng: rng.gammavariate(4, 0.15),
        constant=0.3,
        unusable=NEVER,
        found_within=60,
    ),
    Case(
        name="strata",
        params={"reference": frozen_strata(), "log_threshold": LINE},
        calm=lambda rng: stratified(rng, 0.0),
        moved=lambda rng: stratified(rng, 0.3),
        constant=("day", 0.95),
        unusable=(*(("day", bad) for bad in (*NEVER, -0.1, 1.1)), ("day",), (1, 0.5), None, ("day", "good")),
        found_within=60,
    ),
    Case(
        name="paired-texts",
        params={"log_threshold": LINE},
        calm=lambda rng: answers(rng, "The result is"),
        moved=lambda rng: answers(rng, "**Answer:**"),
        constant=("Yes.", "Yes."),
        unusable=(None, 1.0, ("one",), ("one", 2), "ab"),
        found_within=60,
        calm_blocks=200,
    ),
]

each = pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.name}-{case.params.get('form', '')}".rstrip("-"))


def test_every_detector_of_the_table_is_in_the_battery() -> None:
    assert {case.name for case in CASES} == set(DETECTORS)


@each
def test_a_calm_stream_does_not_alarm(case: Case) -> None:
    watch, rng = case.make(), random.Random(1)
    assert not any(watch.update(case.block(rng, 20)).alarmed for _ in range(case.calm_blocks))


@each
def test_a_moved_stream_alarms_soon_and_dates_the_change(case: Case) -> None:
    watch, rng = case.make(), random.Random(2)
    for _ in range(300):
        watch.update(case.block(rng, 20))
    after, alarmed = 0, False
    while not alarmed and after < case.found_within:
        after += 1
        reading = watch.update(case.block(rng, 20, moved=True))
        alarmed = reading.alarmed
    assert alarmed
    assert abs(reading.since_blocks - after) <= 10


@each
def test_a_constant_stream_is_borne_without_error_or_alarm(case: Case) -> None:
    watch = case.make()
    readings = [watch.update([case.constant] * 20) for _ in range(500)]
    assert not any(r.alarmed for r in readings)
    assert all(not math.isnan(r.statistic) for r in readings)


@each
def test_an_empty_block_changes_nothing_and_says_so(case: Case) -> None:
    watch, rng = case.make(), random.Random(3)
    first = watch.update([])
    assert (first.n, first.value, first.statistic, first.alarmed) == (0, None, -math.inf, False)
    watch.update(case.block(rng, 20))
    before = watch.state()
    watch.update([])
    assert watch.state() == before


@each
def test_an_unusable_value_is_refused_with_its_place_and_leaves_the_state_alone(case: Case) -> None:
    watch, rng = case.make(), random.Random(4)
    watch.update(case.block(rng, 20))
    before = watch.state()
    for bad in case.unusable:
        with pytest.raises(BadInput, match="index 2"):
            watch.update([*case.block(rng, 2), bad, *case.block(rng, 2)])
    for weights in ([1.0], [1.0, 0.0], [1.0, 1.5], [1.0, math.nan]):
        with pytest.raises(BadInput, match="weight"):
            watch.update(case.block(rng, 2), weights)
    assert watch.state() == before


@each
@settings(max_examples=25, deadline=None)
@given(
    sizes=st.lists(st.integers(0, 12), min_size=1, max_size=12),
    pauses=st.sets(st.integers(0, 11)),
    seed=st.integers(0, 999),
)
def test_pausing_and_resuming_equals_one_clean_run(case: Case, sizes: list[int], pauses: set[int], seed: int) -> None:
    rng = random.Random(seed)
    blocks = [case.block(rng, n, moved=seed % 2 == 0) for n in sizes]
    clean, paused = case.make(), case.make()
    for i, block in enumerate(blocks):
        if i in pauses:
            paused = restore(case.name, json.loads(json.dumps(paused.state(), allow_nan=False)))
        assert paused.update(block) == clean.update(block)
    assert paused.state() == clean.state()


@each
def test_the_order_inside_a_block_does_not_matter(case: Case) -> None:
    one, other, rng = case.make(), case.make(), random.Random(6)
    for _ in range(20):
        block = case.block(rng, 15)
        one.update(block)
        other.update(rng.sample(block, len(block)))
    assert one.state() == other.state()


@each
def test_the_state_does_not_grow_with_the_stream(case: Case) -> None:
    watch, rng = case.make(), random.Random(7)
    watch.update(case.block(rng, 20))
    early = len(json.dumps(watch.state()))
    for _ in range(case.calm_blocks // 4):
        watch.update(case.block(rng, 20))
    assert len(json.dumps(watch.state())) < early * 1.5 + 500


@each
def test_a_state_of_a_newer_version_or_another_detector_is_refused(case: Case) -> None:
    state = case.make().state()
    with pytest.raises(BadInput, match="Upgrade this process"):
        restore(case.name, {**state, "version": state["version"] + 1})
    with pytest.raises(BadInput, match="written by"):
        restore(case.name, {**state, "detector": "somebody-else"})
    with pytest.raises(BadInput, match="no version"):
        restore(case.name, {k: v for k, v in state.items() if k != "version"})
    with pytest.raises(BadInput, match="damaged"):
        restore(case.name, {"detector": case.name, "version": state["version"]})


@pytest.mark.parametrize("recorded", sorted(OLDER.glob("*.json")), ids=lambda path: path.stem)
def test_a_state_that_an_older_version_wrote_goes_on_as_it_would_have(recorded: Path) -> None:
    then = json.loads(recorded.read_text())
    watch = restore(then["state"]["detector"], then["state"])
    reading = watch.update(then["next_block"])
    assert reading.statistic == pytest.approx(then["statistic"], rel=1e-12)
    assert reading.since_blocks == then["since_blocks"]
    assert watch.state()["version"] > then["state"]["version"]


def test_every_past_version_of_a_state_is_on_record() -> None:
    past = {f"{c.name}-{v}" for c in CASES for v in range(1, c.make().state()["version"])}
    assert past == {path.stem for path in OLDER.glob("*.json")}


@each
def test_a_new_threshold_keeps_the_distance_to_the_line(case: Case) -> None:
    watch, rng = case.make(), random.Random(8)
    for _ in range(30):
        before = watch.update(case.block(rng, 20))
    watch.rethreshold(LINE + 2.0)
    after = watch.update([])
    assert after.threshold == LINE + 2.0
    assert after.statistic - after.threshold == pytest.approx(before.statistic - before.threshold)


def test_an_unknown_detector_lists_the_known_ones() -> None:
    with pytest.raises(NotFound, match="esr"):
        detector("crystal-ball", {})


def test_an_unknown_parameter_is_named() -> None:
    with pytest.raises(BadInput, match="colour"):
        detector("esr", {"m0": 0.5, "direction": "fall", "log_threshold": 15.0, "colour": "red"})
