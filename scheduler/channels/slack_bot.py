"""Slack by a bot token: one message per alert, changed in place; what follows is said in its thread, with a picture.

Scopes of the token: chat:write, and files:write for the picture. https://docs.slack.dev/reference/methods
"""

import json
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlencode

from scheduler.channels.notice import Address, Notice, Sent
from scheduler.channels.sending import Undeliverable, call
from scheduler.channels.slack import content
from scheduler.work import TryAgain

API = "https://slack.com/api"
FOR_LATER = frozenset({"ratelimited", "rate_limited", "internal_error", "fatal_error", "service_unavailable",
                       "request_timeout", "team_added_to_org"})  # fmt: skip
GONE = frozenset({"message_not_found", "cant_update_message", "thread_not_found", "edit_window_closed"})


class Refused(Undeliverable):
    """Slack said no; `error` is its word for why."""

    def __init__(self, method: str, error: str) -> None:
        super().__init__(
            f"Slack refused {method}: {error}. Check the token's scopes and that the bot is in the channel."
        )
        self.error = error


def deliver(notice: Notice, address: Address, key: str) -> Sent:
    """Posts the first message of an alert, with its picture; later ones change it and are said in its thread."""
    thread = notice.thread
    if thread is not None:
        try:
            return _follow(notice, address, key, thread)
        except Refused as refusal:
            if refusal.error not in GONE:
                raise
    return _begin(notice, address, key)


def _begin(notice: Notice, address: Address, key: str) -> Sent:
    posted = _call(address, "chat.postMessage", _body(notice, address["channel"], key))
    remote = {"channel": posted["channel"], "ts": posted["ts"]}
    if notice.picture is not None:
        _attach(notice.picture, address, remote)
    return Sent(f"posted {posted['ts']}", remote)


def _follow(notice: Notice, address: Address, key: str, thread: Mapping[str, Any]) -> Sent:
    place = {"channel": str(thread["channel"]), "ts": str(thread["ts"])}
    _call(address, "chat.update", {**_body(notice, place["channel"], key), "ts": place["ts"]})
    if notice.happening != "acknowledged":
        reply = {
            "channel": place["channel"], "thread_ts": place["ts"], "text": content(notice)["text"],
            "reply_broadcast": notice.happening in ("reminder", "escalated"), "metadata": _metadata(key),
        }  # fmt: skip
        _call(address, "chat.postMessage", reply)
    return Sent(f"changed {place['ts']}", place)


def _body(notice: Notice, channel: str, key: str) -> dict[str, Any]:
    return {"channel": channel, **content(notice), "unfurl_links": False, "metadata": _metadata(key)}


def _metadata(key: str) -> dict[str, Any]:
    return {"event_type": "driftline_alert", "event_payload": {"idempotency_key": key}}


def _attach(picture: bytes, address: Address, remote: Mapping[str, str]) -> None:
    """Puts the picture into the thread. An alert is told without it where Slack does not take it."""
    try:
        wish = {"filename": "driftline.png", "length": str(len(picture))}
        place = _call(address, "files.getUploadURLExternal", wish, form=True)
        call(place["upload_url"], picture, {"content-type": "application/octet-stream"})
        done = {"files": [{"id": place["file_id"], "title": "The watched figure, red since the alarm"}],
                "channel_id": remote["channel"], "thread_ts": remote["ts"]}  # fmt: skip
        _call(address, "files.completeUploadExternal", done)
    except (TryAgain, Undeliverable):
        return


def _call(address: Address, method: str, body: Mapping[str, Any], *, form: bool = False) -> dict[str, Any]:
    kind = "application/x-www-form-urlencoded" if form else "application/json; charset=utf-8"
    headers = {"content-type": kind, "authorization": f"Bearer {address['token']}"}
    sent = urlencode(body).encode() if form else json.dumps(body, ensure_ascii=False).encode()
    _, text = call(f"{address.get('url', API).rstrip('/')}/{method}", sent, headers)
    try:
        answer: dict[str, Any] = json.loads(text)
    except ValueError:
        raise TryAgain(f"Slack answered {method} with something that is no JSON") from None
    if answer.get("ok") is True:
        return answer
    error = str(answer.get("error", "unknown"))
    if error in FOR_LATER:
        raise TryAgain(f"Slack answered {method} with {error}")
    raise Refused(method, error)
