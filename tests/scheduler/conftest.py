"""A project with the things jobs work on, time that a test moves, and a receiver that answers as it is told."""

import json
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
from sqlmodel import Session

from driftline.moment import SECOND, now_us
from driftline.store.engine import reading, writing
from driftline.store.tables import DriftEvent, Generation, GoldenVersion, Job, Monitor, Reading, Reference, Variant
from scheduler.tasks import TASKS, Task

sys.path.insert(0, str(Path(__file__).parent))  # for what its tests share: test folders are no packages

NOON = 1_780_315_200 * SECOND  # 2026-06-01T12:00:00Z, the start of a block of any usual length


@dataclass
class Time:
    """What Driftline takes for the current moment, microseconds since the epoch."""

    now: int = NOON

    def advance(self, seconds: float) -> None:
        """Lets time pass."""
        self.now += int(seconds * SECOND)


@pytest.fixture
def time(monkeypatch: pytest.MonkeyPatch) -> Time:
    """Driftline's time stands still until the test moves it."""
    from driftline import moment

    standing = Time()
    monkeypatch.setattr(moment, "time", SimpleNamespace(time_ns=lambda: standing.now * 1000))
    return standing


@pytest.fixture(autouse=True)
def send_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Alerts wait for no others, unless the test says so."""
    monkeypatch.setenv("DRIFTLINE_GROUP_WAIT_S", "0")


@pytest.fixture
def project(store: object) -> int:
    """The key of the project `default` in a store on SQLite."""
    return _ensure_project()


@pytest.fixture
def project_on_each(database: str) -> int:
    """The key of the project `default`, once in a store on each database."""
    return _ensure_project()


def _ensure_project() -> int:
    from driftline.store.projects import ensure_project

    with writing() as session:
        return ensure_project(session).id


Handler = Callable[[Any], Any]


@pytest.fixture
def handle(monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    """Adds a kind of job that runs a function of the test; gives its name."""
    from scheduler.work import resolve

    module = ModuleType("handlers_of_a_test")
    monkeypatch.setitem(sys.modules, module.__name__, module)
    resolve.cache_clear()

    def add(run: Handler, *, failed: Callable[..., None] | None = None, routine: bool = False) -> str:
        name = f"run_{len(vars(module))}"
        setattr(module, name, run)
        if failed is not None:
            setattr(module, f"{name}_failed", failed)
        told = f"{module.__name__}:{name}_failed" if failed is not None else None
        monkeypatch.setitem(TASKS, f"test.{name}", Task(f"{module.__name__}:{name}", told, routine))
        return f"test.{name}"

    return add


@pytest.fixture
def ask() -> Callable[..., int]:
    """Requests a job in a transaction of its own; gives its key."""
    from driftline.queue import request

    def ask_for(kind: str, args: Mapping[str, Any] | None = None, **options: Any) -> int:
        with writing() as session:
            return request(session, kind, options.pop("queue", "drift"), dict(args or {}), **options).id

    return ask_for


def job_of(job_id: int) -> Job:
    """The row of a job as it is now."""
    with writing() as session:
        return session.get_one(Job, job_id)


@pytest.fixture
def job() -> Callable[[int], Job]:
    """Reads the row of a job."""
    return job_of


@dataclass
class Receiver:
    """A webhook on this machine: keeps what it is sent, answers as told (the last answer again and again)."""

    answers: list[tuple[int, dict[str, str], str]] = field(default_factory=lambda: [(200, {}, "ok")])
    requests: list[SimpleNamespace] = field(default_factory=list)
    url: str = ""

    @property
    def bodies(self) -> list[dict[str, Any]]:
        """The JSON bodies that came in, in order."""
        return [json.loads(request.body) for request in self.requests]


@pytest.fixture
def receiver(data_dir: object, monkeypatch: pytest.MonkeyPatch) -> Iterator[Receiver]:
    """A real HTTP server on loopback, which channels may call."""
    from driftline.settings import settings

    kept = Receiver()

    class Answer(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            kept.requests.append(SimpleNamespace(path=self.path, headers=dict(self.headers), body=body))
            code, headers, text = kept.answers.pop(0) if len(kept.answers) > 1 else kept.answers[0]
            self.send_response(code)
            for name, value in {**headers, "content-length": str(len(text.encode()))}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(text.encode())

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Answer)
    Thread(target=server.serve_forever, daemon=True).start()
    kept.url = f"http://127.0.0.1:{server.server_port}/services/T0/B0/hush-hush"
    monkeypatch.setenv("DRIFTLINE_ALLOW_PRIVATE_WEBHOOKS", "true")
    settings.cache_clear()
    yield kept
    server.shutdown()
    server.server_close()


QUESTIONS = [(f"Question {place}?", f"answer {place}") for place in range(60)]


@dataclass
class World:
    """Makes what jobs work on: golden sets, recorded variants, traffic."""

    project_id: int

    def golden(self, questions: Sequence[tuple[str, str]] = QUESTIONS, name: str = "qa") -> GoldenVersion:
        """A golden version of questions with their expected answers, if any."""
        from driftline.acts.golden import canonical, import_items

        items = [canonical({"input": question, "expected": answer or None}) for question, answer in questions]
        with writing() as session:
            return import_items(session, self.project_id, name, items, "test", source="test")[0]

    def recorded(self, name: str, right: int = 60, questions: Sequence[tuple[str, str]] = QUESTIONS) -> Variant:
        """A variant whose first `right` recorded answers are right."""
        answers = {
            question: {"text": answer if place < right else "I do not know.", "latency_ms": 100.0 + place}
            for place, (question, answer) in enumerate(questions)
        }
        return self.declare(name, {"runner": "recorded", "runner_config": {"answers": answers}, "chain": []})

    def declare(self, name: str, spec: dict[str, Any]) -> Variant:
        """A variant with this recipe."""
        from driftline.acts.variants import declare

        with writing() as session:
            return declare(session, self.project_id, name, spec, "test")

    def production(self, variant: Variant, route: str = "default") -> None:
        """The variant answers the route and is its baseline."""
        from driftline.acts.variants import find_route, promote, set_baseline

        with writing() as session:
            there = session.get_one(Variant, variant.id)
            promote(session, self.project_id, route, there, "test", "")
            set_baseline(session, find_route(session, self.project_id, route), there, "test")

    def traffic(self, variant: Variant, arrivals: Sequence[int], **columns: Any) -> list[int]:
        """One generation per moment of arrival; a column may be a list with a value for each. Gives their seqs."""
        from driftline.store.hashing import sample_key

        with writing() as session:
            rows = []
            for place, arrived in enumerate(arrivals):
                given = {name: value[place] if isinstance(value, list) else value for name, value in columns.items()}
                identity = given.pop("id", f"{variant.name}-{given.get('route')}-{arrived}-{place}")
                row = {
                    "project_id": self.project_id, "id": identity, "started_at": arrived, "received_at": arrived,
                    "variant_id": variant.id, "sample_key": sample_key(identity), "latency_ms": 400.0,
                    "input": '[{"role": "user", "content": "Who?"}]', "output": "Me.", "output_chars": 3,
                }  # fmt: skip
                rows.append(Generation(**(row | given)))
            session.add_all(rows)
            session.flush()
            return [row.seq for row in rows]


@pytest.fixture
def world(project: int) -> World:
    """The project of a store on SQLite, and makers of what is in it."""
    return World(project)


@pytest.fixture
def world_on_each(project_on_each: int) -> World:
    """The project of a store on each database, and makers of what is in it."""
    return World(project_on_each)


BLOCK_S = 60.0
PER_BLOCK = 20


@dataclass
class Watched:
    """A monitor of errors, and the traffic it watches: blocks of twenty records, three seconds apart."""

    world: World
    time: Time
    ask: Callable[..., int]
    monitor_id: int
    variant: Any

    def block(self, errors: int = 0, n: int = PER_BLOCK) -> None:
        """One block of records of which some are errors, and the time it takes."""
        start = self.time.now
        arrivals = [start + int(place * BLOCK_S / n * SECOND) for place in range(n)]
        states = ["error" if place < errors else "ok" for place in range(n)]
        self.world.traffic(self.variant, arrivals, status=states)
        self.time.now = start + int(BLOCK_S * SECOND)

    def healthy(self, blocks: int) -> None:
        """Blocks with one error in every second of them."""
        for number in range(blocks):
            self.block(errors=number % 2)

    def check(self) -> str | None:
        """One run of the monitor's check, after records have settled."""
        self.time.advance(3)
        from scheduler.work import run_job

        outcome = run_job(self.ask("monitor.check", {"monitor_id": self.monitor_id}, project_id=self.world.project_id))
        self.time.advance(-3)
        return outcome

    @property
    def monitor(self) -> Monitor:
        """Its row as it is now."""
        with reading() as session:
            return session.get_one(Monitor, self.monitor_id)


@pytest.fixture
def watch_errors(world: World, time: Time, ask: Callable[..., int]) -> Callable[..., Watched]:
    """A monitor of the errors of variant `base` that collects a reference of 400 records."""
    from driftline.acts import monitors

    def watch(**params: Any) -> Watched:
        variant = world.recorded("base")
        told = {"block_s": BLOCK_S, "reference_items": 400, "reference_s": 0.0, "margin": 0.02} | params
        with writing() as session:
            row = monitors.add(session, world.project_id, "errors", "errors", "test", params=told)
        return Watched(world, time, ask, row.id, variant)

    return watch


@pytest.fixture
def stream(world: World, time: Time, ask: Callable[..., int]) -> Callable[..., Any]:
    """A monitor of a signal and the traffic it watches; see `streams.Stream`."""
    from streams import Stream

    return lambda signal, **told: Stream(world, time, ask, signal, **told)


@pytest.fixture
def golden(world: World) -> GoldenVersion:
    """The golden version that judges."""
    return world.golden()


@pytest.fixture
def drifted(world: World, golden: GoldenVersion) -> DriftEvent:
    """Variant int8 took the place of base, and its quality fell."""
    base, int8 = world.recorded("base"), world.recorded("int8", right=30)
    world.production(base)
    from driftline.acts.variants import promote

    with writing() as session:
        promote(session, world.project_id, "default", session.get_one(Variant, int8.id), "ann", "smaller")
        now = now_us()
        monitor = Monitor(
            project_id=world.project_id,
            name="right",
            signal="quality",
            detector="esr",
            status="alarmed",
            created_at=now,
        )
        session.add(monitor)
        session.flush()
        reference = Reference(monitor_id=monitor.id, content_hash="", n=1, since=now, until=now, frozen_at=now)
        session.add(reference)
        session.flush()
        alarm = Reading(
            monitor_id=monitor.id, reference_id=reference.id, block_start=now, block_end=now, n=1, statistic=20.0,
            threshold=16.0, alarmed=True, created_at=now,
        )  # fmt: skip
        session.add(alarm)
        session.flush()
        event = DriftEvent(
            project_id=world.project_id, monitor_id=monitor.id, reading_id=alarm.id, variant_id=int8.id,
            detected_at=now, cause="variant",
        )  # fmt: skip
        session.add(event)
    return event


@pytest.fixture
def repair(world: World, drifted: DriftEvent, golden: GoldenVersion) -> Callable[..., Any]:
    """Proposes a repair with candidates of the test's own; see `repairs.propose_repair`."""
    from repairs import propose_repair

    return lambda **given: propose_repair(world, drifted, golden, **given)


@pytest.fixture
def everything() -> Callable[[], str]:
    """All rows of all tables as one text: what a person with the database would read."""
    from driftline.store.tables import tables_of

    def read() -> str:
        with writing() as session:
            dialect = session.connection().dialect.name
            return "\n".join(_rows(session, table) for table in tables_of(dialect))

    return read


def _rows(session: Session, table: Any) -> str:
    found = session.connection().execute(table.select()).mappings()
    return "\n".join(f"{table.name} {dict(row)}" for row in found)
