import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from driftline.errors import BadInput
from evaluators.comparison import EarlyStop, PairedWorse, Verdict, kt_e_value
from evaluators.comparison.evidence import betting_e_value, unfavourable

differences = st.lists(st.floats(-1, 1), max_size=60)


def drawn(worse, better, items, seed):
    random = np.random.default_rng(seed)
    return random.choice([-1.0, 0.0, 1.0], p=[worse, 1 - worse - better, better], size=items)


def test_a_candidate_that_loses_is_found_and_the_replay_may_stop():
    stop = EarlyStop()
    assert stop.update(drawn(0.2, 0.02, 800, seed=0)) is Verdict.WORSE
    assert stop.decided_at < 200


def test_a_candidate_that_gains_is_never_called_worse():
    process = PairedWorse(alpha=0.05)
    process.update(drawn(0.02, 0.2, 800, seed=0))
    assert not process.evidence.decided
    stop = EarlyStop()
    assert stop.update(drawn(0.02, 0.2, 800, seed=0)) is Verdict.BETTER


def test_a_harmless_candidate_is_found_not_worse_than_a_margin():
    stop = EarlyStop(margin=0.05)
    assert stop.update(drawn(0.02, 0.02, 2000, seed=1)) is Verdict.NOT_WORSE


def test_on_yes_no_scores_it_is_the_krichevsky_trofimov_mixture():
    process = PairedWorse()
    evidence = process.update([-1.0] * 30 + [1.0] * 10 + [0.0] * 60)
    assert evidence.e_value == pytest.approx(kt_e_value(30, 10), rel=1e-3)
    assert evidence.n == 100


@settings(max_examples=50)
@given(differences, st.integers(1, 7), st.sampled_from([None, 0.0, 0.02, 0.3]))
def test_the_size_of_the_batches_does_not_matter(values, size, margin):
    at_once, in_parts = EarlyStop(margin=margin, alpha=0.2), EarlyStop(margin=margin, alpha=0.2)
    at_once.update(values)
    for start in range(0, len(values), size):
        in_parts.update(values[start : start + size])
    assert (at_once.verdict, at_once.decided_at) == (in_parts.verdict, in_parts.decided_at)


@settings(max_examples=50)
@given(differences, differences, st.sampled_from([None, 0.02]))
def test_a_restart_changes_nothing(before, after, margin):
    for kind in (PairedWorse, EarlyStop):
        whole, first = kind(margin=margin, alpha=0.1), kind(margin=margin, alpha=0.1)
        whole.update(before)
        first.update(before)
        resumed = kind.resume(json.loads(json.dumps(first.state(), allow_nan=False)))
        assert whole.update(after) == resumed.update(after)
        assert resumed.state() == whole.state()


@given(differences, st.sampled_from([None, 0.02]))
def test_the_last_e_value_is_that_of_the_finished_comparison(values, margin):
    process = PairedWorse(margin=margin)
    process.update(values)
    expected = betting_e_value(unfavourable(np.array(values), margin or 0.0)) if values else 1.0
    assert process.evidence.e_value == pytest.approx(expected)
    assert process.evidence.peak >= process.evidence.e_value * (1 - 1e-9)


def test_what_was_decided_stays_decided():
    process = PairedWorse(alpha=0.05)
    assert process.update([-1.0] * 12).decided
    evidence = process.update([1.0] * 50)
    assert evidence.decided
    assert evidence.e_value < 1.0
    stop = EarlyStop(alpha=0.05)
    stop.update([-1.0] * 12)
    decided_at = stop.decided_at
    assert stop.update([1.0] * 500) is Verdict.WORSE
    assert stop.decided_at == decided_at


def test_no_answers_are_no_evidence():
    assert PairedWorse().update([]).e_value == 1.0
    assert EarlyStop(margin=0.02).update([]) is Verdict.UNDECIDED


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 1.5])
def test_a_difference_outside_its_range_is_refused_and_changes_nothing(value):
    process = PairedWorse()
    with pytest.raises(BadInput, match="Difference 1 of the batch"):
        process.update([0.5, value])
    assert process.evidence.n == 0


@pytest.mark.parametrize("alpha", [0.0, 1.0, -1.0, float("nan")])
def test_an_alpha_that_is_no_probability_is_refused(alpha):
    for kind in (PairedWorse, EarlyStop):
        with pytest.raises(BadInput, match="alpha"):
            kind(alpha=alpha)
