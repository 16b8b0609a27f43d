import pytest
from hypothesis import given
from hypothesis import strategies as st

from driftline.errors import BadInput
from evaluators.comparison import compare, once_per_item


def test_the_same_answer_replayed_is_counted_once():
    once = once_per_item([("a", 1.0), ("b", 0.0)] * 50)
    assert once == {"a": 1.0, "b": 0.0}
    assert compare(once, {"a": 1.0, "b": 1.0}, margin=None).n == 2


def test_a_duplicate_item_with_another_score_is_refused_by_name():
    with pytest.raises(BadInput, match="Item a came 3 times"):
        once_per_item([("a", 1.0), ("b", 0.0), ("a", 1.0), ("a", 0.0)])


def test_draws_of_a_sampled_answer_are_averaged_over_those_that_were_scored():
    rows = [("a", 1.0), ("a", None), ("a", 0.0), ("a", 1.0), ("b", None), ("b", None)]
    assert once_per_item(rows, repeats_are_draws=True) == {"a": pytest.approx(2 / 3), "b": None}


@given(st.dictionaries(st.text(), st.none() | st.floats(0, 1)))
def test_rows_without_repeats_stay_as_they_are(scores):
    assert once_per_item(scores.items()) == scores
    assert once_per_item(scores.items(), repeats_are_draws=True) == scores
