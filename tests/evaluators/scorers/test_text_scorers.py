"""What each scorer that reads text calls right and wrong."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from driftline.errors import BadInput
from driftline.protocols import Answered
from evaluators.scorers import scorer
from evaluators.scorers.numeric import numbers
from evaluators.scorers.words import content_words, words


def value(name, text, *expected, rubric=None, **config):
    return scorer(name, **config)([Answered((), text, expected, rubric)])[0].value


@pytest.mark.parametrize(
    ("name", "text", "expected", "right"),
    [
        ("exact", " Paris\n", ["Paris"], 1),
        ("exact", "paris", ["Paris"], 0),
        ("exact", "Rome", ["Paris", "Rome"], 1),
        ("normalised", "The  PARIS!", ["paris"], 1),
        ("normalised", "don’t", ["dont"], 1),
        ("normalised", "Paris, Texas", ["Paris"], 0),
        ("normalised", "−5", ["5"], 0),
        ("normalised", "5 €", ["5 $"], 0),
        ("normalised", "कि", ["का"], 0),
        ("normalised", "the", ["The"], 0),
        ("normalised", "!!!", ["!!!"], 1),
        ("contains", "I know.", ["no"], 0),
        ("contains", "No, it is not", ["no"], 1),
        ("contains", "the capital: PARIS.", ["Paris"], 1),
        ("contains", "首都は東京です", ["東京"], 1),
        ("contains", "first a, then b", ["b then"], 0),
        ("contains", "a!!!b", ["!!!"], 1),
        ("numeric", "The total is 1,234.50 dollars", ["1234.5"], 1),
        ("numeric", "2 + 2 = 4", ["4"], 1),
        ("numeric", "-3", ["3"], 0),
        ("numeric", "−3", ["-3"], 1),
        ("numeric", "about 4", ["4.0000001"], 1),
        ("numeric", "none", ["4"], 0),
        ("numeric", "1e3", ["1000"], 1),
        ("numeric", "0", ["0"], 1),
        ("regex", "call 555-1234 now", [r"\d{3}-\d{4}"], 1),
        ("json_valid", '```json\n{"a": 1}\n```', [], 1),
        ("json_valid", '{"a": NaN}', [], 0),
        ("json_valid", '{"a": 1} and more', [], 0),
        ("json_valid", "[" * 100_000, [], 0),
        ("empty", "\u200b\u00a0", [], 0),
        ("empty", "0", [], 1),
    ],
)
def test_what_is_right_scores_1_and_what_is_wrong_0(name, text, expected, right):
    assert value(name, text, *expected) == right


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("1,234,567.8", [1234567.8]),
        ("1,23", [1, 23]),
        ("v1.2.3", []),
        ("3.", [3]),
        (".5", [0.5]),
        ("x2", []),
        ("2023-05-01", [2023, 5, 1]),
        ("5e", [5]),
        ("1e999", []),
        ("٤٢", []),
    ],
)
def test_numbers_are_read_as_people_write_them(text, found):
    assert numbers(text) == found


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_a_printed_number_is_read_back(number):
    assert numbers(f"It is {number!r}") == [number]


def test_the_tolerance_may_be_a_share_or_absolute():
    assert value("numeric", "104", "100", tolerance=0.05) == 1.0
    assert value("numeric", "106", "100", tolerance=0.05) == 0.0
    assert value("numeric", "106", "100", tolerance=6, relative=False) == 1.0
    assert value("numeric", "first 1 then 2", "1", take="first") == 1.0


@pytest.mark.parametrize(
    ("name", "config"),
    [
        ("numeric", {"tolerance": -1}),
        ("numeric", {"tolerance": float("nan")}),
        ("numeric", {"take": "middle"}),
        ("regex", {"pattern": "("}),
        ("json_schema", {"schema": {"type": "unheard of"}}),
    ],
)
def test_a_configuration_that_makes_no_sense_is_refused(name, config):
    with pytest.raises(BadInput):
        scorer(name, **config)


def test_a_pattern_for_all_items_goes_before_the_references():
    assert value("regex", "abc", "zzz", pattern="b") == 1.0
    assert value("regex", "abc", pattern="b", full=True) == 0.0


@pytest.mark.parametrize(
    ("text", "expected", "f1"),
    [
        ("the cat sat", "cat sat", 1.0),
        ("cat", "cat sat", 2 / 3),
        ("dog", "cat", 0.0),
        ("cat cat", "cat", 2 / 3),
        ("", "cat", 0.0),
        ("東京", "東京都", 0.8),
    ],
)
def test_token_f1_counts_shared_words(text, expected, f1):
    assert value("token_f1", text, expected) == pytest.approx(f1)


@pytest.mark.parametrize(
    "rubric",
    ["{", "5", "null", "[1]", '"text"', '{"type": 12}', '{"$schema": 7}', '{"pattern": "("}', '{"properties": 3}'],
)
def test_a_rubric_that_is_no_schema_leaves_its_item_unscored_with_a_short_reason(rubric):
    (found,) = scorer("json_schema")([Answered((), '"a"', rubric=rubric)])
    assert found.value is None
    assert found.because.startswith("the item's rubric is no JSON Schema: ")
    assert len(found.because) < 150


@pytest.mark.parametrize(
    ("name", "config", "says"),
    [
        (
            "numeric",
            {"tolerance": "wide"},
            "Scorer numeric cannot take tolerance 'wide': Input should be a valid number",
        ),
        ("numeric", {"take": "middle"}, "Input should be 'last' or 'first'"),
        ("regex", {"pattern": 7}, "Scorer regex cannot take pattern 7: Input should be a valid string"),
        ("json_schema", {"schema": [1]}, "Scorer json_schema cannot take schema [1]"),
        ("code_execution", {"timeout_s": "soon"}, "Scorer code_execution cannot take timeout_s 'soon'"),
        ("exact", {"ignore_case": "no"}, "Input should be a valid boolean"),
    ],
)
def test_a_configuration_of_the_wrong_kind_is_refused_by_name(name, config, says):
    with pytest.raises(BadInput, match=re.escape(says)):
        scorer(name, **config)


def test_a_whole_number_is_a_number():
    assert scorer("numeric", tolerance=1)([Answered((), "41", ("42",))])[0].value == 1.0


def test_the_best_reference_counts_and_blank_ones_do_not():
    assert value("token_f1", "cat", "dog", "cat", " ") == 1.0
    assert value("token_f1", "", " ", "") is None


def test_a_schema_names_the_first_violation():
    schema = {"type": "object", "required": ["a"], "properties": {"a": {"type": "integer"}}}
    found = scorer("json_schema", schema=schema)([Answered((), '{"a": "x"}'), Answered((), "no"), Answered((), "{}")])
    assert [one.value for one in found] == [0.0, 0.0, 0.0]
    assert "$.a" in found[0].because
    assert "no JSON" in found[1].because
    assert "required" in found[2].because


def test_each_item_may_bring_its_own_schema():
    assert value("json_schema", "3", rubric='{"type": "integer"}') == 1.0
    assert value("json_schema", '"3"', rubric='{"type": "integer"}') == 0.0
    assert value("json_schema", "3", rubric="be polite") is None
    assert value("json_schema", "3") is None


def test_a_schema_that_points_into_the_network_is_not_followed():
    found = scorer("json_schema")([Answered((), "3", rubric='{"$ref": "http://127.0.0.1:9/schema.json"}')])[0]
    assert found.value is None
    assert "127.0.0.1" in found.because


@pytest.mark.parametrize(
    "text",
    [
        "I'm sorry, but I can't help with that.",
        "I’m sorry, but I cannot assist with this request.",
        "I cannot provide medical advice.",
        "As an AI language model, I cannot browse the web.",
        "I am unable to help with that.",
        "I won't write that.",
        "That would violate my guidelines.",
        "Es tut mir leid, aber ich kann dabei nicht helfen.",
        "Je suis désolé, mais je ne peux pas vous aider.",
        "Lo siento, pero no puedo ayudar con eso.",
        "К сожалению, я не могу помочь.",
        "抱歉，我无法回答这个问题。",
        "申し訳ありませんが、お答えできません。",
    ],
)
def test_a_refusal_is_recognised(text):
    assert value("refusal", text) == 0.0


@pytest.mark.parametrize(
    "text",
    [
        "Paris.",
        "I can help with that.",
        "I can't wait to see it, said the child.",
        "You cannot divide by zero.",
        "Sorry is the hardest word.",
        "She said she could not answer, and left.",
        "The policy was against the law of 1920.",
    ],
)
def test_an_answer_is_not_taken_for_a_refusal(text):
    assert value("refusal", text) == 1.0


def test_a_refusal_far_into_an_answer_is_a_quotation():
    assert value("refusal", "Here is the scene. " * 20 + "I cannot help you, he said.") == 1.0


def test_the_language_is_that_of_the_prompt_where_there_is_no_reference():
    german = ({"role": "user", "content": "Was ist die Hauptstadt von Frankreich, und wie groß ist sie?"},)
    score = scorer("language")
    found = score(
        [Answered(german, "Das ist Paris, und die Stadt ist groß."), Answered(german, "It is the city of Paris.")]
    )
    assert [one.value for one in found] == [1.0, 0.0]
    assert scorer("language", expected="en")([Answered(german, "It is the city of Paris.")])[0].value == 1.0


def test_words_are_comparable_in_any_script():
    assert words("Straße, STRASSE") == ["strasse", "strasse"]
    assert words("ｆｕｌｌ　ｗｉｄｔｈ") == ["full", "width"]
    assert words("x\u200by e\u0301t\u00e9") == ["xy", "\u00e9t\u00e9"]
    assert content_words("The end of a day") == ["end", "of", "day"]


@given(st.text())
def test_words_hold_no_space_and_reading_them_again_changes_nothing(text):
    once = words(text)
    assert all(word and not any(character.isspace() for character in word) for word in once)
    assert words(" ".join(once)) == once
