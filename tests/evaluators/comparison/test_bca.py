"""BCa is scipy's, for items and for clusters; it is reported with a warning where it is too narrow."""

import numpy as np
import pytest
from scipy.stats import bootstrap

from evaluators.comparison import bca, compare
from evaluators.comparison.bca import acceleration, bca_of, ends
from evaluators.comparison.sample import Sample

RANDOM = np.random.default_rng(7)
SAMPLES = {
    "yes/no": RANDOM.choice([-1.0, 0.0, 1.0], p=[0.1, 0.85, 0.05], size=300),
    "graded": np.clip(RANDOM.normal(-0.02, 0.15, 250), -1.0, 1.0),
    "skewed": np.where(RANDOM.random(220) < 0.9, RANDOM.normal(0.0, 0.02, 220), -RANDOM.uniform(0.2, 1.0, 220)),
    "few": RANDOM.normal(0.0, 0.1, 12),
}


def ratio(sums, sizes, axis=-1):
    """The mean of resampled clusters."""
    return sums.sum(axis=axis) / sizes.sum(axis=axis)


@pytest.mark.parametrize("name", SAMPLES)
@pytest.mark.parametrize("level", [0.9, 0.95, 0.99])
def test_the_ends_are_those_of_scipy_for_the_same_resamples(name, level):
    seen = SAMPLES[name]
    theirs = bootstrap((seen,), np.mean, confidence_level=level, n_resamples=999, method="BCa", rng=3)
    ours = ends(theirs.bootstrap_distribution, seen, np.ones(len(seen)), level)
    assert ours == pytest.approx(tuple(theirs.confidence_interval), abs=1e-12)


def test_clusters_are_drawn_as_wholes_as_scipy_draws_pairs():
    sizes = RANDOM.integers(1, 20, 60).astype(float)
    sums = sizes * RANDOM.normal(-0.03, 0.1, 60)
    theirs = bootstrap((sums, sizes), ratio, paired=True, vectorized=True, n_resamples=999, method="BCa", rng=3)
    ours = ends(theirs.bootstrap_distribution, sums, sizes, 0.95)
    assert ours == pytest.approx(tuple(theirs.confidence_interval), abs=1e-12)


@pytest.mark.parametrize("name", SAMPLES)
def test_our_resamples_give_what_scipys_give_within_their_noise(name):
    seen = SAMPLES[name]
    theirs = bootstrap((seen,), np.mean, n_resamples=20_000, method="BCa", rng=5, batch=1000).confidence_interval
    ours = bca_of(Sample(seen, None, None, False), 0.95)
    width = theirs.high - theirs.low
    assert (ours.low, ours.high) == pytest.approx(tuple(theirs), abs=0.06 * width)


def test_weights_count_like_sizes():
    seen, weights = SAMPLES["graded"], RANDOM.uniform(0.5, 3.0, 250)
    found = bca_of(Sample(seen, weights, None, False), 0.95, resamples=4000)
    theirs = bootstrap(
        (weights * seen, weights), ratio, paired=True, vectorized=True, n_resamples=20_000, method="BCa", rng=1,
        batch=1000,
    ).confidence_interval  # fmt: skip
    assert (found.low, found.high) == pytest.approx(tuple(theirs), abs=0.06 * (theirs.high - theirs.low))


def test_the_same_items_in_another_order_give_the_same_interval():
    candidate = {f"i{n}": float(value) for n, value in enumerate(RANDOM.random(90))}
    baseline = {f"i{n}": float(value) for n, value in enumerate(RANDOM.random(90))}
    clusters = {f"i{n}": f"c{n // 3}" for n in range(90)}
    found = bca(candidate, baseline, clusters=clusters)
    assert found is not None
    assert found == bca(dict(reversed(candidate.items())), baseline, clusters=clusters)
    assert (found.units, found.resamples) == (30, 2000)


def test_it_has_no_width_where_all_items_tie_and_the_verdict_does_not_rest_on_it():
    scores = {f"i{n}": 1.0 for n in range(50)}
    found, decided = bca(scores, scores), compare(scores, scores, margin=0.02)
    assert found is not None
    assert (found.low, found.high) == (0.0, 0.0)
    assert found.warning == "on 50 units BCa is too narrow, because it knows only the differences that were drawn"
    assert decided.low < -0.02
    assert decided.verdict == "undecided"


def test_from_200_units_on_there_is_no_warning():
    found = bca({f"i{n}": float(n % 7 > 0) for n in range(200)}, {f"i{n}": float(n % 5 > 0) for n in range(200)})
    assert found is not None
    assert found.warning is None


def test_an_item_alone_has_no_width_and_nothing_scored_has_no_interval():
    found = bca({"a": 0.4}, {"a": 0.1})
    assert found is not None
    assert (found.low, found.high) == pytest.approx((0.3, 0.3))
    assert acceleration(np.array([0.3]), np.array([1.0])) == 0.0
    assert bca({"a": None}, {"a": 1.0}) is None
