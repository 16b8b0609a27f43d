"""A canary beside production: harmless ones stay, bad ones are found, whatever the share and the order."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evaluators.comparison import SideBySide

Stream = list[tuple[bool, float]]


def stream(n: int, share: float, canary: float, production: float, random: np.random.Generator) -> Stream:
    """Yes/no answers whose quality swings through the day, for both sides alike."""
    tide = 0.1 * np.sin(np.arange(n) / 50)
    sides = random.random(n) < share
    right = random.random(n) < np.where(sides, canary, production) + tide
    return [(bool(side), float(one)) for side, one in zip(sides, right, strict=True)]


@pytest.mark.parametrize("share", [0.05, 0.5])
def test_a_harmless_canary_is_rarely_called_worse(share: float) -> None:
    random = np.random.default_rng(1)
    alarms = 0
    for _ in range(150):
        process = SideBySide(alpha=0.05)
        alarms += process.update(stream(1000, share, 0.7, 0.7, random)).decided
    assert alarms <= 14  # of 150 at a rate of 5 in 100, more happens once in 100


def test_a_canary_that_fails_often_is_found_within_a_hundred_of_its_answers() -> None:
    random = np.random.default_rng(2)
    for _ in range(30):
        process, arrivals = SideBySide(margin=0.02, alpha=0.003), stream(3000, 0.1, 0.5, 0.89, random)
        for place in range(0, len(arrivals), 50):
            if process.update(arrivals[place : place + 50]).decided:
                break
        assert process.evidence.decided
        assert process.seen[True] <= 100


arrivals = st.lists(st.tuples(st.booleans(), st.floats(0, 1)), max_size=60)


@settings(max_examples=60, deadline=None)
@given(arrivals, st.integers(0, 60))
def test_stopping_and_going_on_changes_nothing(told: Stream, cut: int) -> None:
    at_once, halves = SideBySide(alpha=0.01), SideBySide(alpha=0.01)
    at_once.update(told)
    halves.update(told[:cut])
    halves = SideBySide.resume(halves.state())
    halves.update(told[cut:])
    assert halves.evidence.e_value == pytest.approx(at_once.evidence.e_value, rel=1e-9)
    assert halves.state()["seen"] == at_once.state()["seen"]


@settings(max_examples=60, deadline=None)
@given(arrivals)
def test_one_side_alone_is_no_evidence(told: Stream) -> None:
    process = SideBySide()
    process.update([(True, score) for _, score in told])
    assert process.evidence.e_value == 1.0
    assert process.mean(False) is None


def test_canary_answers_before_any_of_production_meet_its_first() -> None:
    process = SideBySide()
    process.update([(True, 0.0), (True, 1.0), (False, 1.0)])
    assert process.evidence.n == 1
