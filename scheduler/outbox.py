"""The outbox: one row per alert, channel and happening; sent at least once, with a key by which repeats are dropped.

`flush` decides what goes out together and writes that down; `deliver` sends one message. A message's first row leads
it, and its number is the idempotency key, so a crash between sending and noting it repeats the same message.
"""

import json
import random
import threading
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

from sqlalchemy import update
from sqlmodel import Session, col, func, select

from driftline.acts.channels import KINDS
from driftline.acts.telling import ask_flush
from driftline.errors import DriftlineError
from driftline.moment import MINUTE, SECOND, now_us
from driftline.queue import request
from driftline.settings import settings
from driftline.store.engine import reading, writing
from driftline.store.secrets import unseal
from driftline.store.tables import Alert, Channel, Notification
from scheduler.channels import CHANNELS, Notice, Sent
from scheduler.muting import muting_of
from scheduler.notices import digest_of, notice_of
from scheduler.work import Later, TryAgain, Work, resolve

LONGEST_PAUSE_S = 600.0
PATIENCE_S = 1.0  # a thread waits so long for its turn at a channel
FEW = 3  # so many at once go out one by one
STORM = 5  # so many at once are held until it is calm
CALM_S, LONGEST_HOLD_S = 5.0, 90.0
MOST_A_MINUTE = 6  # messages of one channel; what comes beyond waits for the next minute and goes out together
AT_ONCE = 5000  # rows that one message may gather
Pair = tuple[Notification, Alert]


def flush(work: Work) -> Later | dict[str, Any]:
    """Makes messages of what is due for args["channel_id"]; what is muted or over by now is noted as such."""
    with writing() as session:
        work.hold(session)
        channel = session.get_one(Channel, work.args["channel_id"])
        live = _still_to_tell(session, channel, _due(session, channel))
        ready = [pair for pair in live if not _overtakes(session, pair)]
        pause = _hold_s(session, channel, ready)
        if pause is not None:
            return Later(pause, f"{len(ready)} notices wait to go out together")
        sent = 0
        for together in _bundles(channel, ready):
            lead = together[0][0]
            for row, _ in together:
                row.lead_id = lead.id
                session.add(row)
            request(
                session, "notification.send", "notify", {"notification_id": lead.id}, project_id=channel.project_id,
                subject=f"alert:{lead.alert_id}", dedup_key=f"send:{lead.id}", max_attempts=12,
            )  # fmt: skip
            sent += 1
        if len(ready) < len(live):
            return Later(1.0, "earlier notices of the same alerts go first")
    return {"messages": sent, "notices": len(ready)}


def ask_for_flushes(session: Session) -> int:
    """Asks again for every channel that has something due; the clock does so each round, so that none is forgotten."""
    due = select(Notification.channel_id).where(
        Notification.state == "queued", col(Notification.lead_id).is_(None), col(Notification.due_at) <= _settled()
    )
    channels = session.exec(select(Channel).where(col(Channel.id).in_(due.distinct()))).all()
    for channel in channels:
        ask_flush(session, channel, now_us())
    return len(channels)


def _settled() -> int:
    return now_us() - int(settings().group_wait_s * SECOND)


def _due(session: Session, channel: Channel) -> list[Pair]:
    query = (
        select(Notification, Alert)
        .join(Alert, col(Alert.id) == Notification.alert_id)
        .where(
            Notification.channel_id == channel.id, Notification.state == "queued", col(Notification.lead_id).is_(None),
            col(Notification.due_at) <= now_us(),
        )
    )  # fmt: skip
    return list(session.exec(query.order_by(col(Notification.id)).limit(AT_ONCE)).all())


def _still_to_tell(session: Session, channel: Channel, pairs: list[Pair]) -> list[Pair]:
    muting, live = muting_of(session, channel.project_id), []
    for row, alert in pairs:
        if row.happening in ("resolved", "acknowledged"):
            state = None if _was_told(session, row) else "moot"
        else:
            state = "moot" if alert.state == "resolved" else muting.state_of(alert.labels)
        if state is None:
            live.append((row, alert))
        else:
            row.state = state
            session.add(row)
    return live


def _was_told(session: Session, row: Notification) -> bool:
    """Whether the channel was told of the alert before, or will be by a message that is on its way."""
    earlier = select(Notification.id).where(
        Notification.alert_id == row.alert_id, Notification.channel_id == row.channel_id, Notification.id != row.id,
        (col(Notification.state) == "sent") | col(Notification.lead_id).is_not(None) & (Notification.state != "failed"),
    )  # fmt: skip
    return session.exec(earlier.limit(1)).first() is not None


def _overtakes(session: Session, pair: Pair) -> bool:
    """Whether an earlier message of the same alert has not reached the channel yet."""
    row = pair[0]
    earlier = select(Notification.id).where(
        Notification.alert_id == row.alert_id, Notification.channel_id == row.channel_id, Notification.id < row.id,
        col(Notification.lead_id).is_not(None), col(Notification.state).in_(("queued", "sending")),
    )  # fmt: skip
    return session.exec(earlier.limit(1)).first() is not None


def _hold_s(session: Session, channel: Channel, pairs: Sequence[Pair]) -> float | None:
    """How long to wait for more; None where it is time."""
    if not pairs or not KINDS[channel.kind].gathers:
        return None
    now = now_us()
    oldest = min(row.created_at for row, _ in pairs)
    newest = max(row.created_at for row, _ in pairs)
    if len(pairs) > STORM and now - newest < CALM_S * SECOND and now - oldest < LONGEST_HOLD_S * SECOND:
        return CALM_S / 2
    if now - oldest >= MINUTE:
        return None
    of_channel = select(func.count(func.distinct(Notification.lead_id))).where(Notification.channel_id == channel.id)
    recent = session.exec(
        of_channel.where(Notification.state == "sent", col(Notification.sent_at) > now - MINUTE)
    ).one()
    stuck = 0
    if channel.failing_since is not None:
        stuck = session.exec(
            of_channel.where(col(Notification.lead_id).is_not(None), Notification.state == "queued")
        ).one()
    return 5.0 if recent >= MOST_A_MINUTE or stuck else None


def _bundles(channel: Channel, pairs: list[Pair]) -> list[list[Pair]]:
    if len(pairs) <= FEW or not KINDS[channel.kind].gathers:
        return [[pair] for pair in pairs]
    return [pairs]


def deliver(work: Work) -> Later | dict[str, Any]:
    """Sends the message of args["notification_id"]; a crash between sending and writing it down sends it again.

    A process sends one message of a channel at a time, so that a crash repeats no more than one of them. Whoever waits
    for a channel that hangs gives its thread to others after a moment.
    """
    with reading() as session:
        row = session.get_one(Notification, work.args["notification_id"])
    turn = _turn_of(row.channel_id)
    if not turn.acquire(timeout=PATIENCE_S):
        if row.attempt == 0:
            return Later(PATIENCE_S, "another message of this channel is being sent")
        raise TryAgain(row.response or "another message of this channel is being sent", PATIENCE_S)
    try:
        return _deliver(work)
    finally:
        turn.release()


@lru_cache(maxsize=4096)
def _turn_of(channel_id: int) -> threading.Lock:
    return threading.Lock()


def _deliver(work: Work) -> dict[str, Any]:
    with reading() as session:
        row = session.get_one(Notification, work.args["notification_id"])
        if row.state in ("sent", "silenced"):
            return {"state": row.state}
        channel = session.get_one(Channel, row.channel_id)
        together = select(Notification, Alert).join(Alert, col(Alert.id) == Notification.alert_id)
        pairs = session.exec(together.where(Notification.lead_id == row.id).order_by(col(Notification.id))).all()
        alert = session.get_one(Alert, row.alert_id)
        notice = digest_of(pairs) if len(pairs) > 1 else notice_of(session, alert, row, channel)
    _write(work, row, state="sending", attempt=work.attempt)
    try:
        sent = send(channel, notice, f"notification-{row.id}")
    except TryAgain as error:
        pause = error.delay_s or min(LONGEST_PAUSE_S, 2.0**work.attempt) * random.uniform(0.5, 1.0)
        _write(work, row, str(error), state="queued", response=str(error))
        raise TryAgain(str(error), pause) from None
    remote = dict(sent.remote) if sent.remote else None
    _write(work, row, state="sent", sent_at=now_us(), response=sent.answer, remote=remote)
    return {"state": "sent", "answer": sent.answer, "alerts": max(1, len(pairs))}


def test(work: Work) -> dict[str, Any]:
    """Sends a test notice through args["channel_id"]."""
    with reading() as session:
        channel = session.get_one(Channel, work.args["channel_id"])
    notice = Notice(
        "test", "info", "Driftline reaches you here",
        f"{work.args['actor']} asked for this test of the channel {channel.name}.", settings().base_url,
        ref=f"driftline-test-{work.job_id}",
    )  # fmt: skip
    return {"answer": send(channel, notice, f"test-{work.job_id}").answer}


def failed(session: Session, args: dict[str, Any], reason: str) -> None:
    """Shows on the notifications of a message that it could not be delivered."""
    lead = session.get_one(Notification, args["notification_id"])
    _write_all(session, lead, state="failed", response=reason)
    _note_health(session, lead.channel_id, reason)


def send(channel: Channel, notice: Notice, key: str) -> Sent:
    """Sends a notice through a channel; raises TryAgain, or DriftlineError where it is refused for good."""
    if channel.secret is None:
        raise DriftlineError(f"The channel {channel.name} has no address. Set it with `driftline alert channel`.")
    answer: Sent = resolve(CHANNELS[channel.kind])(notice, json.loads(unseal(channel.secret)), key)
    return answer


def _write(work: Work, row: Notification, trouble: str | None = None, **values: Any) -> None:
    with writing() as session:
        work.hold(session)
        _write_all(session, row, **values)
        if trouble is not None or values["state"] == "sent":
            _note_health(session, row.channel_id, trouble)


def _write_all(session: Session, lead: Notification, **values: Any) -> None:
    mine = (col(Notification.id) == lead.id) | (col(Notification.lead_id) == lead.id)
    session.connection().execute(update(Notification).where(mine, col(Notification.state) != "sent").values(**values))


def _note_health(session: Session, channel_id: int, trouble: str | None) -> None:
    channel = session.get_one(Channel, channel_id)
    channel.failing_since = None if trouble is None else channel.failing_since or now_us()
    channel.last_error = trouble
    session.add(channel)
