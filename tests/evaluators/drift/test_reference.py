"""References: their bounds hold, they refuse what cannot carry one, and they survive storage."""

import json
import math
import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from driftline.errors import BadInput
from evaluators.drift.bounds import lower_mean, lower_of_blocks, upper_mean
from evaluators.drift.reference import FrozenQuantiles, FrozenReference, freeze, freeze_quantiles

unit = st.floats(0, 1)


@settings(max_examples=60, deadline=None)
@given(st.lists(unit, min_size=2, max_size=60), st.floats(0.001, 0.2))
def test_bounds_lie_on_their_side_of_the_mean_and_widen_with_confidence(xs: list[float], alpha: float) -> None:
    x = np.array(xs)
    low, high = lower_mean(x, alpha), upper_mean(x, alpha)
    assert 0 <= low <= x.mean() + 1e-9
    assert x.mean() - 1e-9 <= high <= 1
    assert lower_mean(x, alpha / 4) <= low + 1e-9


@pytest.mark.parametrize(
    ("name", "draw", "mean"),
    [
        ("bernoulli", lambda rng, n: (rng.random(n) < 0.75).astype(float), 0.75),
        ("rare", lambda rng, n: (rng.random(n) < 0.03).astype(float), 0.03),
        ("graded", lambda rng, n: rng.beta(3, 1, n), 0.75),
        ("narrow", lambda rng, n: rng.beta(60, 20, n), 0.75),
        ("two-valued", lambda rng, n: rng.choice([0.1, 0.9], n, p=[0.1, 0.9]), 0.82),
    ],
)
def test_a_bound_misses_the_mean_no_more_often_than_promised(name: str, draw, mean: float) -> None:
    rng, alpha, runs = np.random.default_rng(11), 0.05, 300
    samples = [draw(rng, 60) for _ in range(runs)]
    above = sum(lower_mean(x, alpha) > mean for x in samples)
    below = sum(upper_mean(x, alpha) < mean for x in samples)
    most = alpha * runs + 3 * math.sqrt(alpha * runs)
    assert above <= most
    assert below <= most


def test_weights_bound_the_mean_before_sampling() -> None:
    rng, misses = np.random.default_rng(12), 0
    for _ in range(200):
        x = (rng.random(2000) < 0.8).astype(float)
        r = np.where(x == 0, 0.5, 0.05)  # bad records are kept ten times as often
        kept = rng.random(2000) < r
        misses += lower_mean(x[kept], 0.05, 0.05 / r[kept]) > 0.8
    assert misses <= 20


def test_a_small_reference_is_bounded_far_tighter_than_by_hoeffding() -> None:
    graded = np.random.default_rng(13).beta(6, 2, 100)
    hoeffding = math.sqrt(math.log(1 / 0.005) / 200)
    assert graded.mean() - lower_mean(graded, 0.005) < 0.45 * hoeffding
    binary = np.array([1.0] * 75 + [0.0] * 25)
    assert binary.mean() - lower_mean(binary, 0.005) < 0.8 * hoeffding


def test_shared_shocks_widen_the_bound_where_blocks_are_given() -> None:
    rng = np.random.default_rng(14)
    shares = rng.beta(0.9 * 19, 0.1 * 19, 100)  # correlation 0.05 inside a block
    values = [float(rng.random() < p) for p in shares for _ in range(50)]
    blocks = [b for b in range(100) for _ in range(50)]
    items = freeze(values, direction="fall", margin=0.01, confidence=0.995)
    clustered = freeze(values, direction="fall", margin=0.01, confidence=0.995, blocks=blocks)
    assert clustered.mean - clustered.low > 1.4 * (items.mean - items.low)
    assert (clustered.clusters, items.clusters) == (100, None)


@pytest.mark.slow
@pytest.mark.parametrize(("p", "rho", "n"), [(0.9, 0.02, 50), (0.9, 0.05, 20), (0.97, 0.02, 20), (0.5, 0.1, 10)])
def test_the_bound_of_blocks_covers_beta_binomial_blocks(p: float, rho: float, n: int) -> None:
    rng, alpha, runs = np.random.default_rng(15), 0.005, 10_000
    shares = rng.beta(p * (1 / rho - 1), (1 - p) * (1 / rho - 1), (runs, 96))
    means = rng.binomial(n, shares) / n
    misses = sum(lower_of_blocks(row, alpha) > p for row in means)
    assert misses / runs <= 1.2 * alpha + 3 * math.sqrt(alpha / runs)


@pytest.mark.parametrize(
    ("values", "direction", "says"),
    [
        ([1.0] * 3, "fall", "3 values; at least 20"),
        ([0.0] * 50, "fall", "A fall cannot be told"),
        ([1.0] * 50, "rise", "A rise cannot be told"),
        ([0.5] * 30 + [math.nan], "fall", "index 30"),
        ([0.5] * 30 + [1.5], "fall", "index 30"),
        ([0.9] * 50, "sideways", "'fall' or 'rise'"),
    ],
)
def test_a_reference_that_can_carry_nothing_says_what_it_needs(values: list[float], direction: str, says: str) -> None:
    with pytest.raises(BadInput, match=says):
        freeze(values, direction=direction, margin=0.01, confidence=0.995)  # type: ignore[arg-type]


def test_a_spotless_stretch_still_bounds_its_rate() -> None:
    no_errors = freeze([0.0] * 300, direction="rise", margin=0.01, confidence=0.995)
    assert no_errors.mean == 0
    assert 0.02 < no_errors.m0 < 0.04


def test_a_reference_survives_storage_and_is_named_by_its_content() -> None:
    values = [1.0, 0.0, 1.0, 1.0] * 20
    frozen = freeze(values, direction="fall", margin=0.01, confidence=0.995)
    assert FrozenReference.from_json(json.loads(json.dumps(frozen.to_json()))) == frozen
    assert freeze(values, direction="fall", margin=0.01, confidence=0.995).content_hash == frozen.content_hash
    assert freeze(values[1:], direction="fall", margin=0.01, confidence=0.995).content_hash != frozen.content_hash
    lines = freeze_quantiles([100.0 + i for i in range(80)], confidence=0.995)
    assert FrozenQuantiles.from_json(json.loads(json.dumps(lines.to_json()))) == lines


def test_lines_follow_the_lengths_of_prompts_and_answers() -> None:
    rng = random.Random(16)
    written = [rng.randint(1, 300) for _ in range(600)]
    read = [rng.randint(10, 1000) for _ in written]
    took = [5 * w**0.8 * r**0.2 * rng.lognormvariate(0, 0.2) for w, r in zip(written, read, strict=True)]
    lines = freeze_quantiles(took, input_tokens=read, output_tokens=written, confidence=0.995)
    assert lines.per_output_token == pytest.approx(0.8, abs=0.08)
    assert lines.per_input_token == pytest.approx(0.2, abs=0.08)
    longer = [5 * 300**0.8 * r**0.2 * rng.lognormvariate(0, 0.2) for r in read]
    shares = [sum(row) / len(row) for row in lines.exceedances(longer, read, [300] * len(read))]
    assert shares[0] < 0.5  # ten times as long, and none slower than lengths explain
    slower = lines.exceedances([1.6 * t for t in took], read, written)
    assert sum(slower[0]) > 0.9 * len(took)


def test_counts_that_never_vary_or_say_the_same_are_left_out_of_the_fit() -> None:
    took = [100.0 + i % 37 for i in range(200)]
    same = freeze_quantiles(took, input_tokens=[5] * 200, output_tokens=[i % 7 for i in range(200)], confidence=0.995)
    assert same.per_input_token is None
    assert same.per_output_token is not None
    twice = freeze_quantiles(took, input_tokens=range(200), output_tokens=range(200), confidence=0.995)
    assert (twice.per_input_token is None) != (twice.per_output_token is None)


@pytest.mark.parametrize("n", [60, 400])
def test_the_bounds_of_the_lines_hold_together(n: int) -> None:
    rng, runs, misses = np.random.default_rng(17), 200, 0
    for _ in range(runs):
        written = rng.integers(1, 200, n + 4000)
        took = np.exp(0.7 * np.log1p(written) + rng.gumbel(0, 0.4, n + 4000))
        lines = freeze_quantiles(took[:n], output_tokens=written[:n], margin=0.0, confidence=0.9)
        shares = [sum(row) / len(row) for row in lines.exceedances(took[n:], None, written[n:])]
        misses += any(share > bound + 0.01 for share, bound in zip(shares, lines.bounds, strict=True))
    assert misses <= 0.1 * runs + 3 * math.sqrt(0.1 * runs)


@pytest.mark.parametrize(
    ("latencies", "options", "says"),
    [
        ([100.0] * 10, {}, "10 latencies; at least 40"),
        ([100.0] * 50 + [math.inf], {}, "latency at index 50"),
        ([100.0] * 50, {"quantiles": ()}, "quantiles"),
        ([100.0] * 50, {"quantiles": (1.0,)}, "quantiles"),
        ([100.0] * 50, {"input_tokens": [1, 2]}, "2 input token counts"),
        ([100.0] * 50, {"margin": -0.1}, "margin"),
        ([100.0] * 50, {"confidence": 1.0}, "confidence"),
    ],
)
def test_lines_that_cannot_be_fitted_say_why(latencies: list[float], options: dict, says: str) -> None:
    with pytest.raises(BadInput, match=says):
        freeze_quantiles(latencies, **{"confidence": 0.995, **options})


def test_constant_latencies_are_borne_and_a_slowdown_beyond_the_margin_is_seen() -> None:
    lines = freeze_quantiles([100.0] * 100, confidence=0.995)
    assert lines.exceedances([100.0, 109.0, 0.0]) == [[0.0] * 3] * 3
    assert lines.exceedances([111.0]) == [[1.0]] * 3
