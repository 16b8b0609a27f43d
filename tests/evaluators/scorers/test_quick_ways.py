"""The quick ways give what the slow ones give: the libraries, and every pattern tried on every text."""

import math
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from profanity_check import predict_prob
from rouge_score.rouge_scorer import RougeScorer
from sacrebleu.metrics import BLEU, CHRF

from driftline.protocols import Answered
from evaluators.scorers import scorer
from evaluators.scorers.bleu import Apart
from evaluators.scorers.numeric import NUMBER, numbers
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


ODD = st.sampled_from(["1.5, ...", "a,.b", "-\n", "&amp;lt;", "<skip<skipped>ped>"])


@given(st.lists(st.one_of(MARKS, ODD, TEXTS), min_size=1, max_size=6))
@settings(deadline=None)
def test_bleu_takes_texts_apart_as_the_library_does(texts):
    library = BLEU()
    expected = [library._preprocess_segment(text).split() for text in texts]
    assert Apart(library.tokenizer._post_tokenizer._re)(texts) == expected


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


@given(st.from_regex("|".join(f"(?:{kind.pattern.pattern})" for kind in KINDS.values()), fullmatch=False))
@settings(deadline=None, max_examples=50)
def test_no_secret_lacks_the_sign_that_is_looked_for_first(text):
    found = {name: [match.group() for match in kind.pattern.finditer(text)] for name, kind in KINDS.items()}
    assert all(kind.sign.search(secret) for name, kind in KINDS.items() for secret in found[name])
    holds = any(kind.genuine(secret) for name, kind in KINDS.items() for secret in found[name])
    assert scorer("pii")([Answered((), text)])[0].value == float(not holds)


@given(st.text("0123456789.,+-\u2212eE abc", max_size=30))
@settings(deadline=None)
def test_numbers_are_found_where_the_pattern_finds_them(text):
    plain = [match.group().replace(",", "").replace("\u2212", "-") for match in NUMBER.finditer(text)]
    assert numbers(text) == [value for value in map(float, plain) if math.isfinite(value)]


@given(st.text(st.characters(max_codepoint=127), max_size=40))
@settings(deadline=None)
def test_words_of_ascii_are_those_of_any_script(text):
    in_any_script = [*words(f"{text} \u4eac")]  # a character that is a word of its own
    assert [*words(text), "\u4eac"] == in_any_script


@pytest.mark.parametrize("name", ["bleu", "chrf"])
def test_texts_of_too_many_symbols_are_scored_by_the_library(name):
    first, second = (" ".join(map(chr, range(start, start + 40_000))) for start in (0x3400, 0x3500))
    pairs = [("a cat", "a cat sat"), (first, second), ("one dog", "a dog")]
    found = scorer(name)([Answered((), text, (reference,)) for text, reference in pairs])
    assert [one.value for one in found] == [expected_of(name, text, [reference]) for text, reference in pairs]


@given(
    st.lists(
        st.one_of(TEXTS, st.sampled_from(["You are a stupid idiot.", "What the hell, hell, hell", "ab" * 50])),
        max_size=9,
    )
)
@settings(deadline=None, max_examples=40)
def test_toxicity_is_what_the_package_says(texts):
    found = [one.value for one in scorer("toxicity")([Answered((), text) for text in texts])]
    expected = [1 - toxic for toxic in predict_prob(texts)] if texts else []
    spoken = [(ours, theirs) for ours, theirs, text in zip(found, expected, texts, strict=True) if text.strip()]
    assert [ours for ours, _ in spoken] == pytest.approx([theirs for _, theirs in spoken], abs=1e-14)
