"""The quick ways give what the slow ones give: the libraries, and every pattern tried on every text."""

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rouge_score.rouge_scorer import RougeScorer
from sacrebleu.metrics import BLEU, CHRF

from driftline.protocols import Answered
from evaluators.scorers import scorer
from evaluators.scorers.bleu import Apart
from evaluators.scorers.pii import KINDS
from evaluators.scorers.refusal import HINTS, PATTERNS
from evaluators.scorers.words import words

WORDS = st.lists(
    st.sampled_from(["the", "cat", "sat", "on", "a", "mat.", "it's", "12", "café", "東京", "😀"]), max_size=12
)
MARKS = st.text("ab1.,-:;'\"()&[]~/ \n0", max_size=20)
TEXTS = st.one_of(WORDS.map(" ".join), MARKS, st.text(max_size=20))


class OurWords:
    """Our words, in the shape rouge-score asks for."""

    def tokenize(self, text):
        return words(text)


BY_LIBRARY = {
    "bleu": BLEU(effective_order=True).sentence_score,
    "chrf": CHRF().sentence_score,
    "rouge_l": RougeScorer(["rougeL"], tokenizer=OurWords()).score_multi,
}


def expected_of(name, text, known):
    if name == "rouge_l":
        return BY_LIBRARY[name](known, text)["rougeL"].fmeasure
    return min(BY_LIBRARY[name](text, known).score / 100, 1.0)


@given(MARKS)
def test_bleu_takes_words_apart_as_the_library_does(text):
    library = BLEU().tokenizer._post_tokenizer
    assert Apart(library._re)(text) == library(text)


@pytest.mark.parametrize("name", BY_LIBRARY)
@given(st.lists(st.tuples(TEXTS, st.lists(TEXTS.filter(str.strip), min_size=1, max_size=3)), min_size=1, max_size=9))
@settings(deadline=None)
def test_batches_score_as_the_library_scores_each_answer(name, pairs):
    found = scorer(name)([Answered((), text, tuple(known)) for text, known in pairs])
    assert [one.value for one in found] == [expected_of(name, text, known) for text, known in pairs]


def test_what_scores_nothing_keeps_its_place_in_a_batch():
    batch = [
        Answered((), "the cat", ("the cat",)),
        Answered((), "the cat"),
        Answered((), "a dog", ("the cat", "a dog")),
    ]
    for name in BY_LIBRARY:
        assert [one.value for one in scorer(name)(batch)] == [pytest.approx(1.0), None, pytest.approx(1.0)]


PIECES = st.sampled_from(
    [
        *("I", "i'm", "am", "can't", "cannot", "won't", "will not", "not", "able to", "unable to", "must decline"),
        *("help", "answer", "sorry,", "but", "as an AI", "as a language model", "against", "violates", "my policy"),
        *("our guidelines", "comfortable", "I do not feel comfortable", "allowed to", "permitted to", "tut mir leid"),
        *("leider", "kann", "ich kann dir", "nicht", "je ne peux pas", "aider", "lo siento", "no puedo", "responder"),
        *("mi dispiace", "non posso"),
    ]
)


@given(st.lists(PIECES, max_size=8).map(" ".join))
def test_every_refusal_in_ascii_has_a_hint(text):
    refuses = any(re.search(pattern, text, re.IGNORECASE | re.DOTALL) for pattern in PATTERNS)
    assert scorer("refusal")([Answered((), text or "x")])[0].value == float(not refuses)


@pytest.mark.parametrize("hint", HINTS)
def test_a_hint_alone_is_no_refusal(hint):
    assert scorer("refusal")([Answered((), f"It is {hint} here.")])[0].value == 1.0


@given(st.from_regex("|".join(f"(?:{pattern.pattern})" for pattern, _ in KINDS.values()), fullmatch=False))
@settings(deadline=None, max_examples=50)
def test_no_secret_lacks_the_sign_that_is_looked_for_first(text):
    holds = any(genuine(found.group()) for pattern, genuine in KINDS.values() for found in pattern.finditer(text))
    assert scorer("pii")([Answered((), text)])[0].value == float(not holds)
