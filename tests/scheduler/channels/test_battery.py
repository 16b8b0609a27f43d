"""Every channel: what it sends can be read by its receiver, and says who sent it without saying the secret."""

import hashlib
import hmac
import json
from time import time
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from driftline.acts.channels import KINDS, add_channel
from driftline.acts.published import alert_event_schema
from driftline.store.engine import writing
from scheduler.channels import CHANNELS, Line, Message, Notice
from scheduler.channels.webhook import sign
from scheduler.work import resolve

SECRET = "T0/B0/hush-hush"
ADDRESSES: dict[str, dict[str, str]] = {
    "slack": {"url": f"https://hooks.slack.com/services/{SECRET}"},
    "slack-bot": {"token": f"xoxb-{SECRET}", "channel": "C012345"},
    "webhook": {"url": f"https://example.com/{SECRET}", "secret": "whisper"},
    "pagerduty": {"routing_key": SECRET},
    "email": {"host": "mail.example.com", "to": "Ann <ann@example.com>, bob@example.com", "from": "d@example.com",
              "user": "d", "password": SECRET},
    "teams": {"url": f"https://example.webhook.office.com/{SECRET}"},
    "discord": {"url": f"https://discord.com/api/webhooks/{SECRET}"},
    "github": {"repository": "acme/models", "token": f"ghp_{SECRET}"},
    "apprise": {"urls": f"json://example.com/{SECRET}"},
}  # fmt: skip
POSTED = ("slack", "webhook", "pagerduty", "teams", "discord", "github")  # one POST each
IN_BODY = ("pagerduty",)  # whose protocol puts the key into the body
notices = st.builds(
    Notice,
    happening=st.sampled_from(
        ["fired", "joined", "reminder", "escalated", "explained", "acknowledged", "resolved", "test"]
    ),
    severity=st.sampled_from(["page", "warning", "info"]),
    title=st.text(max_size=400),
    summary=st.text(max_size=5000),
    link=st.just("https://driftline.example/alerts/7"),
    facts=st.dictionaries(st.text(min_size=1, max_size=40), st.text(max_size=3000), max_size=14),
    labels=st.dictionaries(st.text(max_size=20), st.text(max_size=20), max_size=4),
    detail=st.dictionaries(st.text(max_size=20), st.floats(allow_nan=False) | st.text(max_size=20), max_size=4),
    ref=st.just("driftline-alert-7"),
    lines=st.lists(
        st.builds(
            Line, st.sampled_from(["page", "info"]), st.text(max_size=300), st.just("https://d.example/alerts/8")
        ),
        max_size=250,
    ),
    acts=st.sampled_from([(), ("acknowledge", "silence", "reoptimize")]),
    alert_id=st.just(7),
    picture_url=st.sampled_from([None, "https://driftline.example/pictures/7.png"]),
)
PLAIN = Notice("fired", "page", "Quality <fell>", "From 0.8 to 0.5 & on", "https://driftline.example/alerts/7")


def compose(kind: str, notice: Notice, key: str = "notification-7") -> Message:
    made: Message = resolve(CHANNELS[kind].replace(":deliver", ":compose"))(notice, ADDRESSES[kind], key)
    return made


def test_every_channel_that_people_can_set_can_be_sent_through() -> None:
    assert set(CHANNELS) == set(KINDS) == set(ADDRESSES)


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_channel_can_be_set(project: int, kind: str) -> None:
    with writing() as session:
        assert add_channel(session, project, kind, kind, ADDRESSES[kind], "ann").kind == kind


@pytest.mark.parametrize("kind", POSTED)
@given(notice=notices)
def test_every_notice_becomes_a_json_post(kind: str, notice: Notice) -> None:
    message = compose(kind, notice)
    assert message.url.startswith(ADDRESSES[kind].get("url", "https://"))
    assert "json" in message.headers["content-type"]
    assert isinstance(json.loads(message.body), dict)


@pytest.mark.parametrize("kind", POSTED)
def test_a_repeat_carries_the_same_key_by_which_the_receiver_drops_it(kind: str) -> None:
    assert compose(kind, PLAIN).headers["idempotency-key"] == compose(kind, PLAIN).headers["idempotency-key"]
    assert compose(kind, PLAIN, "other").headers["idempotency-key"] != "notification-7"


@pytest.mark.parametrize("kind", POSTED)
def test_what_is_sent_never_repeats_the_address_or_its_secret(kind: str) -> None:
    message = compose(kind, PLAIN)
    sent = message.body.decode() + json.dumps({k: v for k, v in message.headers.items() if k != "authorization"})
    assert (SECRET in sent) == (kind in IN_BODY)
    assert "whisper" not in sent


@pytest.mark.parametrize("kind", POSTED)
def test_people_are_told_what_happened_and_where_to_look(kind: str) -> None:
    text = compose(kind, PLAIN).body.decode()
    assert "From 0.8 to 0.5" in text
    assert PLAIN.link in text


@given(notice=notices)
def test_slack_gets_what_slack_takes(slack_refuses: Any, notice: Notice) -> None:
    assert slack_refuses(json.loads(compose("slack", notice).body)) == []


@given(notice=notices)
def test_pagerduty_gets_an_event_within_its_limits(notice: Notice) -> None:
    event = json.loads(compose("pagerduty", notice).body)
    wanted = {"resolved": "resolve", "acknowledged": "acknowledge"}.get(notice.happening, "trigger")
    assert (event["event_action"], event["dedup_key"]) == (wanted, "driftline-alert-7")
    if wanted == "trigger":
        assert 1 <= len(event["payload"]["summary"]) <= 1024
        assert event["payload"]["severity"] in ("critical", "error", "warning", "info")
    assert len(compose("pagerduty", notice).body) < 512_000


@given(notice=notices)
def test_discord_gets_an_embed_within_its_limits(notice: Notice) -> None:
    body = json.loads(compose("discord", notice).body)
    (embed,) = body["embeds"]
    assert body["allowed_mentions"] == {"parse": []}
    assert 1 <= len(embed["title"]) <= 256
    assert len(embed["description"]) <= 4096
    assert len(embed["fields"]) <= 25
    assert all(1 <= len(f["name"]) <= 256 and 1 <= len(f["value"]) <= 1024 for f in embed["fields"])
    texts = [embed["title"], embed["description"], embed["footer"]["text"]]
    assert sum(map(len, texts + [f[part] for f in embed["fields"] for part in ("name", "value")])) <= 6000


@given(notice=notices)
def test_teams_gets_a_card_within_its_size(notice: Notice) -> None:
    message = compose("teams", notice)
    (attachment,) = json.loads(message.body)["attachments"]
    assert attachment["contentType"] == "application/vnd.microsoft.card.adaptive"
    assert attachment["content"]["type"] == "AdaptiveCard"
    assert len(message.body) <= 28_000


@given(notice=notices)
def test_github_gets_an_event_it_can_start_a_workflow_by(notice: Notice) -> None:
    message = compose("github", notice)
    body = json.loads(message.body)
    assert message.url == "https://api.github.com/repos/acme/models/dispatches"
    assert body["event_type"] == f"driftline-{notice.happening}"
    assert len(body["client_payload"]) <= 10
    assert len(message.body) <= 65_535


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
    message = resolve(CHANNELS["webhook"].replace(":deliver", ":compose"))(PLAIN, {"url": "https://example.com"}, "key")
    assert "driftline-signature" not in message.headers


def test_the_signature_is_hmac_sha256_of_time_dot_body() -> None:
    digest = hmac.new(b"s", b"17.{}", hashlib.sha256).hexdigest()
    assert sign(b"{}", "s", 17) == f"t=17,v1={digest}"


@given(notice=notices)
def test_a_webhook_body_is_a_cloud_event_of_the_published_schema(notice: Notice) -> None:
    event = json.loads(compose("webhook", notice).body)
    assert {"specversion", "id", "source", "type"} <= set(event)
    assert event["specversion"] == "1.0"
    assert event["type"] == f"driftline.alert.{notice.happening}"
    assert event["data"]["summary"] == notice.summary
    assert list(Draft202012Validator(alert_event_schema()).iter_errors(event["data"])) == []
