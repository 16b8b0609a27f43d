"""What is done the short way gives what the long way gives."""

import json

import msgspec
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from collector import otlp, redact, wire
from collector.contents import _plain, answer_of, opened
from collector.conventions import NAMES, RANKS
from collector.meaning import NOTHING_TOLD, told_by
from collector.messages import messages_of
from collector.values import proto_attributes
from driftline.store.hashing import sample_key
from tests.collector.spans import span

VALUES = st.recursive(
    st.text(max_size=40) | st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False) | st.booleans(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
KEYS = st.sampled_from(sorted(NAMES)) | st.sampled_from(["llm.input_messages.0.message.role", "app.x", "metadata.y"])


@settings(deadline=None)  # a loaded machine may stop anywhere
@given(st.lists(st.dictionaries(KEYS, VALUES, max_size=8), min_size=1, max_size=4))
def test_attributes_known_from_other_spans_are_read_the_same(several):
    for attributes in [*several, *several]:  # the second time all short ones are known
        sent = span(attributes).SerializeToString()
        read = otlp._span_attributes(wire.Span.FromString(sent).attributes)
        assert read == proto_attributes(wire.Span.FromString(sent).attributes)


def test_what_is_known_of_attributes_is_bounded():
    for n in range(3 * otlp._MOST_KNOWN):
        otlp._span_attributes(wire.Span.FromString(span({"user.id": f"u{n}"}).SerializeToString()).attributes)
    assert len(otlp._KNOWN) <= otlp._MOST_KNOWN
    long = "x" * 10_000
    otlp._span_attributes(wire.Span.FromString(span({"user.id": long}).SerializeToString()).attributes)
    assert max(map(len, otlp._KNOWN)) <= otlp._LONGEST_KNOWN


@settings(deadline=None)  # a loaded machine may stop anywhere
@given(
    st.lists(
        st.fixed_dictionaries(
            {
                "role": st.sampled_from(["user", "assistant", "", "r" * 80]),
                "parts": st.lists(
                    st.fixed_dictionaries({"type": st.just("text"), "content": st.text(max_size=20)}), max_size=3
                ),
            },
            optional={"finish_reason": st.sampled_from(["stop", ""])},
        ),
        max_size=4,
    )
)
@example([{"role": "user", "parts": [{"type": "text", "content": ""}]}])
def test_plain_messages_are_read_as_any_others(messages):
    messages = [{"role": m["role"], **m} for m in messages]  # the role first, as everybody writes it
    for text in (json.dumps(messages), msgspec.json.encode(messages).decode()):
        found = _plain(text)
        assert found == (messages_of(opened(text)) if messages else None)
        if messages:
            assert "\n".join(m["content"] for m in found if m["content"]) == answer_of(opened(text))


@pytest.mark.parametrize(
    "more",
    [
        {"parts": [{"type": "tool_call", "name": "f", "arguments": {}}]},
        {"parts": [{"type": "text", "content": "a"}, {"type": "blob", "content": "b"}]},
        {"parts": [{"type": "text", "content": 3}]},
        {"content": "c", "parts": [{"type": "text", "content": "a"}]},
        {"parts": [{"type": "text", "content": "a"}], "tool_calls": [{"function": {"name": "f"}}]},
        {"content": "c"},
    ],
)
def test_messages_with_more_to_them_are_read_the_long_way(more):
    assert _plain(json.dumps([{"role": "user", **more}])) is None


@settings(deadline=None)  # a loaded machine may stop anywhere
@given(st.dictionaries(st.sampled_from(sorted(RANKS)), st.sampled_from(["", None, "a", 1]), max_size=12))
def test_the_most_telling_attribute_that_says_something_gives_the_field(attributes):
    best = told_by(attributes).best
    for field in {RANKS[name][0] for name in attributes}:
        said = [n for n, v in attributes.items() if RANKS[n][0] == field and v not in ("", None)]
        said.sort(key=lambda n: RANKS[n][1])
        assert best.get(field) == (attributes[said[0]] if said else None)
    assert NOTHING_TOLD == ({}, {})


NUMERIC = st.text(alphabet="0123456789abcdefgx.:-+/() @,\n", max_size=60)


@settings(deadline=None)  # a loaded machine may stop anywhere
@given(NUMERIC | st.from_regex(redact._IPV4) | st.from_regex(redact._IPV6) | st.from_regex(redact._PHONE))
@example("::1 and fe80::1")
@example("1.2.3.4")
@example("At 1. 2. 3. it was 10.0.0.1:80.")
def test_no_test_beforehand_hides_what_the_patterns_find(text):
    long_way = redact._SECRET.sub(redact._hide_secret, text) if redact._holds_secret(text.encode()) else text
    long_way = redact._EMAIL.sub("[email]", long_way)
    if redact._LONG_NUMBER in text.encode().translate(redact._DIGIT_SHAPE, redact._SEPARATORS):
        long_way = redact._IBAN.sub(redact._hide_iban, long_way)
        long_way = redact._CARD.sub(redact._hide_cards, long_way)
        long_way = redact._PHONE.sub(redact._hide_phone, long_way)
    long_way = redact._IPV4.sub("[ip]", long_way)
    long_way = redact._IPV6.sub(lambda found: "[ip]" if redact._is_ipv6(found[0]) else found[0], long_way)
    assert redact.redact(text) == long_way


def test_sample_keys_are_those_of_the_rows_already_stored():
    assert [sample_key(one) for one in ("", "a", "call-1", "ü\ud800")] == [
        -1970711489451281740, 4681665781835383343, 632936521157720769, -4435202955697082749,
    ]  # fmt: skip
