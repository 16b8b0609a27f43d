"""A certificate of being back: rare while nothing has become better, quick once it has, the same after a restart."""

import json
import math
import random

import pytest

from driftline.errors import BadInput
from evaluators.drift.release import Release

MONTH = 2880  # blocks of 15 minutes


def watch(edge: float = 0.05, error: float = 0.05) -> Release:
    return Release(edges=[edge], direction="rise", log_threshold=math.log(MONTH / error))


def block(rng: random.Random, share: float, n: int = 50) -> list[list[float]]:
    return [[float(rng.random() < share) for _ in range(n)]]


def certified(seed: int, share: float, blocks: int) -> int | None:
    rng, release = random.Random(seed), watch()
    return next((k for k in range(blocks) if release.update(block(rng, share)).alarmed), None)


def test_what_stays_at_its_edge_is_hardly_ever_certified() -> None:
    wrong = sum(certified(seed, 0.05, 300) is not None for seed in range(40))
    assert wrong <= 2, "at most 5 % in a whole month, and this is a tenth of one"


@pytest.mark.slow
def test_a_month_at_the_edge_is_certified_in_at_most_five_of_a_hundred() -> None:
    wrong = sum(certified(seed, 0.05, MONTH) is not None for seed in range(200))
    assert wrong <= 16  # 10 expected at most; P(more than 16 | 5 %) = 2 %


def test_what_is_good_again_is_certified_within_a_day() -> None:
    found = [certified(seed, 0.02, 96) for seed in range(20)]
    assert sum(k is not None for k in found) >= 18
    assert sorted(k if k is not None else 96 for k in found)[10] < 60


def test_silence_certifies_nothing() -> None:
    release = watch()
    assert not any(release.update([[]]).alarmed for _ in range(1000))


def test_one_lucky_block_certifies_nothing() -> None:
    release = watch()
    assert not release.update([[0.0] * 5000]).alarmed
    assert not release.update([[0.0] * 5000]).alarmed
    assert release.update([[0.0] * 5000]).alarmed


def test_all_edges_must_be_certified() -> None:
    release = Release(edges=[0.5, 0.05], direction="rise", log_threshold=math.log(MONTH / 0.05))
    assert not any(release.update([[0.0] * 50, [0.0] * 40 + [1.0] * 10]).alarmed for _ in range(100))
    assert any(release.update([[0.0] * 50, [0.0] * 50]).alarmed for _ in range(100))


def test_it_goes_on_after_a_restart_bit_for_bit() -> None:
    rng, one = random.Random(7), watch()
    for _ in range(5):
        one.update(block(rng, 0.03))
    other = Release.from_state(json.loads(json.dumps(one.state())))
    following = block(rng, 0.03)
    assert other.update(following) == one.update(following)


@pytest.mark.parametrize("wrong", [{"direction": "up"}, {"edges": []}, {"edges": [1.0]}])
def test_what_cannot_be_tested_is_refused(wrong: dict[str, object]) -> None:
    given = {"edges": [0.1], "direction": "rise", "log_threshold": 10.0} | wrong
    with pytest.raises(BadInput):
        Release(**given)  # type: ignore[arg-type]
