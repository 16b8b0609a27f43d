"""Slack by bot token: one message per alert that changes in place, a thread with a picture, patience, plain words."""

from typing import Any

import pytest
from sqlmodel import select

from driftline.acts import alerts
from driftline.store.engine import reading, writing
from driftline.store.tables import Alert, Notification
from scheduler.incidents import raise_alerts
from scheduler.sparkline import draw


@pytest.fixture
def bot(world: Any, slack_api: Any) -> Any:
    """A bot channel that is told of every drift."""
    address = {"token": "xoxb-hush-hush", "channel": "C1", "url": slack_api.url, "signing_secret": "sesame"}
    with writing() as session:
        alerts.add_channel(session, world.project_id, "bot", "slack-bot", address, "ann")
        alerts.add_rule(session, world.project_id, "drift", "drift", "ann", channels=["bot"])
    return slack_api


def happens(world: Any, **columns: Any) -> Alert:
    body = {"summary": "Quality fell from 0.8 to 0.5.", "route": "chat"}
    with writing() as session:
        return raise_alerts(
            session, world.project_id, "drift", "k", "Quality drifted", {"route": "chat"}, body, **columns
        )[0]


def rows() -> list[Notification]:
    with reading() as session:
        return list(session.exec(select(Notification).order_by(Notification.id)))  # type: ignore[arg-type]


def test_an_alert_is_one_message_that_changes_and_a_thread(world: Any, bot: Any, work_off: Any) -> None:
    alert = happens(world)
    work_off()
    ((ts, first),) = bot.messages.items()
    assert first["text"].startswith("🔴 Quality drifted")
    assert [e["action_id"] for b in first["blocks"] if b["type"] == "actions" for e in b["elements"]] == [
        "driftline_acknowledge", "driftline_silence", "driftline_open",
    ]  # fmt: skip
    with writing() as session:
        alerts.acknowledge(session, session.get_one(Alert, alert.id), "ann")
    work_off()
    assert list(bot.messages) == [ts], "an acknowledgement changes the message and says nothing more"
    assert bot.messages[ts]["text"].startswith("🟡 Acknowledged")
    with writing() as session:
        alerts.resolve(session, session.get_one(Alert, alert.id), "ann")
    work_off()
    assert bot.messages[ts]["text"].startswith("🟢 Resolved")
    reply = next(message for key, message in bot.messages.items() if key != ts)
    assert reply["thread_ts"] == ts
    assert {row.state for row in rows()} == {"sent"}


def test_a_message_that_was_deleted_is_posted_anew(world: Any, bot: Any, work_off: Any) -> None:
    alert = happens(world)
    work_off()
    bot.messages.clear()
    with writing() as session:
        alerts.resolve(session, session.get_one(Alert, alert.id), "ann")
    work_off()
    assert [message["text"][:10] for message in bot.messages.values()] == ["🟢 Resolved"]


@pytest.mark.parametrize(
    ("failure", "state", "said"),
    [
        ({"ok": False, "error": "invalid_auth"}, "failed", "Slack refused chat.postMessage: invalid_auth"),
        ({"ok": False, "error": "not_in_channel"}, "failed", "the bot is in the channel"),
        ({"ok": False, "error": "ratelimited"}, "queued", "ratelimited"),
        (429, "queued", "answered 429"),
        (503, "queued", "answered 503"),
    ],
)
def test_what_slack_refuses_is_shown_and_what_passes_is_tried_again(
    world: Any, bot: Any, work_off: Any, time: Any, failure: Any, state: str, said: str
) -> None:
    bot.fails = [failure]
    happens(world)
    work_off()
    (row,) = rows()
    assert row.state == state
    assert said in (row.response or "")
    if state == "queued":
        time.advance(60)
        work_off()
        assert rows()[0].state == "sent"


def test_the_picture_of_a_drift_lies_in_its_thread(world: Any, bot: Any, drifted: Any, work_off: Any) -> None:
    from driftline.store.tables import Reading

    with writing() as session:
        for value in (0.9, 0.8, 0.9, 0.5):
            alarm = session.get_one(Reading, drifted.reading_id)
            copy = alarm.model_dump(exclude={"id"}) | {"value": value}
            session.add(Reading(**copy))
    happens(world, drift_event_id=drifted.id)
    work_off()
    assert bot.files["F1"].startswith(b"\x89PNG")
    assert bot.calls == ["chat.postMessage", "files.getUploadURLExternal", "F1", "files.completeUploadExternal"]


def test_a_picture_shows_where_it_went_wrong() -> None:
    import io

    from PIL import Image

    image = Image.open(io.BytesIO(draw([0.9] * 20 + [0.4] * 5, alarm=20)))
    colours = {colour for _, colour in image.convert("RGB").getcolors(100_000) or []}
    assert image.size == (600, 120)
    assert (220, 38, 38) in colours
    assert (37, 99, 235) in colours


def test_a_name_from_traffic_forges_no_line(world: Any, bot: Any, work_off: Any) -> None:
    name = "int8|v2\nall is well <!channel>\x1b[0m"
    body = {"summary": f"{name} fell.", "variant": name}
    with writing() as session:
        raise_alerts(session, world.project_id, "drift", "k", f"{name} drifted", {"route": "chat"}, body)
    work_off()
    ((_, message),) = bot.messages.items()
    shown = r"int8|v2\nall is well &lt;!channel&gt;\x1b[0m"
    assert message["text"] == f"🔴 {shown} drifted: {shown} fell."
    fields = [field["text"] for block in message["blocks"] for field in block.get("fields", [])]
    assert f"*Variant*\n{shown}" in fields
