"""The interval of a replay that stopped early holds the truth although the stop depended on what was seen."""

import doctest

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from driftline.errors import BadInput
from evaluators.comparison import EarlyStop, anytime, anytime_interval, compare, judged
from evaluators.comparison.verdicts import Verdict


def test_examples_run() -> None:
    assert doctest.testmod(anytime).failed == doctest.testmod(judged).failed == 0


@pytest.mark.slow
@pytest.mark.parametrize(("worse", "better"), [(0.05, 0.05), (0.10, 0.02), (0.30, 0.02)])
def test_it_holds_the_truth_at_the_moment_of_stopping(worse: float, better: float) -> None:
    random, missed, runs = np.random.default_rng(0), 0, 400
    for _ in range(runs):
        drawn = random.choice([-1.0, 0.0, 1.0], p=[worse, 1 - worse - better, better], size=1500)
        stop = EarlyStop(margin=0.02, alpha=0.001)
        stop.update(drawn)
        low, high = anytime_interval(drawn[: stop.decided_at or 1500], 0.95)
        missed += not low <= better - worse <= high
    assert missed / runs <= 0.05


@given(
    st.lists(st.sampled_from([-1.0, -0.5, 0.0, 0.25, 1.0]), min_size=1, max_size=60),
    st.floats(0.5, 0.99),
)
@settings(deadline=None, max_examples=50)
def test_it_holds_the_mean_seen_and_widens_with_confidence(differences: list[float], level: float) -> None:
    seen = np.array(differences)
    low, high = anytime_interval(seen, level)
    wider_low, wider_high = anytime_interval(seen, 0.995)
    assert -1.0 <= wider_low <= low + 1e-9 <= seen.mean() + 2e-9
    assert seen.mean() - 2e-9 <= high - 1e-9 <= wider_high <= 1.0


def test_swapping_the_sides_mirrors_it() -> None:
    seen = np.random.default_rng(1).choice([-1.0, 0.0, 1.0], p=[0.3, 0.6, 0.1], size=200)
    low, high = anytime_interval(seen, 0.95)
    assert np.allclose(anytime_interval(-seen, 0.95), (-high, -low), atol=1e-6)


def test_a_comparison_that_ended_early_uses_it_and_has_the_verdict_that_ended_it() -> None:
    random = np.random.default_rng(2)
    drawn = random.choice([-1.0, 0.0, 1.0], p=[0.3, 0.68, 0.02], size=400)
    stop = EarlyStop(margin=0.02)
    assert stop.update(drawn) is Verdict.WORSE
    used = drawn[: stop.decided_at]
    ours = {str(k): float(difference >= 0) for k, difference in enumerate(used)}
    theirs = {str(k): float(difference <= 0) for k, difference in enumerate(used)}
    early = compare(ours, theirs, margin=0.02, stopped_early=True)
    whole = compare(ours, theirs, margin=0.02)
    assert early.verdict is Verdict.WORSE
    assert early.high - early.low > whole.high - whole.low
    assert early.estimate == whole.estimate
    with pytest.raises(BadInput, match="weigh differently"):
        compare(ours, theirs, margin=0.02, stopped_early=True, weights={"0": 2.0})
