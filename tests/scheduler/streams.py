"""A monitor of one signal and the traffic it watches, for the tests of every signal."""

import random
from collections.abc import Callable
from functools import lru_cache
from typing import Any

from sqlmodel import col, select

from driftline.acts import monitors
from driftline.moment import SECOND
from driftline.store.engine import reading, writing
from driftline.store.tables import DriftEvent, Job, Monitor, Reading

BLOCK_S, PER_BLOCK = 60.0, 20
Columns = Callable[[random.Random], dict[str, Any]]


@lru_cache(maxsize=1)
def _celery() -> Any:
    from scheduler.app import application

    return application()


class Stream:
    """A monitor of one signal and the traffic it watches, a block of twenty records a minute."""

    def __init__(self, world: Any, time: Any, ask: Any, signal: str, **told: Any) -> None:
        self.world, self.time, self.ask, self.rng = world, time, ask, random.Random(1)
        self.variant = world.recorded("base")
        params = {"block_s": BLOCK_S, "reference_items": 400, "reference_s": 0.0} | told.pop("params", {})
        with writing() as session:
            self.monitor_id = monitors.add(session, world.project_id, signal, signal, "test", params=params, **told).id

    def block(self, columns: Columns, n: int = PER_BLOCK) -> list[int]:
        start = self.time.now
        arrivals = [start + int(place * BLOCK_S / n * SECOND) for place in range(n)]
        rows = [columns(self.rng) for _ in range(n)]
        seqs: list[int] = self.world.traffic(
            self.variant, arrivals, **{name: [row[name] for row in rows] for name in rows[0]}
        )
        self.time.now = start + int(BLOCK_S * SECOND)
        return seqs

    def score(self, evaluator: str) -> None:
        """Lets the evaluator read all that came."""
        from scheduler.scoring import ensure_bookmark
        from scheduler.work import run_job

        with writing() as session:
            ensure_bookmark(session, session.get_one(Monitor, self.monitor_id))
        self.time.advance(3)
        job = self.ask("traffic.score", {"route": "default", "evaluator": evaluator}, project_id=self.world.project_id)
        while run_job(job) == "queued":
            pass
        self.time.advance(-3)

    def check(self) -> None:
        """One run of the monitor's check, as a worker's Celery task does it."""
        self.time.advance(3)
        self.ask("monitor.check", {"monitor_id": self.monitor_id}, project_id=self.world.project_id)
        check = _celery().tasks["monitor.check"]
        for _ in range(20):  # more blocks may wait than one turn judges
            with reading() as session:
                waiting = session.exec(select(Job.id).where(Job.kind == "monitor.check", Job.state == "queued")).all()
            if not waiting:
                break
            for job in waiting:
                assert check.apply(args=[job]).successful()
        with reading() as session:
            assert session.exec(select(Job).where(Job.kind == "monitor.check")).all() == [], "it failed"
        self.time.advance(-3)

    def run(self, calm: Columns, moved: Columns, most: int = 60) -> DriftEvent | None:
        """A reference and ten calm blocks, then blocks that moved until it alarms; the event."""
        for _ in range(30):
            self.block(calm)
        self.check()
        assert self.monitor.status == "watching", self.monitor.pending
        for _ in range(most // 10):
            for _ in range(10):
                self.block(moved)
            self.check()
            if self.monitor.status == "alarmed":
                break
        with reading() as session:
            return session.exec(select(DriftEvent)).first()

    @property
    def monitor(self) -> Monitor:
        with reading() as session:
            return session.get_one(Monitor, self.monitor_id)

    @property
    def readings(self) -> list[Reading]:
        with reading() as session:
            return list(session.exec(select(Reading).order_by(col(Reading.id))))
