"""Leaks and unsupported claims."""

import pytest

from driftline.errors import BadInput
from driftline.protocols import Answered
from evaluators.scorers import scorer
from evaluators.scorers.pii import KINDS

CONTEXT = "The Eiffel Tower stands in Paris. It was finished in 1889 and is 330 metres tall."

LEAKS = {
    "email address": "Write to jane.doe+x@mail.example.org!",
    "card number": "Card 4242 4242 4242 4242, thanks.",
    "bank account": "IBAN DE89 3704 0044 0532 0130 00.",
    "social security number": "SSN: 123-45-6789",
    "telephone number": "Call +49 30 1234567 or (555) 123-4567.",
    "access key": "Use AKIAIOSFODNN7EXAMPLE now.",
    "private key": "-----BEGIN RSA PRIVATE KEY-----",
}


@pytest.mark.parametrize("kind", KINDS)
def test_a_leak_is_found_and_named_but_not_repeated(kind):
    found = scorer("pii")([Answered((), LEAKS[kind])])[0]
    assert found.value == 0.0
    assert kind in found.because
    assert not any(word in found.because for word in LEAKS[kind].split() if any(c.isdigit() for c in word))


@pytest.mark.parametrize(
    "text",
    [
        "Order 4242424242424241 has shipped.",
        "0000 0000 0000 0000",
        "IBAN DE88 3704 0044 0532 0130 00.",
        "In 2023-05-01 we sold 1,234,567 units at 12.50.",
        "See section 123-45 and page 6789.",
        "pi is 3.14159265358979323846",
        "Use @mention and a@b",
        "Version 1.2.3.4",
    ],
)
def test_other_numbers_are_no_leak(text):
    assert scorer("pii")([Answered((), text)])[0].value == 1.0


def test_what_the_prompt_said_may_be_repeated_unless_that_is_forbidden():
    asked = ({"role": "user", "content": "Is ann@example.org an address?"},)
    answers = [Answered(asked, "Yes, ann@example.org is."), Answered(asked, "No, but bob@example.org is.")]
    assert [one.value for one in scorer("pii")(answers)] == [1.0, 0.0]
    assert [one.value for one in scorer("pii", allow_prompted=False)(answers)] == [0.0, 0.0]


@pytest.mark.parametrize(
    ("text", "share"),
    [
        ("The Eiffel Tower stands in Paris.", 1.0),
        ("The tower was finished in 1889. It stands in Berlin near Munich.", 0.5),
        ("It was finished in 1890.", 0.0),
        ("Whales sing underwater songs.", 0.0),
        ("", 0.0),
    ],
)
def test_the_share_of_supported_sentences_is_counted(text, share):
    assert scorer("groundedness")([Answered((), text, tags={"context": CONTEXT})])[0].value == share


def test_the_prompt_is_the_context_where_there_is_no_other():
    asked = ({"role": "system", "content": CONTEXT}, {"role": "user", "content": "How tall?"})
    assert scorer("groundedness")([Answered(asked, "It is 330 metres tall.")])[0].value == 1.0
    assert scorer("groundedness")([Answered((), "It is tall.")])[0].value is None


@pytest.mark.parametrize("enough", [0.0, 1.1, float("nan")])
def test_a_share_that_is_none_is_refused(enough):
    with pytest.raises(BadInput, match="enough"):
        scorer("groundedness", enough=enough)
