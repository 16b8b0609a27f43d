"""Strata, each judged by its own edge: a change of mix is none, and one slice that breaks is found and named."""

import random

import pytest

from driftline.errors import BadInput
from evaluators.drift.strata import MOST, OTHER, FrozenStrata, Strata, freeze_strata

LINE = 16.0
QUALITY = {"easy": 0.95, "hard": 0.5}


def draw(rng: random.Random, hard: float, worse: float = 0.0) -> tuple[str, float]:
    kind = "hard" if rng.random() < hard else "easy"
    return kind, float(rng.random() < QUALITY[kind] - worse)


@pytest.fixture
def frozen() -> FrozenStrata:
    rng = random.Random(1)
    return freeze_strata([draw(rng, 0.2) for _ in range(3000)], direction="fall", margin=0.01, confidence=0.995)


def blocks_to_alarm(watch: Strata, hard: float, worse: float = 0.0, most: int = 300) -> int | None:
    rng = random.Random(2)
    for block in range(1, most + 1):
        if watch.update([draw(rng, hard, worse) for _ in range(40)]).alarmed:
            return block
    return None


@pytest.mark.parametrize("each", [True, False])
def test_more_hard_questions_are_no_alarm(frozen: FrozenStrata, each: bool) -> None:
    assert blocks_to_alarm(Strata(reference=frozen, log_threshold=LINE, each=each), 0.8) is None


def test_a_fall_within_all_strata_is_found(frozen: FrozenStrata) -> None:
    found = blocks_to_alarm(Strata(reference=frozen, log_threshold=LINE, each=False), 0.2, worse=0.15)
    assert found is not None
    assert found < 60


def test_one_slice_that_breaks_among_good_ones_is_found_and_named() -> None:
    rng = random.Random(3)
    kinds = [f"kind {k:02}" for k in range(20)]
    good = [(rng.choice(kinds), float(rng.random() < 0.9)) for _ in range(8000)]
    frozen = freeze_strata(good, direction="fall", margin=0.01, confidence=0.995)
    sharp, blunt = (Strata(reference=frozen, log_threshold=LINE, each=each) for each in (True, False))
    named, waited = None, 0
    while named is None and waited < 400:
        waited += 1
        kind = [rng.choice(kinds) for _ in range(100)]
        block = [(k, float(rng.random() < (0.4 if k == "kind 07" else 0.9))) for k in kind]
        reading = sharp.update(block)
        assert not blunt.update(block).alarmed
        named = reading.detail["worst"] if reading.alarmed else None
    assert named == "kind 07"
    assert waited < 40


def test_a_tag_with_100_000_values_is_bounded_and_told() -> None:
    rng = random.Random(4)
    values = [(f"user {i}", float(rng.random() < 0.9)) for i in range(100_000)]
    values += [(f"tenant {i % 50:02}", float(rng.random() < 0.9)) for i in range(50 * 80)]
    frozen = freeze_strata(values, direction="fall", margin=0.01, confidence=0.995)
    assert frozen.seen == 100_050
    assert len(frozen.labels) == MOST
    assert frozen.labels[-1] == OTHER
    watch = Strata(reference=frozen, log_threshold=LINE)
    reading = watch.update([(f"newcomer {i}", 1.0) for i in range(1000)])
    assert reading.n == 1000
    assert reading.detail["strata"] == {OTHER: 1.0}
    assert len(str(watch.state())) < 60_000


def test_strata_too_rare_to_be_known_are_left_out_and_counted() -> None:
    good = [("day", float(i % 10 > 0)) for i in range(300)] + [("noon", 1.0)] * 3
    frozen = freeze_strata(good, direction="fall", margin=0.01, confidence=0.995)
    assert frozen.labels == ("day",)
    reading = Strata(reference=frozen, log_threshold=LINE).update([("day", 1.0), ("noon", 0.0)])
    assert (reading.n, reading.detail["left_out"]) == (1, 1)


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ([("a", 1.0)] * 3, "has 3 values; at least 20"),
        ([("a", 0.5)] * 30 + [("a", float("inf"))], "index 30 is inf"),
        ([("a", 0.0)] * 100, "leaves nothing beyond"),
        ([(None, 0.5)] * 100, "index 0"),
    ],
)
def test_what_cannot_be_frozen_is_refused(values: list[tuple[str, float]], says: str) -> None:
    with pytest.raises(BadInput, match=says):
        freeze_strata(values, direction="fall", margin=0.01, confidence=0.995)
