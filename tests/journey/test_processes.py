"""`driftline up` as real processes that are killed at random moments: nothing is lost, nothing comes twice."""

import json
import os
import random
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import or_
from sqlmodel import col, func, select

from driftline.acts import alerts, golden, monitors
from driftline.acts.replays import request_replay
from driftline.acts.variants import declare, find_route, promote, set_baseline
from driftline.moment import SECOND, now_us
from driftline.store.engine import reading, writing
from driftline.store.projects import ensure_project
from driftline.store.tables import (
    Answer,
    Comparison,
    DriftEvent,
    Generation,
    GoldenVersion,
    Job,
    Monitor,
    Notification,
    Process,
    Replay,
    Score,
    Variant,
)  # fmt: skip

APP = Path(__file__).parent / "watched_app.py"
CHILDREN = ("web", "clock", "worker-models", "worker-checks", "worker-notices")
SCORERS = ("contains", "token_f1")
ITEMS = 240
REFERENCE = 150
SOON_S, LATE_S, STOP_S = 20.0, 90.0, 15.0


def wait_for(condition: Callable[[], Any], within_s: float, what: str) -> Any:
    """What the condition gives as soon as that is true; fails with `what` was waited for."""
    deadline = time.monotonic() + within_s
    while time.monotonic() < deadline:
        if found := condition():
            return found
        time.sleep(0.05)
    raise AssertionError(f"not within {within_s:.0f} s: {what}")


def free_port() -> int:
    with closing(socket.create_server(("127.0.0.1", 0))) as probe:
        port: int = probe.getsockname()[1]
        return port


@dataclass
class Up:
    """One `driftline up`, its log and its children."""

    data_dir: Path
    port: int = field(default_factory=free_port)
    kills: Counter[str] = field(default_factory=Counter)
    process: subprocess.Popen[bytes] | None = None

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def said(self) -> str:
        return (self.data_dir.parent / "up.out").read_text()

    def start(self) -> "Up":
        self.kills.clear()  # rows count the restarts since this start
        with (self.data_dir.parent / "up.out").open("ab") as out:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "driftline", "up"], stdout=out, stderr=out, env=self.environment()
            )
        return self

    def environment(self) -> dict[str, str]:
        told = {
            "DRIFTLINE_DATA_DIR": str(self.data_dir), "DRIFTLINE_PORT": str(self.port), "DRIFTLINE_SWEEP_S": "0.5",
            "DRIFTLINE_SETTLE_S": "0.5", "DRIFTLINE_ALLOW_PRIVATE_WEBHOOKS": "true", "OMP_NUM_THREADS": "1",
        }  # fmt: skip
        return {**os.environ, **told}

    def answers(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.address}/readyz", timeout=2) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False

    def ready(self) -> "Up":
        wait_for(self.answers, LATE_S, "the web answers")
        wait_for(lambda: set(self.children()) == set(CHILDREN), SOON_S, "all children run")
        return self

    def children(self) -> dict[str, int]:
        """Name → pid of the children of this supervisor."""
        assert self.process is not None
        return {name: pid for pid, (parent, name) in driftlines().items() if parent == self.process.pid}

    def kill(self, name: str) -> None:
        """SIGKILL for a child, as soon as there is one."""
        pid = wait_for(lambda: self.children().get(name), 2 * SOON_S, f"{name} runs (again)")
        os.kill(pid, signal.SIGKILL)
        self.kills[name] += 1
        wait_for(lambda: self.children().get(name) != pid, SOON_S, f"the supervisor notices the death of {name}")

    def terminate(self) -> int:
        """SIGTERM; the exit code."""
        assert self.process is not None
        self.process.terminate()
        return self.process.wait(STOP_S)


def driftlines() -> dict[int, tuple[int, str]]:
    """Pid → (parent's pid, name) of the living children of any `driftline up` on this machine."""
    listed = subprocess.run(
        ["ps", "-A", "-ww", "-o", "pid=,ppid=,stat=,args="], capture_output=True, text=True, check=True
    )
    found = {}
    for line in listed.stdout.splitlines():
        pid, parent, state, *arguments = line.split()
        if "driftline" in arguments and "--tether" in arguments and not state.startswith("Z"):
            name = arguments[arguments.index("driftline") + 1]
            found[int(pid)] = (int(parent), arguments[arguments.index("--name") + 1] if name == "work" else name)
    return found


@pytest.fixture
def up(store: Path) -> Iterator[Up]:
    """A `driftline up` that the test starts, and that is gone after it."""
    running = Up(store)
    yield running
    children = running.children().values() if running.process is not None else ()
    if running.process is not None and running.process.poll() is None:
        running.process.kill()
        running.process.wait()
    for pid in children:
        if pid in driftlines():
            os.kill(pid, signal.SIGKILL)


@contextmanager
def watched_app(up: Up, seed: int) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, str(APP), up.address, str(up.data_dir.parent / "spool"), str(seed)]
    app = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        yield app
    finally:
        app.kill()
        app.communicate()


def next_phase(app: subprocess.Popen[str]) -> None:
    assert app.stdin is not None
    app.stdin.write("\n")
    app.stdin.flush()


def prepare(url: str) -> None:
    """A baseline and a worse variant with recorded answers, a golden set, two monitors, and Slack told of drift."""
    params = {"block_s": 0.5, "reference_items": REFERENCE, "reference_s": 0.0}
    questions = [f"Which number is {n}?" for n in range(ITEMS)]
    items = [golden.canonical({"input": asked, "expected": str(n)}) for n, asked in enumerate(questions)]
    with writing() as session:
        project = ensure_project(session)
        golden.import_items(session, project.id, "numbers", items, "test", source="test")
        for name, wrong_of_ten in (("base", 1), ("int8", 6)):
            said = {asked: str(n) if n % 10 >= wrong_of_ten else "no idea" for n, asked in enumerate(questions)}
            spec = {"runner": "recorded", "runner_config": {"answers": said}, "chain": []}
            variant = declare(session, project.id, name, spec, "test")
            if name == "base":
                promote(session, project.id, "qa", variant, "test", "first")
                set_baseline(session, find_route(session, project.id, "qa"), variant, "test")
        alerts.add_channel(session, project.id, "slack", "slack", {"url": url}, "test")
        alerts.add_rule(session, project.id, "drift", "drift", "test", channels=["slack"])
        monitors.add(session, project.id, "qa/latency", "latency", "test", route="qa", params=params)
        monitors.add(session, project.id, "qa/right", "quality", "test", route="qa", source="contains", params=params)


def replay() -> int:
    """Asks for a replay of the worse variant, to be compared with the baseline's."""
    with writing() as session:
        named = {variant.name: variant for variant in session.exec(select(Variant))}
        version = session.exec(select(GoldenVersion)).one()
        return request_replay(
            session, 1, named["int8"], version, "test", baseline=named["base"], scorers=list(SCORERS)
        ).id  # fmt: skip


def answered(replay_id: int) -> int:
    with reading() as session:
        return session.exec(select(func.count(col(Answer.id))).where(Answer.replay_id == replay_id)).one()


def count(query: Any) -> int:
    with reading() as session:
        return len(session.exec(query).all())


def all_done(replays: int) -> bool:
    """Whether all that was asked for is there: replays, comparisons, both drifts and their alerts."""
    return (
        count(select(Replay).where(Replay.state == "done")) == replays + 1
        and count(select(Comparison)) >= replays * len(SCORERS)
        and count(select(Notification).where(Notification.state == "sent")) >= 2
    )


def check_work(replays: int, injected: float, received: list[dict[str, object]]) -> None:
    """Every replay is whole, compared once by each scorer, and every drift was told."""
    with reading() as session:
        per_replay = session.exec(select(Answer.replay_id, func.count()).group_by(col(Answer.replay_id))).all()
        assert dict(per_replay) == {row.id: ITEMS for row in session.exec(select(Replay))}
        scored = select(Score.evaluator, func.count()).where(col(Score.answer_id).is_not(None))
        assert dict(session.exec(scored.group_by(Score.evaluator)).all()) == dict.fromkeys(
            SCORERS, ITEMS * (replays + 1)
        )
        judged = [(row.candidate_replay_id, row.evaluator, row.verdict) for row in session.exec(select(Comparison))]
        assert len(judged) == len(set(judged)) == replays * len(SCORERS)
        assert {verdict for _, _, verdict in judged} == {"worse"}
        found = list(
            session.exec(select(DriftEvent, Monitor.signal).join(Monitor, col(Monitor.id) == DriftEvent.monitor_id))
        )
        assert sorted(signal for _, signal in found) == ["latency", "quality"]
        assert all(event.detected_at > injected * SECOND for event, _ in found)
        told = session.exec(select(Notification)).all()
        assert [(row.happening, row.state) for row in told] == [("fired", "sent")] * 2
        assert session.exec(select(Job).where(Job.state == "failed")).all() == []
    # A worker that dies between sending and writing that down sends once more, under the same key.
    assert {note["key"] for note in received} == {f"notification-{row.id}" for row in told}


def check_traffic(app: dict[str, Any]) -> None:
    """Every record that the SDK took is stored exactly once, and it knows so."""
    stats = app["stats"]
    assert app["delivered"]
    assert stats["dropped"] == {}
    assert stats["recorded"] + stats["adopted"] == stats["sent"] == len(app["ids"])
    with reading() as session:
        stored = session.exec(select(Generation.id)).all()
    assert Counter(stored) == Counter(app["ids"])


def drive(up: Up, received: list[dict[str, object]], seed: int, rounds: int, supervisor_dies: bool = False) -> None:
    """Traffic, replays and checks while everything is killed over and over; then everything must be there."""
    rng = random.Random(seed)
    asked = 0
    with watched_app(up, seed) as app:
        wait_for(lambda: count(select(Monitor).where(Monitor.status != "collecting")) == 2, LATE_S, "both references")
        for turn in range(rounds):
            if turn == rounds // 2:
                next_phase(app)
            running, asked = replay(), asked + 1
            order = rng.sample(CHILDREN, len(CHILDREN))
            for name in order:
                if name == "worker-models" and rng.random() < 0.7:
                    wait_for(lambda running=running: answered(running) > 0, LATE_S, "the replay has begun")
                up.kill(name)
                time.sleep(rng.uniform(0.0, 1.5))
            if supervisor_dies and turn == rounds - 2:
                up.process.kill()
                up.process.wait()
                up.start().ready()
        wait_for(lambda: all_done(asked), LATE_S, "replays, comparisons and alerts")
        next_phase(app)
        out, _ = app.communicate(timeout=LATE_S)
    facts = json.loads(out)
    check_traffic(facts)
    check_work(asked, facts["began"][1], received)
    check_restarts(up)


def check_restarts(up: Up) -> None:
    """The rows that the dashboard shows tell each death, and that all live."""
    up.ready()
    living = up.children()

    def shown() -> bool:
        with reading() as session:
            return {row.name: row.pid for row in session.exec(select(Process))} == living

    wait_for(shown, SOON_S, "every process signs")
    with reading() as session:
        rows = {row.name: (row.restarts, row.last_exit) for row in session.exec(select(Process))}
    assert rows == {name: (n, "signal SIGKILL" if n else None) for name, n in ((c, up.kills[c]) for c in CHILDREN)}


@pytest.fixture
def receiver() -> Iterator[Any]:
    from driftline.cli.demo.receiver import Receiver

    opened = Receiver()
    yield opened
    opened.close()


def test_whatever_is_killed_comes_back_and_nothing_is_lost_or_twice(up: Up, receiver: Any) -> None:
    prepare(receiver.url)
    up.start().ready()
    drive(up, receiver.received, seed=1, rounds=2)
    # a report may take longer than a stop waits, and what the last one killed left waits for the sweep
    left = or_(col(Job.lease_until) < now_us(), Job.kind == "event.report")  # type: ignore[arg-type]
    wait_for(lambda: count(select(Job).where(Job.state == "running", left)) == 0, LATE_S, "what was in hand")
    began = time.monotonic()
    assert up.terminate() == 0
    assert time.monotonic() - began < STOP_S
    assert up.said.count("is started again") == sum(up.kills.values())
    assert "Traceback" not in up.said
    assert count(select(Job).where(Job.state == "running")) == 0


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(10, 15))
def test_long_random_killing_loses_nothing(up: Up, receiver: Any, seed: int) -> None:
    prepare(receiver.url)
    up.start().ready()
    drive(up, receiver.received, seed, rounds=4, supervisor_dies=True)
    assert up.terminate() == 0


def test_the_work_of_a_killed_supervisor_is_completed_by_the_next_one(up: Up) -> None:
    prepare("http://127.0.0.1:9/nobody")
    up.start().ready()
    begun = replay()
    wait_for(lambda: answered(begun) > 0, LATE_S, "the replay has begun")
    orphans = up.children()
    assert up.process is not None
    up.process.kill()
    up.process.wait()
    up.start()  # at once: the port and the store are still in the hands of the orphans
    up.ready()
    assert not set(orphans.values()) & set(driftlines()), "a child outlived its supervisor and the next start"
    wait_for(lambda: count(select(Comparison)) == len(SCORERS), LATE_S, "the comparison")
    assert answered(begun) == ITEMS
    assert up.terminate() == 0


def test_a_second_start_and_a_taken_port_are_told_in_one_sentence(up: Up, tmp_path: Path) -> None:
    up.start().ready()
    second = subprocess.run(
        [sys.executable, "-m", "driftline", "up"], env=up.environment() | {"DRIFTLINE_PORT": "0"},
        capture_output=True, text=True, timeout=LATE_S,
    )  # fmt: skip
    assert second.returncode != 0
    assert second.stderr.splitlines() == [
        f"driftline: Another Driftline is up on the data folder {up.data_dir}. "
        "Stop it, or set DRIFTLINE_DATA_DIR to another folder."
    ]
    elsewhere = up.environment() | {"DRIFTLINE_DATA_DIR": str(tmp_path / "elsewhere")}
    third = subprocess.run(
        [sys.executable, "-m", "driftline", "up"], env=elsewhere, capture_output=True, text=True, timeout=LATE_S
    )
    assert third.returncode != 0
    assert len(third.stderr.splitlines()) == 1
    assert f"Cannot listen on 127.0.0.1:{up.port} (Address already in use)" in third.stderr
    assert up.answers(), "the first one was disturbed"
    assert up.terminate() == 0
