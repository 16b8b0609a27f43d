"""Every channel: what it sends can be read by its receiver, and says who sent it without saying the secret."""

import hashlib
import hmac
import json
from time import time
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from driftline.acts.alerts import CHANNEL_KINDS
from scheduler.channels import CHANNELS, Message, Notice
from scheduler.channels.webhook import sign
from scheduler.work import resolve

SECRET = "T0/B0/hush-hush"
ADDRESSES = {
    "slack": {"url": f"https://hooks.slack.com/services/{SECRET}"},
    "webhook": {"url": f"https://example.com/{SECRET}", "secret": "whisper"},
}
# Receivers' own limits: https://docs.slack.dev/reference/block-kit/blocks
BLOCK_FIELDS = {
    "header": {"type", "text"},
    "section": {"type", "text", "fields"},
    "actions": {"type", "elements"},
    "context": {"type", "elements"},
}

notices = st.builds(
    Notice,
    happening=st.sampled_from(["fired", "resolved", "test"]),
    severity=st.sampled_from(["page", "info"]),
    title=st.text(max_size=400),
    summary=st.text(max_size=5000),
    link=st.just("https://driftline.example/alerts/7"),
    facts=st.dictionaries(st.text(min_size=1, max_size=40), st.text(max_size=3000), max_size=14),
    labels=st.dictionaries(st.text(max_size=20), st.text(max_size=20), max_size=4),
    detail=st.dictionaries(st.text(max_size=20), st.floats(allow_nan=False) | st.text(max_size=20), max_size=4),
)
PLAIN = Notice("fired", "page", "Quality <fell>", "From 0.8 to 0.5 & on", "https://driftline.example/alerts/7")


def compose(kind: str, notice: Notice, key: str = "notification-7") -> Message:
    made: Message = resolve(CHANNELS[kind])(notice, ADDRESSES[kind], key)
    return made


def test_every_channel_that_people_can_set_can_be_sent_through() -> None:
    assert set(CHANNELS) == set(CHANNEL_KINDS) == set(ADDRESSES)


@pytest.mark.parametrize("kind", CHANNELS)
@given(notice=notices)
def test_every_notice_becomes_a_json_post_to_the_channels_address(kind: str, notice: Notice) -> None:
    message = compose(kind, notice)
    assert message.url == ADDRESSES[kind]["url"]
    assert "json" in message.headers["content-type"]
    assert isinstance(json.loads(message.body), dict)


@pytest.mark.parametrize("kind", CHANNELS)
def test_a_repeat_carries_the_same_key_by_which_the_receiver_drops_it(kind: str) -> None:
    assert compose(kind, PLAIN).headers["idempotency-key"] == compose(kind, PLAIN).headers["idempotency-key"]
    assert compose(kind, PLAIN, "other").headers["idempotency-key"] != "notification-7"


@pytest.mark.parametrize("kind", CHANNELS)
def test_what_is_sent_never_repeats_the_address_or_its_secret(kind: str) -> None:
    message = compose(kind, PLAIN)
    sent = message.body.decode() + json.dumps(dict(message.headers))
    assert SECRET not in sent
    assert "whisper" not in sent


@pytest.mark.parametrize("kind", CHANNELS)
def test_people_are_told_what_happened_and_where_to_look(kind: str) -> None:
    text = compose(kind, PLAIN).body.decode()
    assert "From 0.8 to 0.5" in text
    assert PLAIN.link in text


def check_text(text: dict[str, Any], kind: str, most: int) -> None:
    assert text["type"] == kind
    assert 1 <= len(text["text"]) <= most
    assert text["text"].strip()


@given(notice=notices)
def test_slack_gets_blocks_within_its_limits(notice: Notice) -> None:
    body = json.loads(compose("slack", notice).body)
    assert body["text"].strip()
    assert 1 <= len(body["blocks"]) <= 50
    for block in body["blocks"]:
        assert set(block) <= BLOCK_FIELDS[block["type"]]
        match block["type"]:
            case "header":
                check_text(block["text"], "plain_text", 150)
            case "section":
                assert {"text", "fields"} & set(block)
                if "text" in block:
                    check_text(block["text"], "mrkdwn", 3000)
                assert len(block.get("fields", [])) <= 10
                for field in block.get("fields", []):
                    check_text(field, "mrkdwn", 2000)
            case "actions":
                (button,) = block["elements"]
                check_text(button["text"], "plain_text", 75)
                assert button["url"].startswith("https://")
            case "context":
                for element in block["elements"]:
                    check_text(element, "mrkdwn", 3000)


@given(text=st.text(alphabet="<>&@!#ab", max_size=4000))
@example("&" * 4000)
def test_slack_shows_what_a_title_says_and_mentions_nobody(text: str) -> None:
    body = json.loads(compose("slack", Notice("fired", "page", "t", f"x{text}", "https://a.example")).body)
    for shown in (body["text"], body["blocks"][1]["text"]["text"]):
        assert "<" not in shown
        assert ">" not in shown
        for entity in shown.split("&")[1:]:
            assert entity.startswith(("amp;", "lt;", "gt;")), "an entity was cut in two"


def verify(message: Message, secret: str, now_s: float, tolerance_s: float = 300) -> bool:
    """What the docs tell a receiver to do."""
    parts = dict(part.split("=", 1) for part in message.headers["driftline-signature"].split(","))
    expected = hmac.new(secret.encode(), f"{parts['t']}.".encode() + message.body, hashlib.sha256).hexdigest()
    return hmac.compare_digest(expected, parts["v1"]) and abs(now_s - int(parts["t"])) <= tolerance_s


def test_a_webhooks_signature_proves_sender_body_and_time() -> None:
    message = compose("webhook", PLAIN)
    assert verify(message, "whisper", time())
    assert not verify(message, "guess", time())
    assert not verify(message, "whisper", time() + 3600), "a recorded request played again an hour later"
    forged = Message(message.url, message.body.replace(b"0.8", b"0.9"), message.headers)
    assert not verify(forged, "whisper", time())


def test_a_webhook_without_a_secret_is_not_signed() -> None:
    message = resolve(CHANNELS["webhook"])(PLAIN, {"url": "https://example.com"}, "key")
    assert "driftline-signature" not in message.headers


def test_the_signature_is_hmac_sha256_of_time_dot_body() -> None:
    digest = hmac.new(b"s", b"17.{}", hashlib.sha256).hexdigest()
    assert sign(b"{}", "s", 17) == f"t=17,v1={digest}"


@given(notice=notices)
def test_a_webhook_body_is_a_cloud_event(notice: Notice) -> None:
    event = json.loads(compose("webhook", notice).body)
    assert {"specversion", "id", "source", "type"} <= set(event)
    assert event["specversion"] == "1.0"
    assert event["type"] == f"driftline.alert.{notice.happening}"
    assert event["data"]["summary"] == notice.summary
