"""What machines ask: is the process alive, do the store and the broker answer, how much is there."""

import time
from collections.abc import Callable, Iterable, Iterator
from threading import Lock

from fastapi import APIRouter
from fastapi.responses import JSONResponse, Response
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from sqlalchemy.exc import SQLAlchemyError
from sqlmodel import Session, col, func, select

from driftline.errors import DriftlineError
from driftline.moment import HOUR, SECOND, now_us
from driftline.store.engine import reading
from driftline.store.tables import (
    CLIENT_REASONS,
    Alert,
    ClientCount,
    DriftEvent,
    Intake,
    Job,
    Monitor,
    Process,
    Project,
    Reoptimization,
    Rollup,
)

BROKER_WAIT_S = 2.0
FRESH_S = 5.0  # scrapes closer together than this get the same figures
PAST_FRESH_S = 600.0  # and what is more than `RECENT` ago is added up no more often than this
RECENT = 2 * HOUR


def routes(
    *,
    own: Callable[[], Iterable[Metric]] = tuple,
    has_room: Callable[[], bool] | None = None,
    needs_broker: bool = True,
) -> APIRouter:
    """GET /healthz, /readyz and /metrics.

    Args:
        own: Figures of this very process, beside those of the installation.
        has_room: Whether what comes in now would be taken, where something comes in.
        needs_broker: Whether the process cannot do its work without the broker.
    """
    router = APIRouter(tags=["health"])
    figures = _Figures()
    process = CollectorRegistry(auto_describe=False)
    for one in (_Own(own), ProcessCollector(registry=None)):
        process.register(one)

    @router.get("/healthz")
    def alive() -> dict[str, str]:
        """The process answers."""
        return {"status": "alive"}

    @router.get("/readyz", responses={503: {"description": "The store or the broker does not answer, or no room."}})
    def ready() -> JSONResponse:
        """The store and the broker answer, and there is room for what comes in."""
        told = {"store": _store() or "ok", "broker": _broker() or "ok"}
        if has_room is not None:
            told["room"] = "ok" if has_room() else "full"
        needed = [name for name in told if name != "broker" or needs_broker]
        return JSONResponse(told, status_code=200 if all(told[name] == "ok" for name in needed) else 503)

    @router.get("/metrics", response_class=Response, responses={200: {"content": {"text/plain": {}}}})
    def metrics() -> Response:
        """Figures of this process and of the whole installation for Prometheus; no names of projects, no text."""
        return Response(generate_latest(process) + figures.text(), media_type=CONTENT_TYPE_LATEST)

    return router


def _store() -> str | None:
    try:
        with reading() as session:
            session.exec(select(Job.id).limit(1)).first()
    except (SQLAlchemyError, DriftlineError):
        return "does not answer"
    return None


def _broker() -> str | None:
    from driftline.queue import (  # six megabytes, which a collector needs for nothing else
        BrokerUnavailable,
        reach_broker,
    )

    try:
        reach_broker(BROKER_WAIT_S)
    except DriftlineError as error:
        return "refuses the connection" if isinstance(error, BrokerUnavailable) and error.refuses else "does not answer"
    return None


class _Own:
    """Figures that are asked for at each scrape."""

    def __init__(self, own: Callable[[], Iterable[Metric]]) -> None:
        self.collect = own


class _Figures:
    """The text of /metrics, read from the store at most every few seconds."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._read_at = -FRESH_S
        self._text = b""
        self._registry = CollectorRegistry(auto_describe=False)
        self._registry.register(self)
        self._past = _Past()

    def text(self) -> bytes:
        with self._lock:
            if time.monotonic() - self._read_at >= FRESH_S:
                self._text = generate_latest(self._registry)
                self._read_at = time.monotonic()
            return self._text

    def collect(self) -> Iterable[Metric]:
        try:
            with reading() as session:
                found = [*_totals(session, self._past), *_states(session), _processes(session)]
        except (SQLAlchemyError, DriftlineError):
            found = []  # figures of the process itself are told all the same
        yield GaugeMetricFamily("driftline_store_up", "Whether the store answers.", bool(found))
        yield from found


class _Past:
    """Sums of all that is long past, kept between scrapes: only the last hours are added up at each of them.

    A record that comes in hours late is counted when the past is added up again; no counter ever falls.
    """

    def __init__(self) -> None:
        self._until, self._read_at = 0, -PAST_FRESH_S
        self._calls: list[int] = []
        self._refused: dict[str, int] = {}

    def totals(self, session: Session) -> tuple[list[int], dict[str, int]]:
        """Calls, errors and nano-dollars of everything stored; refused ones by reason."""
        if time.monotonic() - self._read_at >= PAST_FRESH_S:
            until = now_us() - RECENT
            calls, refused = _calls(session, Rollup.minute < until), _refused(session, Intake.minute < until)
            self._until, self._calls, self._refused = until, calls, refused
            self._read_at = time.monotonic()
        calls = _calls(session, Rollup.minute >= self._until)
        refused = _refused(session, Intake.minute >= self._until)
        both = {*self._refused, *refused}
        return (
            [past + now for past, now in zip(self._calls, calls, strict=True)],
            {reason: self._refused.get(reason, 0) + refused.get(reason, 0) for reason in sorted(both)},
        )


def _calls(session: Session, when: bool) -> list[int]:
    sums = (func.sum(Rollup.n), func.sum(Rollup.errors), func.sum(Rollup.cost_nano))
    of_all = select(*sums).where(col(Rollup.project_id).in_(select(Project.id)), when)  # by the index of a project
    return [int(value or 0) for value in session.exec(of_all).one()]


def _refused(session: Session, when: bool) -> dict[str, int]:
    of_all = select(Intake.reason, func.sum(Intake.n)).where(col(Intake.project_id).in_(select(Project.id)), when)
    return {reason: int(n) for reason, n in session.exec(of_all.group_by(Intake.reason))}


def _totals(session: Session, past: _Past) -> Iterator[Metric]:
    (stored, failed, cost), refused = past.totals(session)
    yield CounterMetricFamily("driftline_generations", "Production calls stored.", value=stored)
    yield CounterMetricFamily("driftline_generation_errors", "Stored calls that ended in an error.", value=failed)
    yield CounterMetricFamily("driftline_cost_dollars", "Cost of the stored calls.", value=cost / 1e9)
    lost = CounterMetricFamily("driftline_not_stored", "Calls handed in or made, not stored anew.", labels=["reason"])
    counts = dict(refused)
    # clients name their reasons themselves, and every new value of a label is a new series for ever
    told = select(ClientCount.reason, func.sum(ClientCount.n)).group_by(ClientCount.reason)
    for reason, n in session.exec(told):
        known = reason if reason in CLIENT_REASONS else "other"
        counts[known] = counts.get(known, 0) + int(n)
    for reason, total in sorted(counts.items()):
        lost.add_metric([reason], total)
    yield lost


def _states(session: Session) -> Iterator[Metric]:
    jobs = GaugeMetricFamily("driftline_jobs", "Unfinished and failed jobs.", labels=["queue", "state"])
    pending = col(Job.state).in_(["queued", "running", "failed"])
    for queue, state, n in session.exec(
        select(Job.queue, Job.state, func.count()).where(pending).group_by(Job.queue, Job.state)
    ):
        jobs.add_metric([queue, state], n)
    yield jobs
    oldest = session.exec(select(func.min(Job.due_at)).where(Job.state == "queued")).one()
    waited = max(0, now_us() - oldest) / SECOND if oldest is not None else 0.0
    yield GaugeMetricFamily("driftline_oldest_job_wait_seconds", "How long the oldest due job has waited.", waited)
    for name, help_text, column in (
        ("driftline_alerts", "Alerts by state.", Alert.state),
        ("driftline_drift_events", "Drift events by state.", DriftEvent.state),
        ("driftline_monitors", "Monitors by state.", Monitor.status),
        ("driftline_reoptimizations", "Re-optimizations by state.", Reoptimization.state),
    ):
        family = GaugeMetricFamily(name, help_text, labels=["state"])
        for state, n in session.exec(select(column, func.count()).group_by(column)):
            family.add_metric([state], n)
        yield family


def _processes(session: Session) -> Metric:
    seen = GaugeMetricFamily("driftline_process_silence_seconds", "Since a process was last seen.", labels=["process"])
    now = now_us()
    for process in session.exec(select(Process)):
        seen.add_metric([f"{process.host}/{process.name}"], max(0, now - process.seen_at) / SECOND)
    return seen
