"""The road in one process: the real web application, store, jobs and a webhook receiver; only time runs faster."""

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from fastapi.testclient import TestClient
from sqlmodel import col, select

from driftline.moment import now_us
from driftline.store.engine import reading, writing
from driftline.store.tables import Job


@dataclass
class Road:
    """What a test drives: send records, let the clock and the workers do what is due, look at what came out."""

    client: TestClient
    received: list[dict[str, object]]
    url: str
    sent: int = 0
    asked: dict[int, int] = field(default_factory=dict)

    def send(self, records: list[dict[str, object]], truths: list[str]) -> None:
        """One request of records, and one of their true answers as feedback."""
        answer = self.client.post("/v1/records", json={"records": records})
        assert answer.status_code == 200, answer.text
        assert answer.json()["accepted"] == len(records)
        notes = [
            {"id": f"truth-{record['id']}", "generation_id": record["id"], "name": "expected", "value": truth}
            for record, truth in zip(records, truths, strict=True)
        ]
        assert self.client.post("/v1/feedback", json={"feedback": notes}).status_code == 200
        self.sent += len(records)

    def work(self, *, clock: bool = True) -> None:
        """One round of the clock, then every job that is due."""
        from scheduler.clock import ask_for_checks
        from scheduler.work import run_job

        if clock:
            self.asked.clear()
            with writing() as session:
                ask_for_checks(session, self.asked)
        for _ in range(200):
            with reading() as session:
                due = session.exec(
                    select(Job.id).where(Job.state == "queued", Job.due_at <= now_us()).order_by(col(Job.id))
                ).all()
            if not due:
                return
            for job_id in due:
                run_job(job_id)
        raise AssertionError("jobs kept coming")


@pytest.fixture
def road(data_dir: Path, monkeypatch: pytest.MonkeyPatch, forget_settings: Callable[[], None]) -> Iterator[Road]:
    """A fresh store behind the composed web application, told to settle at once."""
    from driftline.access import forget_callers
    from driftline.cli.demo.receiver import Receiver
    from driftline.cli.web import application
    from driftline.store.upgrade import upgrade

    monkeypatch.setenv("DRIFTLINE_SETTLE_S", "0")
    monkeypatch.setenv("DRIFTLINE_ALLOW_PRIVATE_WEBHOOKS", "true")
    forget_settings()
    forget_callers()
    upgrade()
    receiver = Receiver()
    with TestClient(application(collector=True, dashboard=True), base_url="http://127.0.0.1") as client:
        yield Road(client, receiver.received, receiver.url)
    receiver.close()
    forget_callers()


Maker = Callable[[str, int, float, float], tuple[list[dict[str, object]], list[str]]]


@pytest.fixture
def make_records() -> Maker:
    """Makes records of an app: `right` is the share of right answers, `ms` the median latency."""

    def make(variant: str, seed: int, right: float, ms: float) -> tuple[list[dict[str, object]], list[str]]:
        rng = random.Random(f"{variant}{seed}")
        records, truths = [], []
        for place in range(4):
            truth = rng.choice(("Paris", "1848", "the Danube", "yes"))
            said = truth if rng.random() < right else "I do not know that."
            tokens = rng.randint(20, 60)
            latency = ms * rng.lognormvariate(0, 0.3) * (tokens / 40) ** 0.2
            records.append(
                {
                    "id": f"{variant}-{seed}-{place}",
                    "started_at": now_us() / 1e6,
                    "variant": variant,
                    "tags": {"route": "qa"},
                    "input": f"Question {rng.random()}?",
                    "output": said,
                    "latency_ms": latency,
                    "input_tokens": tokens,
                    "output_tokens": len(said.split()),
                }
            )
            truths.append(truth)
        return records, truths

    return make
