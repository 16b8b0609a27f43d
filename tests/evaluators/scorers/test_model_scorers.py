"""Scorers that ask a model, against the model's own log-probabilities."""

import json
import math

import pytest

from driftline.errors import BadInput
from driftline.protocols import Answered, AnswerLogProbs
from evaluators.scorers import scorer
from evaluators.scorers.likelihood import token_probability

ASKED = ({"role": "user", "content": "Well, "},)


def probability(model, text):
    logprobs = model.log_probs([(ASKED, text)])[0].logprobs
    return math.exp(sum(logprobs) / len(logprobs))


def test_the_likelihood_of_a_reference_is_the_geometric_mean_of_its_tokens(bigrams):
    found = scorer("reference_likelihood", model=bigrams)([Answered(ASKED, "ignored", ("the cat",))])[0]
    assert found.value == pytest.approx(probability(bigrams, "the cat"))


def test_of_several_references_the_likeliest_counts(bigrams):
    found = scorer("reference_likelihood", model=bigrams)([Answered(ASKED, "", ("zq#", "the cat", " "))])[0]
    assert found.value == pytest.approx(probability(bigrams, "the cat"))


def test_the_baseline_weighs_the_answer_that_was_given(bigrams):
    found = scorer("baseline_likelihood", model=bigrams)([Answered(ASKED, "the mat", ("ignored",))])[0]
    assert found.value == pytest.approx(probability(bigrams, "the mat"))
    assert found.detail == {"tokens": 7}


def test_agreement_is_the_share_of_first_choices(bigrams):
    weighed = bigrams.log_probs([(ASKED, "the cat zz")])[0]
    found = scorer("baseline_top1", model=bigrams)([Answered(ASKED, "the cat zz")])[0]
    assert found.value == pytest.approx(sum(weighed.top1) / 10)
    assert 0.0 < found.value < 1.0


def test_one_answer_that_cannot_be_weighed_does_not_take_the_others_with_it(bigrams):
    answers = [Answered(ASKED, "the cat"), Answered(ASKED, "x" * 200_001), Answered((), "the cat"), Answered(ASKED, "")]
    for name in ("baseline_likelihood", "baseline_top1"):
        good, long, promptless, empty = scorer(name, model=bigrams)(answers)
        assert good.value > 0.0
        assert (long.value, promptless.value, empty.value) == (None, None, 0.0)
        assert "beyond the context" in long.because
        assert "prompt was not stored" in promptless.because


def test_the_likelier_choice_is_chosen(bigrams):
    tags = {"choices": json.dumps(["paris", "zq#x"])}
    right, wrong = scorer("multiple_choice", model=bigrams)(
        [Answered(ASKED, "", ("paris",), tags=tags), Answered(ASKED, "", ("zq#x",), tags=tags)]
    )
    assert (right.value, wrong.value) == (1.0, 0.0)
    assert wrong.detail == {"chosen": "paris"}


def test_a_long_choice_may_be_compared_by_token(bigrams):
    answered = Answered(ASKED, "", ("the cat sat on the mat",))
    choices = ["the cat sat on the mat", "zq"]
    assert scorer("multiple_choice", model=bigrams, choices=choices)([answered])[0].value == 0.0
    assert scorer("multiple_choice", model=bigrams, choices=choices, per_token=True)([answered])[0].value == 1.0


@pytest.mark.parametrize("tags", [{}, {"choices": "no JSON"}, {"choices": '["one"]'}, {"choices": '["a", "b"]'}])
def test_an_item_without_proper_choices_is_unscored(bigrams, tags):
    found = scorer("multiple_choice", model=bigrams)([Answered(ASKED, "", ("paris",), tags=tags)])[0]
    assert found.value is None
    assert "choice" in found.because


@pytest.mark.parametrize("choices", [[], ["one"], ["a", "a"]])
def test_choices_that_leave_no_choice_are_refused(bigrams, choices):
    with pytest.raises(BadInput, match="choices"):
        scorer("multiple_choice", model=bigrams, choices=choices)


def test_log_probabilities_at_the_edges_stay_in_range():
    assert token_probability(AnswerLogProbs((1e-12,), (True,))).value == 1.0
    assert token_probability(AnswerLogProbs((-math.inf,), (False,))).value == 0.0
    assert token_probability(AnswerLogProbs((math.nan,), (False,))).value is None
    assert token_probability(AnswerLogProbs((), ())).value is None
