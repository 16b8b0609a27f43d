"""Driftline watches itself: a dead clock, work that piles up, a collector or workers that are gone.

The clock looks at everything but itself, the process that sends notices looks at the clock. Whoever finds the other
gone sends what is due with its own hands, so that the alert of a dead sender does not wait for that sender.
"""

import logging
import threading
import time
from collections.abc import Iterable
from dataclasses import dataclass

from sqlalchemy.exc import OperationalError
from sqlmodel import Session, col, func, select

from driftline.acts.alerts import ACTOR, end_part
from driftline.errors import DriftlineError
from driftline.moment import DAY, SECOND, now_us
from driftline.settings import settings
from driftline.store.engine import reading, writing
from driftline.store.tables import Alert, AlertPart, AlertRule, Job, Lease, Process
from scheduler.incidents import raise_alerts
from scheduler.outbox import ask_for_flushes
from scheduler.work import run_job

log = logging.getLogger("driftline.selfwatch")
EVERY_S = 10.0
GRACE_S = 45.0  # a restart is no trouble
SILENT_S = 30.0  # processes sign every five seconds
WAITS_S = {"drift": 120.0, "notify": 120.0, "replay": 6 * 3600.0, "build": 6 * 3600.0}  # for which work may lie
ROOMS = {"collector": ("web", "collect"), "workers": ("work",)}
AT_ONCE = 50


@dataclass(frozen=True, slots=True)
class Trouble:
    """Something of Driftline that does not work; `part` names it, the same as long as it lasts."""

    part: str
    title: str
    summary: str


class SelfWatch:
    """Remembers since when something is in trouble; tells it after a while, and that it is over."""

    def __init__(self, *, looks_at_clock: bool) -> None:
        self._looks_at_clock = looks_at_clock
        self._since: dict[str, int] = {}
        self._looked = 0.0

    def round(self) -> list[Trouble]:
        """One look, at most every ten seconds; gives what has lasted."""
        if time.monotonic() - self._looked < EVERY_S:
            return []
        self._looked = time.monotonic()
        with reading() as session:
            found = {one.part: one for one in (_clock(session) if self._looks_at_clock else _the_rest(session))}
        now = now_us()
        self._since = {part: self._since.get(part, now) for part in found}
        lasting = [one for part, one in found.items() if now - self._since[part] >= GRACE_S * SECOND]
        mine = ("clock",) if self._looks_at_clock else ("queue:", *ROOMS)
        with writing() as session:
            report(session, lasting, over=[part for part in _standing(session) if part.startswith(mine)
                                           and part not in found])  # fmt: skip
            if lasting:
                ask_for_flushes(session)
        if any(one.part in ("clock", "workers", "queue:notify") for one in lasting):
            lend_a_hand()
        return lasting

    def watch(self) -> None:
        """Looks for ever, in a thread of its own."""

        def keep_looking() -> None:
            while True:
                time.sleep(EVERY_S)
                try:
                    self.round()
                except (OperationalError, DriftlineError) as error:
                    log.warning("Driftline cannot look at itself now: %s", error)

        threading.Thread(target=keep_looking, name="self-watch", daemon=True).start()


def _clock(session: Session) -> Iterable[Trouble]:
    lease = session.get(Lease, "clock")
    if lease is not None and lease.until < now_us():
        yield Trouble(
            "clock", "No clock ticks",
            "Nothing is checked or scheduled, and lost work is not taken up. Start `driftline clock`, or see its log.",
        )  # fmt: skip


def _the_rest(session: Session) -> Iterable[Trouble]:
    now = now_us()
    waiting = select(Job.queue, func.min(Job.due_at), func.count()).where(Job.state == "queued", Job.due_at <= now)
    for queue, oldest, n in session.exec(waiting.group_by(Job.queue)):
        waited_s = (now - oldest) / SECOND
        if waited_s > WAITS_S.get(queue, 3600.0):
            yield Trouble(
                f"queue:{queue}", f"Work piles up in the queue {queue}",
                f"{n} jobs are due, the oldest for {waited_s:.0f} s. Start more `driftline work --queues {queue}`.",
            )  # fmt: skip
    seen = session.exec(select(Process.name, Process.seen_at).where(col(Process.seen_at) > now - DAY)).all()
    for room, names in ROOMS.items():
        mine = [at for name, at in seen if name.startswith(names)]
        if mine and max(mine) < now - SILENT_S * SECOND:
            silent_s = (now - max(mine)) / SECOND
            what = "no records are taken in" if room == "collector" else "no work is done"
            yield Trouble(
                room, f"The {room} {'is' if room == 'collector' else 'are'} silent",
                f"No process of the {room} has given a sign of life for {silent_s:.0f} s, so {what}.",
            )  # fmt: skip


def _standing(session: Session) -> list[str]:
    query = (
        select(AlertPart.key)
        .join(Alert, col(Alert.id) == AlertPart.alert_id)
        .where(col(AlertPart.key).startswith("self:"), Alert.state != "resolved")
    )
    return [key.removeprefix("self:") for key in session.exec(query.distinct())]


def report(session: Session, lasting: Iterable[Trouble], over: Iterable[str]) -> None:
    """Raises an alert per trouble in every project with a rule on `self`, and ends those that are over."""
    projects = session.exec(select(AlertRule.project_id).where(AlertRule.on == "self", AlertRule.enabled)).all()
    for project_id in sorted(set(projects)):
        for one in lasting:
            raise_alerts(
                session, project_id, "self", f"self:{one.part}", f"Driftline: {one.title}",
                {"part": one.part.partition(":")[0]}, {"summary": one.summary}, part=f"self:{one.part}",
            )  # fmt: skip
        for part in over:
            end_part(session, project_id, f"self:{part}", ACTOR, {"says": "It works again."})


def lend_a_hand() -> int:
    """Does notices that are due in this process; gives how many jobs that were."""
    done = 0
    for _ in range(3):  # a flush asks for messages, these are due in the next round
        with reading() as session:
            due = select(Job.id).where(Job.queue == "notify", Job.state == "queued", Job.due_at <= now_us())
            wanted = due.where(col(Job.kind).in_(("channel.flush", "notification.send")))
            jobs = session.exec(wanted.order_by(col(Job.due_at)).limit(AT_ONCE)).all()
        for job_id in jobs:
            done += run_job(job_id) is not None
        if not jobs:
            time.sleep(settings().group_wait_s / 2)
    return done
