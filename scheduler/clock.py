"""The clock: APScheduler decides when, jobs do the work. Any number may run; the one that holds the lease ticks.

Schedules live in the store; the jobs in memory are made anew from them whenever a row changes. A firing is unique on
(schedule, due moment), so a schedule that several clocks see becomes one job.
"""

import logging
import os
import signal
import socket
import threading
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime

from apscheduler.jobstores.base import JobLookupError
from apscheduler.schedulers.background import BackgroundScheduler
from apscheduler.triggers.interval import IntervalTrigger
from sqlalchemy import or_
from sqlalchemy.exc import IntegrityError, OperationalError
from sqlmodel import Session, select

from driftline.acts.coverage import DEFAULT_DAYS, request_coverage
from driftline.acts.default_monitors import ensure_defaults
from driftline.acts.golden import find_version
from driftline.acts.reoptimizations import ask
from driftline.acts.replays import PLANNED, request_replay
from driftline.acts.signals import SIGNALS
from driftline.acts.variants import find_variant
from driftline.errors import DriftlineError
from driftline.moment import SECOND, now_us
from driftline.queue import messages_held, request
from driftline.settings import settings
from driftline.store.claims import claim
from driftline.store.engine import reading, writing
from driftline.store.tables import Firing, Lease, Monitor, Route, Schedule
from scheduler import probes, scoring
from scheduler.heartbeat import ask_for_heartbeat
from scheduler.outbox import ask_for_flushes
from scheduler.proposals import decide_by_policy
from scheduler.reoptimizations import withdraw_expired
from scheduler.rules import ask_for_rules
from scheduler.selfwatch import SelfWatch
from scheduler.sweep import any_silent, sweep
from scheduler.tidying import ask_for_tidying
from scheduler.timetable import MISSED_S, delayed, due_moments, trigger_of

log = logging.getLogger("driftline.clock")
NAME = "clock"
OWNER = f"{socket.gethostname()}:{os.getpid()}"


class Clock:
    """Ticks while it holds the lease, and fires schedules."""

    def __init__(self) -> None:
        self._scheduler = BackgroundScheduler(timezone=UTC)
        self._known: dict[int, int] = {}  # schedule → updated_at
        self._held: dict[str, int] = {}  # queue → messages that wait in the broker, this round
        self._beaten = 0  # when a heartbeat was last asked for
        self._self_watch = SelfWatch(looks_at_clock=False)
        self._asked: dict[int, int] = {}  # monitor → when its check was last asked for
        self._tidied: dict[int, int] = {}  # project → when its tidying was last asked for

    def start(self) -> None:
        """Begins to tick in a thread of its own."""
        self._scheduler.add_job(
            self.tick, IntervalTrigger(seconds=settings().sweep_s), id="tick", max_instances=1, coalesce=True,
            next_run_time=datetime.now(UTC),
        )  # fmt: skip
        self._scheduler.start()

    def stop(self) -> None:
        """Stops after the tick in hand and gives the lease back."""
        self._scheduler.shutdown(wait=True)
        with writing() as session:
            claim(session, Lease, Lease.name == NAME, Lease.owner == OWNER, until=0)

    def tick(self) -> None:
        """One round: renew the lease, send lost work again, ask for what is due. Errors wait for the next round."""
        try:
            if not hold_lease():
                self._forget()
                return
            with reading() as session:
                asked = any_silent(session)
            self._held = messages_held() if asked else {}
            for duty in self._duties:
                self._do(duty)
            self._self_watch.round()
            self._load_schedules()
        except (OperationalError, DriftlineError) as error:
            log.warning("The clock skips a round: %s", error)

    @property
    def _duties(self) -> tuple[Callable[[Session], object], ...]:
        return (
            self._sweep, watch_new_routes, self._ask_for_checks, withdraw_expired, ask_for_flushes,
            self._ask_for_tidying, ask_for_rules, self._ask_for_heartbeat, decide_by_policy,
        )  # fmt: skip

    @staticmethod
    def _do(duty: Callable[[Session], object]) -> None:
        """One duty in a transaction of its own: a defect in one keeps no other from being done."""
        try:
            with writing() as session:
                duty(session)
        except (OperationalError, DriftlineError):
            raise
        except Exception:
            log.exception("The clock could not %s", duty.__name__.strip("_").replace("_", " "))

    def _sweep(self, session: Session) -> None:
        sweep(session, self._held)

    def _ask_for_checks(self, session: Session) -> None:
        ask_for_checks(session, self._asked)

    def _ask_for_tidying(self, session: Session) -> None:
        ask_for_tidying(session, self._tidied)

    def _ask_for_heartbeat(self, session: Session) -> None:
        self._beaten = ask_for_heartbeat(session, self._beaten)

    def _load_schedules(self) -> None:
        with reading() as session:
            rows = {row.id: row for row in session.exec(select(Schedule).where(Schedule.enabled))}
        for gone in set(self._known) - set(rows):
            self._drop(gone)
        for key, row in rows.items():
            if self._known.get(key) != row.updated_at:
                self._known[key] = row.updated_at
                self._add(row)

    def _add(self, row: Schedule) -> None:
        try:
            trigger = trigger_of(row)
        except DriftlineError as error:
            log.error("Schedule %s never fires: %s", row.name, error.message)
            return
        self._scheduler.add_job(
            fire, trigger, args=[row.id], id=f"schedule:{row.id}", replace_existing=True, coalesce=True,
            misfire_grace_time=MISSED_S, max_instances=1,
        )  # fmt: skip
        fire(row.id)  # what came due while no clock ran

    def _drop(self, key: int) -> None:
        with suppress(JobLookupError):  # it never came to be, or has no moment left
            self._scheduler.remove_job(f"schedule:{key}")
        del self._known[key]

    def _forget(self) -> None:
        for key in list(self._known):
            self._drop(key)


def hold_lease() -> bool:
    """Whether this clock is the one that ticks; takes the lease over when its holder fell silent."""
    now = now_us()
    until = now + int(max(15.0, settings().sweep_s * 5) * SECOND)
    with writing() as session:
        if session.get(Lease, NAME) is None:
            session.add(Lease(name=NAME, owner=OWNER, until=until))
            try:
                session.flush()
            except IntegrityError:
                session.rollback()
                return False
            return True
        mine_or_free = or_(Lease.owner == OWNER, Lease.until < now, _is_gone(session))  # type: ignore[arg-type]
        return claim(session, Lease, Lease.name == NAME, mine_or_free, owner=OWNER, until=until)


def _is_gone(session: Session) -> bool:
    host, _, pid = session.get_one(Lease, NAME).owner.rpartition(":")
    if host != socket.gethostname():
        return False
    try:
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        return False
    return False


def watch_new_routes(session: Session) -> None:
    """The default monitors for every route that has none yet."""
    watched = select(Monitor.id).where(Monitor.project_id == Route.project_id, Monitor.route == Route.name)
    for route in session.exec(select(Route).where(~watched.exists())).all():
        ensure_defaults(session, route.project_id, route.name)


def ask_for_checks(session: Session, asked: dict[int, int]) -> None:
    """A check of every monitor whose block may have ended, and scores for those that read an evaluator.

    `asked` remembers when each was last asked for: at every tick for short blocks, once a minute for long ones.
    """
    now = now_us()
    scored: set[str] = set()
    for monitor in session.exec(select(Monitor).where(Monitor.status != "paused")):
        pause = min(60.0, float(monitor.params["block_s"]) / 2) * SECOND
        if now - asked.get(monitor.id, 0) < pause:
            continue
        asked[monitor.id] = now
        request(
            session, "monitor.check", "drift", {"monitor_id": monitor.id}, project_id=monitor.project_id,
            subject=f"monitor:{monitor.id}", dedup_key=f"check:{monitor.id}",
        )  # fmt: skip
        if probes.is_due(session, monitor):
            request(
                session, "monitor.observe", "replay", {"monitor_id": monitor.id}, project_id=monitor.project_id,
                subject=f"monitor:{monitor.id}", dedup_key=f"observe:{monitor.id}",
            )  # fmt: skip
        stream = scoring.bookmark_of(monitor.project_id, monitor.route, monitor.source)
        if SIGNALS[monitor.signal].reads == "scores" and stream not in scored:
            scored.add(stream)
            scoring.ensure_bookmark(session, monitor)
            if scoring.is_due(session, monitor):
                request(
                    session, "traffic.score", "replay", {"route": monitor.route, "evaluator": monitor.source},
                    project_id=monitor.project_id, subject=f"route:{monitor.route}", dedup_key=stream,
                )  # fmt: skip


def fire(schedule_id: int) -> None:
    """Turns a schedule that has come due into its job, once however many clocks do so."""
    with reading() as session:
        row = session.get(Schedule, schedule_id)
    if row is None or not row.enabled:
        return
    for due in due_moments(row, now_us()):
        try:
            with writing() as session:
                if session.exec(select(Firing.id).where(Firing.schedule_id == row.id, Firing.due_at == due)).first():
                    continue
                session.add(Firing(schedule_id=row.id, due_at=due))
                session.flush()
                _ask(session, row, delayed(row, due))
        except IntegrityError:
            log.info("Schedule %s at %s was fired by another clock", row.name, due)
        except DriftlineError as error:
            log.error("Schedule %s could not fire: %s", row.name, error.message)


def _ask(session: Session, row: Schedule, begin: int) -> None:
    if row.kind == "reoptimize":
        wishes = {"because": f"Schedule {row.name} came due.", **row.args}
        ask(session, row.project_id, wishes.pop("route"), f"schedule:{row.name}", trigger="schedule", **wishes)
        return
    version = find_version(session, row.project_id, row.args["golden"])
    if row.kind == "coverage":
        days = float(row.args.get("days", DEFAULT_DAYS))
        request_coverage(session, row.project_id, version, route=str(row.args.get("route", "")), days=days)
        return
    variant = find_variant(session, row.project_id, row.args["variant"])
    baseline = row.args.get("baseline")
    plan = {name: row.args[name] for name in PLANNED if name in row.args}
    request_replay(
        session, row.project_id, variant, version, f"schedule:{row.name}", not_before=begin,
        baseline=find_variant(session, row.project_id, baseline) if baseline else None, **plan,
    )  # fmt: skip


def run_clock() -> int:
    """Ticks until told to stop."""
    stopped = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopped.set())
    clock = Clock()
    clock.start()
    stopped.wait()
    clock.stop()
    return 0
