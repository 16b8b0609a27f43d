import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binom, binomtest

from evaluators.comparison import kt_e_value, mcnemar
from evaluators.comparison.evidence import betting_e_value, favourable, unfavourable

counts = st.integers(0, 60)


@given(counts, counts)
def test_mcnemar_is_the_exact_binomial_test_of_the_disagreements(worse, better):
    expected = binomtest(worse, worse + better).pvalue if worse + better else 1.0
    assert mcnemar(worse, better) == pytest.approx(expected)


@pytest.mark.parametrize("loses", [0.5, 0.4, 0.1])
@pytest.mark.parametrize("items", [1, 2, 5, 20])
def test_the_mean_of_the_e_value_is_at_most_one_where_the_candidate_is_not_worse(items, loses):
    worse = np.arange(items + 1)

    mean = sum(binom.pmf(w, items, loses) * kt_e_value(int(w), items - int(w)) for w in worse)
    assert mean <= 1.0 + 1e-9


@given(counts, counts)
def test_on_yes_no_scores_betting_is_the_krichevsky_trofimov_mixture(worse, better):
    differences = np.array([-1.0] * worse + [1.0] * better + [0.0])
    e_value = betting_e_value(unfavourable(differences, 0.0))
    assert e_value == pytest.approx(kt_e_value(worse, better), rel=1e-3, abs=0.01)


def test_improvements_give_no_evidence_of_loss():
    assert kt_e_value(worse=0, better=50) < 0.02
    assert kt_e_value(worse=5, better=4000) < 0.01


def test_an_e_value_too_large_for_a_float_is_the_largest_float():
    assert kt_e_value(worse=5000, better=0) == sys.float_info.max
    assert betting_e_value(np.full(5000, 1.0)) == sys.float_info.max


@given(st.lists(st.floats(-1, 1), min_size=1, max_size=50), st.floats(0, 0.9))
def test_no_bet_can_lose_more_than_it_staked(differences, margin):
    for evidence in (unfavourable(np.array(differences), margin), favourable(np.array(differences), margin)):
        assert (evidence >= -1.0 - 1e-12).all()
        assert betting_e_value(evidence) >= 0.0


@given(st.lists(st.floats(-1, 1), min_size=1, max_size=50), st.randoms())
def test_the_order_of_the_differences_does_not_matter(differences, random):
    shuffled = random.sample(differences, len(differences))
    one, other = (betting_e_value(unfavourable(np.array(some), 0.02)) for some in (differences, shuffled))
    assert one == pytest.approx(other)
