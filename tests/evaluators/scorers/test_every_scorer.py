"""What holds for every scorer: a new one gets a row here, and all tests with it."""

import json
import random
import time
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from driftline.errors import BadInput, MissingPackage, NotFound
from driftline.protocols import Answered
from evaluators.scorers import SCORERS, scorer

PROMPT = ({"role": "user", "content": "What is the capital of France? "},)
ASKS = {
    "baseline_likelihood", "baseline_top1", "judge", "judge_pairwise", "multiple_choice", "perplexity",
    "reference_likelihood",
}  # fmt: skip


def said(text: str, *expected: str, **more: Any) -> Answered:
    return Answered(PROMPT, text, expected, **more)


@dataclass(frozen=True)
class Row:
    """Of two answers the better one, an answer that cannot be scored, and what an empty answer gets."""

    better: Answered
    worse: Answered
    unscored: Answered | None = None
    empty: float | None = 0.0
    config: dict[str, Any] = field(default_factory=dict)


PARIS = Row(said("Paris", "Paris"), said("Rome", "Paris"), said("Paris"))
CHOICES = {"choices": '["paris", "zzzz"]'}

ROWS = {
    "baseline_likelihood": Row(said("the cat"), said("zq#x"), Answered((), "its prompt is gone")),
    "baseline_top1": Row(said("the cat"), said("zq#x"), Answered((), "its prompt is gone")),
    "bleu": Row(said("the cat sat on the mat", "the cat sat on the mat"), said("no", "the cat sat"), said("the cat")),
    "chrf": PARIS,
    "code_execution": Row(
        said("```python\nprint(6 * 7)\n```", "42"),
        said("print(41)", "42"),
        said("print(42)"),
        config={"timeout_s": 20.0},
    ),
    "contains": Row(said("It is Paris.", "Paris"), said("It is Rome.", "Paris"), said("Paris")),
    "embedding_similarity": Row(said("The city of Paris.", "Paris"), said("Nine frogs jump.", "Paris"), said("Paris")),
    "empty": Row(said("."), said(" \n\u200b")),
    "exact": PARIS,
    "groundedness": Row(said("The capital is in France."), said("Whales breathe air."), Answered((), "No context.")),
    "json_schema": Row(
        said('{"a": 1}'), said('{"a": "x"}'), config={"schema": {"properties": {"a": {"type": "integer"}}}}
    ),
    "json_valid": Row(said('{"a": [1, null]}'), said("{'a': 1}")),
    "judge": Row(said("Paris", "Paris"), said("Rome", "Paris")),
    "judge_pairwise": Row(
        said("Paris", "Rome", rubric="It says Paris."),
        said("Rome", "Paris", rubric="It says Paris."),
        said("Paris"),
        empty=0.5,
    ),
    "language": Row(
        said("Das ist die Stadt, die nicht schläft.", "Und das ist der Satz."),
        said("This is the city that never sleeps.", "Und das ist der Satz."),
        said("42", "Und das ist der Satz."),
        empty=None,
    ),
    "length_ratio": Row(said("one two", "three four"), said("one", "three four"), said("one")),
    "multiple_choice": Row(
        said("", "paris", tags=CHOICES), said("", "zzzz", tags=CHOICES), said("", "paris"), empty=1.0
    ),
    "normalised": PARIS,
    "numeric": Row(said("So it is 42.", "42"), said("41", "42"), said("42", "no number")),
    "perplexity": Row(said("the cat"), said("zq#x"), Answered((), "its prompt is gone"), empty=None),
    "pii": Row(said("Ask at the desk."), said("Ask ann@example.org."), empty=1.0),
    "reference_likelihood": Row(said("", "the cat"), said("", "zq#x"), said("the cat"), empty=None),
    "refusal": Row(said("Paris is the capital."), said("I'm sorry, but I can't help with that."), empty=None),
    "regex": Row(said("id 123", r"\d+"), said("id", r"\d+"), said("id", "(")),
    "rouge_l": PARIS,
    "token_f1": PARIS,
    "toxicity": Row(said("Paris is the capital."), said("You are a stupid idiot and I hate you."), empty=1.0),
}

ODD = (
    "",
    " ",
    "\x00",
    "\u202e\u200d",
    "naïve 東京 🏳️‍🌈 عربى",
    "\ud800",
    "NaN",
    "-",
    "[" * 5000,
    "```json\n```",
    "1e999",
)


HEAVY = {"embedding_similarity"}


@pytest.fixture(
    scope="module", params=[pytest.param(name, marks=[pytest.mark.model] * (name in HEAVY)) for name in sorted(SCORERS)]
)
def judged(request, bigrams):
    """A scorer with its row; skipped, saying so, where its library is not installed."""
    row = ROWS[request.param]
    try:
        return row, scorer(request.param, model=bigrams if request.param in ASKS else None, **row.config)
    except MissingPackage as missing:
        pytest.skip(missing.message)


def test_every_scorer_has_a_row_and_every_row_a_scorer():
    assert ROWS.keys() == SCORERS.keys()


def test_the_better_answer_scores_higher_and_both_lie_between_0_and_1(judged):
    row, score = judged
    better, worse = score([row.better, row.worse])
    assert 0.0 <= worse.value < better.value <= 1.0


def test_an_error_scores_0_with_its_reason_whatever_else_is_there(judged):
    row, score = judged
    broken = Answered(row.better.messages, row.better.text, row.better.expected, row.better.rubric, error="timed out")
    before, failed, after = score([row.better, broken, row.worse])
    assert failed.value == 0.0
    assert "timed out" in failed.because
    assert [before, after] == score([row.better, row.worse])


def test_what_cannot_be_scored_says_why(judged):
    row, score = judged
    if row.unscored is None:
        pytest.skip("this scorer can score everything")
    found = score([row.unscored])[0]
    assert found.value is None
    assert found.because


def test_an_empty_answer_gets_the_score_that_was_agreed(judged):
    row, score = judged
    blank = Answered(row.better.messages, "", row.better.expected, row.better.rubric, row.better.tags)
    found = score([blank])[0]
    if score.name == "reference_likelihood":  # judges the model, not the answer
        assert found == score([row.better])[0]
    else:
        assert found.value == row.empty


def test_the_order_is_kept_and_answers_do_not_touch_each_other(judged):
    row, score = judged
    answers = [row.better, row.worse, said("something else", "else"), *([row.unscored] if row.unscored else [])] * 5
    random.Random(0).shuffle(answers)
    alone = [score([answer])[0] for answer in answers]
    together = score(answers)
    # a batch of another shape is computed by other kernels, whose sums differ in the last digits
    assert [one.value for one in together] == [one.value and pytest.approx(one.value, abs=1e-5) for one in alone]
    assert [one.because for one in together] == [one.because for one in alone]


def test_no_answers_give_no_scores(judged):
    assert judged[1]([]) == []


def test_odd_text_is_scored_or_says_why_not(judged):
    _, score = judged
    for text in ODD:
        for expected in ((), ("Paris",), (text,), ("", "Paris"), (" ",)):
            found = score([Answered(PROMPT, text, expected, rubric=text, tags={"choices": text})])[0]
            assert found.value is None or 0.0 <= found.value <= 1.0
            assert found.value is not None or found.because


@settings(max_examples=30, deadline=None)
@given(st.lists(st.tuples(st.text(), st.lists(st.text(), max_size=2)), max_size=4))
def test_any_text_is_scored_between_0_and_1_or_says_why_not(judged, pairs):
    found = judged[1]([Answered(PROMPT, text, tuple(expected)) for text, expected in pairs])
    assert len(found) == len(pairs)
    assert all(one.because if one.value is None else 0.0 <= one.value <= 1.0 for one in found)


def test_long_text_is_scored_in_seconds(judged):
    _, score = judged
    text = "the cat sat on the mat and said 42, then " * 2500
    started = time.process_time()  # the machine may be busy with other things
    score([said(text, text)])
    assert time.process_time() - started < 20.0


def test_name_and_version_tell_scorer_and_configuration(judged):
    row, score = judged
    assert score.name in SCORERS
    assert score.version
    assert bool(row.config) == (score.version != type(score)(score.name, score.judge).version)


def test_an_unknown_name_lists_those_there_are():
    with pytest.raises(NotFound, match="exact"):
        scorer("exakt")


def test_an_unknown_configuration_lists_what_is_accepted():
    with pytest.raises(BadInput, match="tolerance"):
        scorer("numeric", tolerence=0.1)


@pytest.mark.parametrize("name", sorted(ASKS))
def test_a_scorer_that_asks_a_model_says_so(name):
    with pytest.raises(BadInput, match="model"):
        scorer(name)


def test_a_model_that_is_not_needed_does_no_harm(bigrams):
    assert scorer("exact", model=bigrams)([said("a", "a")])[0].value == 1.0


def test_two_configurations_have_two_versions():
    versions = {scorer("numeric", **config).version for config in ({}, {"tolerance": 0.1}, {"tolerance": 0.2})}
    assert len(versions) == 3
    long = scorer("json_schema", schema={"enum": [str(i) for i in range(100)]}).version
    assert len(long) < 40


def test_a_missing_library_says_how_to_install_it():
    for name, library in (("bleu", "sacrebleu"), ("rouge_l", "rouge_score")):
        try:
            __import__(library)
        except ImportError:
            with pytest.raises(MissingPackage, match="pip install"):
                scorer(name)


def test_a_custom_scorer_is_found_by_its_entry_point(tmp_path, monkeypatch):
    (tmp_path / "shouting.py").write_text(
        "from driftline.protocols import Scored\n"
        "from evaluators.scorers.judging import Each\n"
        "def shouting(loud=True):\n"
        "    return Each('shouting', lambda a: Scored(float(a.text.isupper() == loud)))\n"
    )
    described = tmp_path / "shouting-1.dist-info"
    described.mkdir()
    (described / "METADATA").write_text("Metadata-Version: 2.1\nName: shouting\nVersion: 1\n")
    (described / "entry_points.txt").write_text("[driftline.scorers]\nshouting = shouting:shouting\n")
    monkeypatch.syspath_prepend(tmp_path)
    assert scorer("shouting")([said("LOUD"), said("quiet")])[0].value == 1.0
    assert scorer("shouting", loud=False)([said("quiet")])[0].value == 1.0
    with pytest.raises(NotFound, match="shouting"):
        scorer("shout")


def test_versions_are_plain_text():
    assert json.dumps(scorer("numeric", tolerance=0.5).version)
