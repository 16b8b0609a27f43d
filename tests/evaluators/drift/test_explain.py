"""What comes after an alarm: when it began, how bad it is, who moved."""

import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from driftline.errors import BadInput
from evaluators.drift.cause import Evidence, who_moved
from evaluators.drift.changepoint import locate
from evaluators.drift.effect import confidence_sequence, effect, slowdown
from evaluators.drift.prompts import coverage_gap, prompts_moved
from evaluators.drift.reference import freeze, freeze_quantiles
from evaluators.drift.twosample import numbers_moved, shares_moved


def test_the_interval_of_a_change_point_covers_it_and_is_short() -> None:
    rng, runs, covered, widths = np.random.default_rng(31), 100, 0, []
    for _ in range(runs):
        n = int(rng.integers(60, 300))
        at = int(rng.integers(15, n - 15))
        series = np.where(np.arange(n) < at, 0.9, 0.8) + rng.normal(0, 0.06, n)
        found = locate(series.tolist(), range(n), permutations=19)
        covered += found.low <= at <= found.high
        widths.append(found.high - found.low)
    assert covered >= 88
    assert np.median(widths) <= 12


def test_changes_are_confirmed_and_noise_is_not() -> None:
    rng, real, noise = np.random.default_rng(32), 0, 0
    for _ in range(40):
        calm = rng.normal(0.9, 0.06, 100)
        moved = np.concatenate([rng.normal(0.9, 0.06, 60), rng.normal(0.8, 0.06, 40)])
        noise += locate(calm.tolist(), range(100)).confirmed
        real += locate(moved.tolist(), range(100)).confirmed
    assert real >= 38
    assert noise <= 3


def test_the_largest_of_several_changes_is_dated() -> None:
    rng = np.random.default_rng(33)
    series = np.concatenate([rng.normal(m, 0.02, 50) for m in (0.90, 0.88, 0.60, 0.62)])
    assert abs(locate(series.tolist(), range(0, 2000, 10)).began_at - 1000) <= 10


@pytest.mark.parametrize("n", [1000, 5000])
def test_a_long_series_is_dated_within_two_seconds(n: int) -> None:
    rng = np.random.default_rng(34)
    series = (rng.random(n) < np.where(np.arange(n) < 0.7 * n, 0.9, 0.7)).astype(float)
    began = time.perf_counter()
    found = locate(series.tolist(), range(n))
    assert time.perf_counter() - began < 2
    assert found.confirmed
    assert found.low <= 0.7 * n <= found.high


@settings(max_examples=40, deadline=None)
@given(st.lists(st.floats(-1e6, 1e6), min_size=8, max_size=40))
def test_any_series_has_a_date_inside_its_interval(series: list[float]) -> None:
    found = locate(series, range(len(series)), permutations=19)
    assert 0 < found.index < len(series)
    assert found.low <= found.began_at <= found.high


def test_a_constant_series_is_not_confirmed() -> None:
    assert not locate([0.9] * 100, range(100)).confirmed


@pytest.mark.parametrize(
    ("values", "times", "says"),
    [
        ([0.5] * 7, range(7), "7 values"),
        ([0.5] * 5001, range(5001), "at most 5000"),
        ([0.5] * 10, range(9), "9 times"),
        ([0.5] * 10, [0, 1, 2, 9, 4, 5, 6, 7, 8, 9], "index 4"),
        ([0.5] * 9 + [float("nan")], range(10), "index 9"),
    ],
)
def test_a_series_that_cannot_be_dated_says_why(values, times, says: str) -> None:
    with pytest.raises(BadInput, match=says):
        locate(values, times)


@pytest.mark.parametrize("kind", ["bernoulli", "graded"])
def test_a_confidence_sequence_covers_at_every_look(kind: str) -> None:
    rng, runs, missed = np.random.default_rng(35), 150, 0
    for _ in range(runs):
        x = (rng.random(400) < 0.3).astype(float) if kind == "bernoulli" else rng.beta(3, 7, 400)
        intervals = (confidence_sequence(x[:n], 0.1) for n in (5, 10, 20, 40, 80, 120, 160, 240, 320, 400))
        missed += any(not low <= 0.3 <= high for low, high in intervals)
    assert missed <= 0.1 * runs + 3 * np.sqrt(0.1 * runs)


def test_an_effect_names_the_present_mean_and_its_change_with_intervals() -> None:
    rng = np.random.default_rng(36)
    good = freeze((rng.random(400) < 0.8).astype(float).tolist(), direction="fall", margin=0.01, confidence=0.995)
    now = effect(good, (rng.random(400) < 0.5).astype(float).tolist())
    assert now.low < 0.5 < now.high
    assert now.high - now.low < 0.25
    assert now.change_low < -0.3 < now.change_high < 0
    assert now.low <= now.mean <= now.high
    with pytest.raises(BadInput, match="no current value"):
        effect(good, [])


def test_a_slowdown_is_estimated_after_lengths_are_accounted_for() -> None:
    rng = np.random.default_rng(37)

    def rows(n: int, slower: float, longest: int):
        written = rng.integers(5, longest, n)
        return slower * 10 * (1 + written) ** 0.9 * rng.lognormal(0, 0.2, n), written

    took, written = rows(500, 1.0, 100)
    lines = freeze_quantiles(took, output_tokens=written, confidence=0.95)
    later, longer = rows(400, 1.6, 200)
    now = slowdown(lines, later, None, longer)
    assert now.low < 1.6 < now.high
    assert now.high / now.low < 1.3
    with pytest.raises(BadInput, match=r"0\.25 was not frozen"):
        slowdown(lines, later, None, longer, quantile=0.25)
    with pytest.raises(BadInput, match="cannot bound"):
        slowdown(lines, later[:20], None, longer[:20], quantile=0.99)


BEFORE_AFTER = {"variant_share_before": 0.0, "variant_share_after": 1.0}
STEADY = {"variant_share_before": 1.0, "variant_share_after": 1.0}


@pytest.mark.parametrize(
    ("evidence", "cause"),
    [
        (Evidence("quality", **BEFORE_AFTER, golden="worse", prompts_moved=False), "variant"),
        (Evidence("quality", **BEFORE_AFTER), "variant"),
        (Evidence("quality", **BEFORE_AFTER, golden="worse", prompts_moved=True), "variant"),
        (Evidence("quality", **BEFORE_AFTER, golden="equivalent", prompts_moved=True), "input"),
        (Evidence("quality", **STEADY, probes_moved=True, prompts_moved=False), "variant"),
        (Evidence("quality", **STEADY, golden="not_worse", prompts_moved=True), "input"),
        (Evidence("quality", **STEADY, anchors_moved=True, golden="equivalent"), "judge"),
        (Evidence("quality", **STEADY, baseline_moved=True, golden="worse"), "platform"),
        (Evidence("latency", **BEFORE_AFTER, latency_moved_beyond_lengths=True), "variant"),
        (
            Evidence("latency", **BEFORE_AFTER, latency_moved_beyond_lengths=False, output_tokens_moved=True),
            "verbosity",
        ),
        (Evidence("latency", **STEADY, latency_moved_beyond_lengths=True, prompts_moved=True), "infrastructure"),
        (Evidence("latency", **STEADY, output_tokens_moved=True, prompts_moved=True), "input"),
        (Evidence("latency", **STEADY, latency_moved_beyond_lengths=True, baseline_moved=True), "platform"),
        (Evidence("errors", **STEADY, prompts_moved=False), "infrastructure"),
        (Evidence("errors", **BEFORE_AFTER, golden="worse"), "variant"),
        (Evidence("prompts", **STEADY, prompts_moved=True), "input"),
        (Evidence("quality", **STEADY, prompts_moved=False, anchors_moved=False), "unknown"),
        (Evidence("quality"), "unknown"),
    ],
)
def test_the_cause_is_read_from_what_else_moved(evidence: Evidence, cause: str) -> None:
    found = who_moved(evidence)
    assert found.name == cause
    assert found.reasons


def test_a_cause_says_what_was_not_looked_at() -> None:
    assert "anchors_moved" in who_moved(Evidence("quality", **BEFORE_AFTER)).not_looked_at


def test_two_sample_checks_keep_their_error_rate_and_find_real_moves() -> None:
    rng, false, found = np.random.default_rng(38), 0, 0
    for _ in range(200):
        old, same = rng.poisson(20, 150), rng.poisson(20, 100)
        false += numbers_moved(old, same, alpha=0.05).moved
        found += numbers_moved(old, rng.poisson(27, 100), alpha=0.05).moved
    assert false <= 20
    assert found >= 190
    false = sum(
        shares_moved(rng.choice(9, 120).tolist(), rng.choice(9, 80).tolist(), alpha=0.05, permutations=199).moved
        for _ in range(200)
    )
    assert false <= 20


def test_a_shift_inside_the_margin_is_not_called_a_move_however_large_the_samples() -> None:
    before, after = [0.0] * 50_000 + [1.0] * 50_000, [0.0] * 49_000 + [1.0] * 51_000
    assert not numbers_moved(before, after, margin=0.02).moved
    assert not shares_moved(before, after, margin=0.02).moved
    assert numbers_moved(before, after, margin=0.0).moved


def test_prompts_that_grow_are_seen_and_their_long_share_told() -> None:
    rng = np.random.default_rng(39)
    found = prompts_moved(rng.poisson(30, 300).tolist(), rng.poisson(60, 200).tolist())
    assert found.moved
    assert found.long > 0.9
    assert found.long_before <= 0.1
    with pytest.raises(BadInput, match="0 values before"):
        prompts_moved([], [1])


def test_prompts_unlike_every_golden_item_are_outside_its_coverage() -> None:
    rng = np.random.default_rng(40)
    golden = rng.normal(size=(300, 32)) + 3
    radius, inside = coverage_gap(golden, rng.normal(size=(500, 32)) + 3)
    assert 0 < radius < 1
    assert np.mean(inside) < 0.12
    assert np.mean(coverage_gap(golden, rng.normal(size=(100, 32)) - 3)[1]) == 1.0
    with pytest.raises(BadInput, match="at least 20"):
        coverage_gap(golden[:5], golden)
    with pytest.raises(BadInput, match="index 1"):
        coverage_gap(golden, np.array([golden[0], golden[0] * 0]))
    with pytest.raises(BadInput, match="dimensions"):
        coverage_gap(golden, np.ones((2, 3)))
