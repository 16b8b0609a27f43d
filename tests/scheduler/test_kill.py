"""A worker that is killed in the middle of a replay: started again, it leaves every answer once."""

import random
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from time import monotonic, sleep
from typing import Any

import pytest
from kombu.exceptions import OperationalError
from sqlmodel import func, select

from driftline.acts.replays import request_replay
from driftline.queue import messenger
from driftline.store.engine import reading, writing
from driftline.store.tables import QUEUES, Answer, Job, Replay, Score
from scheduler.sweep import sweep

ITEMS = 600
BROKERS = {
    "embedded": "",
    "redis": "redis://127.0.0.1:6379/15",
    "rabbitmq": "amqp://guest:guest@127.0.0.1:5672//",
}


@pytest.fixture(params=["embedded", *(pytest.param(name, marks=pytest.mark.slow) for name in ("redis", "rabbitmq"))])
def broker(request: pytest.FixtureRequest, data_dir: object, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Each broker, with empty queues; skips those that do not answer on this machine."""
    from driftline.settings import settings

    monkeypatch.setenv("DRIFTLINE_BROKER_URL", BROKERS[request.param])
    settings.cache_clear()
    messenger.cache_clear()
    try:
        with messenger().connection_for_write() as connection:
            connection.ensure_connection(max_retries=1, timeout=2)
            for queue in QUEUES:
                connection.SimpleQueue(queue).clear()
    except (OperationalError, OSError) as error:
        pytest.skip(f"no {request.param} answers: {error}")
    yield request.param
    messenger.cache_clear()


@pytest.fixture
def start_worker() -> Iterator[Callable[[], subprocess.Popen[bytes]]]:
    """Starts `driftline work`; whatever still runs is killed at the end."""
    started: list[subprocess.Popen[bytes]] = []

    def start() -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "driftline", "work", "--queues", "replay"]
        started.append(subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL))
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.wait()


def answered() -> int:
    with reading() as session:
        return session.exec(select(func.count()).select_from(Answer)).one()


def wait_until(ready: Callable[[], bool], seconds: float = 60.0) -> None:
    """Sweeps as the clock does until it is so."""
    deadline = monotonic() + seconds
    while not ready():
        assert monotonic() < deadline, "it took too long"
        with writing() as session:
            sweep(session)
        sleep(0.05)


def test_a_replay_whose_worker_is_killed_has_every_answer_once(
    project: int, broker: str, world: Any, start_worker: Callable[[], subprocess.Popen[bytes]]
) -> None:
    questions = [(f"Question {place}?", f"answer {place}") for place in range(ITEMS)]
    golden, variant = world.golden(questions), world.recorded("base", ITEMS, questions)
    with writing() as session:
        replay = request_replay(session, project, variant, golden, "test", scorers=["contains", "token_f1"])
    worker = start_worker()
    wait_until(lambda: answered() > 0)
    worker.send_signal(signal.SIGKILL)
    worker.wait()
    assert 0 < answered() < ITEMS, "the kill came too late to be in the middle"

    worker = start_worker()
    wait_until(lambda: _state(replay.id) == "done")
    worker.terminate()
    assert worker.wait(20) == 0

    with reading() as session:
        items = Counter(session.exec(select(Answer.item_id)))
        assert len(items) == ITEMS
        assert set(items.values()) == {1}
        scores = Counter(session.exec(select(Score.answer_id, Score.evaluator)))
        assert len(scores) == 2 * ITEMS
        assert set(scores.values()) == {1}
        job = session.exec(select(Job)).one()
        assert (job.state, job.attempt, job.progress_done) == ("done", 2, ITEMS)


def _state(replay_id: int) -> str:
    with reading() as session:
        return session.get_one(Replay, replay_id).state


@pytest.fixture
def endpoint() -> Iterator[str]:
    """The base URL of a model on this machine that takes 30 ms for an answer."""
    command = [sys.executable, "-m", "benchmarks.stub_endpoint", "--latency-ms", "30"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    yield f"http://127.0.0.1:{process.stdout.readline().strip()}/v1"
    process.kill()
    process.wait()


@pytest.mark.slow
@pytest.mark.parametrize("broker", BROKERS, indirect=True)
def test_two_workers_killed_at_random_leave_a_thousand_answers(
    project: int, broker: str, world: Any, endpoint: str, start_worker: Callable[[], subprocess.Popen[bytes]]
) -> None:
    n, chance = 1000, random.Random(broker)
    questions = [(f"Question {place}?", f"echo of Question {place}?") for place in range(n)]
    config = {"base_url": endpoint, "model": "echo", "stream": False, "retries": 0}
    variant = world.declare("far", {"runner": "openai", "runner_config": config, "chain": []})
    with writing() as session:
        replay = request_replay(session, project, variant, world.golden(questions), "test", scorers=["exact"])
    workers = [start_worker(), start_worker()]
    kills = 0
    for _ in range(4):
        seen = answered()
        wait_until(lambda seen=seen: answered() > seen or _state(replay.id) == "done")  # type: ignore[misc]
        sleep(chance.uniform(0.0, 1.0))
        if _state(replay.id) == "done":
            break
        victim = chance.randrange(2)
        workers[victim].send_signal(signal.SIGKILL)
        workers[victim].wait()
        kills += 1
        workers[victim] = start_worker()
    wait_until(lambda: _state(replay.id) == "done", 120)
    assert kills >= 2, "the kills came too late to be in the middle"
    with reading() as session:
        assert len(session.exec(select(Answer.id)).all()) == n
        assert len(set(session.exec(select(Answer.item_id)))) == n
        assert session.exec(select(Answer.error).where(Answer.error != None)).all() == []  # noqa: E711
        scores = session.exec(select(Score.answer_id, Score.value)).all()
    assert len(scores) == len({answer for answer, _ in scores}) == n
    assert {value for _, value in scores} == {1.0}
