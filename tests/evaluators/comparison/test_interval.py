"""Agreement of the intervals with exact references; their coverage is in test_coverage.py."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import brentq
from scipy.special import bdtr
from scipy.stats import ttest_1samp

from evaluators.comparison.clustered import clustered_confidence
from evaluators.comparison.interval import mean_confidence, root, tail


def mid_p(losses, items, level=0.95):
    """Clopper and Pearson's interval for a share, each end with half of the observed count's probability."""
    miss = (1 - level) / 2

    def lower_tail(share):
        return bdtr(losses, items, share) - 0.5 * (bdtr(losses, items, share) - bdtr(losses - 1, items, share))

    def upper_tail(share):
        return 1 - lower_tail(share)

    return brentq(lambda p: upper_tail(p) - miss, 1e-9, 1 - 1e-9), brentq(
        lambda p: lower_tail(p) - miss, 1e-9, 1 - 1e-9
    )


@pytest.mark.parametrize(("losses", "items"), [(1, 10), (3, 30), (8, 30), (5, 100), (40, 200), (90, 100), (100, 1000)])
def test_where_no_item_ties_it_is_the_mid_p_interval_of_clopper_and_pearson(losses, items):
    differences = np.array([-1.0] * losses + [1.0] * (items - losses))
    low, high = mean_confidence(differences, None, binary=True).bounds(0.95)
    share_low, share_high = mid_p(losses, items)
    width = share_high - share_low
    assert (1 - high) / 2 == pytest.approx(share_low, abs=0.025 * width)
    assert (1 - low) / 2 == pytest.approx(share_high, abs=0.025 * width)


def test_the_saddlepoint_agrees_with_drawn_weights():
    random = np.random.default_rng(5)
    terms = random.normal(-0.1, 1.0, 30)
    counts = random.integers(1, 4, 30).astype(float)
    drawn = (random.gamma(counts, size=(200_000, 30)) @ terms <= 0).mean()
    assert tail(terms, counts) == pytest.approx(drawn, abs=0.005)


def test_the_saddlepoint_is_smooth_where_its_terms_cancel():
    differences = np.random.default_rng(1).normal(0.0, 0.2, 500)
    near = [tail(differences - differences.mean() - shift, np.ones(500)) for shift in np.linspace(-5e-4, 5e-4, 101)]
    steps = np.diff(near)
    assert (steps > 0).all()
    assert steps.max() < 1.1 * steps.min()


def test_terms_of_one_sign_leave_no_doubt():
    assert tail(np.array([-1.0, 0.0]), np.ones(2)) == 1.0
    assert tail(np.array([1.0, 0.5]), np.ones(2)) == 0.0


@given(st.lists(st.floats(-1, 1), min_size=1, max_size=30), st.floats(0.5, 0.99), st.floats(0.001, 0.4))
def test_more_confidence_needs_a_wider_interval_and_both_hold_the_mean(differences, level, more):
    confidence = mean_confidence(np.array(differences), None, binary=False)
    low, high = confidence.bounds(level)
    wider_low, wider_high = confidence.bounds(min(level + more, 0.999))
    assert -1.0 <= wider_low <= low + 1e-9
    assert high - 1e-9 <= wider_high <= 1.0
    assert low - 1e-9 <= confidence.mean <= high + 1e-9


@given(st.lists(st.floats(-1, 1), min_size=1, max_size=30), st.floats(-1, 1), st.floats(-1, 1))
def test_confidence_grows_with_the_value(differences, one, other):
    confidence = mean_confidence(np.array(differences), None, binary=False)
    assert confidence.at(min(one, other)) <= confidence.at(max(one, other)) + 1e-6


def test_repeating_an_item_is_the_same_as_counting_it():
    differences = np.array([-0.5, 0.25, 0.25, 0.0, 1.0])
    one_by_one = mean_confidence(differences, np.array([1.0, 1.0, 1.0, 1.0, 1.0 + 1e-12]), binary=False)
    assert one_by_one.bounds(0.95) == pytest.approx(
        mean_confidence(differences, None, binary=False).bounds(0.95), abs=1e-7
    )


def test_clusters_of_one_item_give_students_t():
    differences = np.random.default_rng(2).normal(0.05, 0.2, 60)
    confidence = clustered_confidence(differences, np.ones(60), np.arange(60))
    expected = ttest_1samp(differences, 0.0).confidence_interval(0.95)
    assert confidence.bounds(0.95) == pytest.approx((expected.low, expected.high))
    assert 2 * confidence.at(0.0) == pytest.approx(ttest_1samp(differences, 0.0).pvalue)


def test_degrees_of_freedom_follow_from_the_covariance_of_the_adjusted_residuals():
    random = np.random.default_rng(3)
    sizes = random.geometric(0.2, 12)
    cluster = np.repeat(np.arange(12), sizes)
    confidence = clustered_confidence(random.normal(0, 0.2, len(cluster)), np.ones(len(cluster)), cluster)
    independent = sizes.astype(float)  # the draws share nothing, and analysis of variance finds so here
    share = sizes / sizes.sum()
    residual = np.eye(12) - np.outer(share, np.ones(12))
    covariance = residual @ np.diag(independent) @ residual.T / np.sqrt(np.outer(1 - share, 1 - share))
    assert confidence.degrees == pytest.approx(np.trace(covariance) ** 2 / (covariance**2).sum(), rel=1e-6)


def test_a_cluster_that_holds_most_items_costs_degrees_of_freedom():
    even = np.repeat(np.arange(20), 10)
    uneven = np.concatenate([np.zeros(105, dtype=int), np.repeat(np.arange(1, 20), 5)])
    random = np.random.default_rng(4)
    effects = random.normal(0, 0.1, 20)
    degrees = [
        clustered_confidence(effects[cluster] + random.normal(0, 0.1, 200), np.ones(200), cluster).degrees
        for cluster in (even, uneven)
    ]
    assert degrees[0] == pytest.approx(19)
    assert degrees[1] < 5


def test_clusters_that_all_agree_leave_no_doubt():
    confidence = clustered_confidence(np.zeros(20), np.ones(20), np.repeat(np.arange(10), 2))
    assert (confidence.at(-0.1), confidence.at(0.0), confidence.at(0.1)) == (0.0, 0.5, 1.0)


@given(st.floats(-1, 1), st.floats(0.1, 5))
def test_a_root_is_found_between_the_ends(place, slope):
    assert root(lambda x: slope * (x - place) ** 3, -1.0, 1.0) == pytest.approx(place, abs=3e-3)
    assert root(lambda x: slope * (x - place), -1.0, 1.0) == pytest.approx(place, abs=1e-8)
