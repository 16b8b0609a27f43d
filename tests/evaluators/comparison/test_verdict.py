import pytest
from hypothesis import given
from hypothesis import strategies as st

from driftline.errors import BadInput
from evaluators.comparison import Verdict, verdict

ends = st.tuples(st.floats(-1, 1), st.floats(-1, 1)).map(sorted)
margins = st.none() | st.floats(0, 0.5)


@pytest.mark.parametrize(
    ("low", "high", "margin", "word"),
    [
        (0.01, 0.05, 0.02, "better"),
        (0.001, 0.01, 0.02, "better"),
        (-0.01, 0.01, 0.02, "equivalent"),
        (-0.01, 0.05, 0.02, "not_worse"),
        (-0.10, -0.03, 0.02, "worse"),
        (-0.10, -0.01, 0.02, "undecided"),
        (-0.10, 0.10, 0.02, "undecided"),
        (-0.10, -0.01, None, "worse"),
        (0.01, 0.02, None, "better"),
        (-0.01, 0.01, None, "undecided"),
        (-0.10, -0.01, 0.0, "worse"),
        (-0.02, 0.01, 0.02, "undecided"),
        (-0.01, 0.02, 0.02, "not_worse"),
        (-0.10, -0.02, 0.02, "undecided"),
        (0.0, 0.0, 0.0, "undecided"),
    ],
)
def test_each_word_belongs_to_one_place_of_the_interval(low, high, margin, word):
    assert verdict(low, high, margin) == word


@given(ends, margins)
def test_worse_and_a_passing_word_never_fit_the_same_interval(interval, margin):
    low, high = interval
    found = verdict(low, high, margin)
    assert not (found.passes and high < -(margin or 0.0))
    assert not (found is Verdict.WORSE and low > -(margin or 0.0))


@given(ends, margins, st.floats(0, 0.5))
def test_a_narrower_interval_never_takes_a_decision_back(interval, margin, share):
    low, high = interval
    before = verdict(low, high, margin)
    inside = verdict(low + share * (high - low) / 2, high - share * (high - low) / 2, margin)
    if before is not Verdict.UNDECIDED:
        assert inside.passes == before.passes


@pytest.mark.parametrize("margin", [-0.01, 1.0, float("nan"), float("inf")])
def test_a_margin_that_is_no_loss_is_refused(margin):
    with pytest.raises(BadInput, match="margin"):
        verdict(-0.1, 0.1, margin)


def test_an_interval_that_is_upside_down_is_refused():
    with pytest.raises(BadInput, match="upside down"):
        verdict(0.1, -0.1, 0.02)
