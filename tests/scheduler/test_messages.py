"""Messages are hints: sent after the commit, never without it, and not missed when the broker is away."""

import shutil
import socket
import subprocess
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from time import monotonic, sleep
from typing import Any

import pytest
from sqlmodel import select

from driftline import queue
from driftline.moment import now_us
from driftline.queue import messenger, request
from driftline.store.engine import reading, writing
from driftline.store.tables import Job
from scheduler.app import run_worker
from scheduler.sweep import sweep


@pytest.fixture
def waiting(data_dir: Path) -> Callable[[], int]:
    """How many messages lie in the embedded broker's queue `drift`."""
    return lambda: len(list((data_dir / "broker" / "drift").glob("[0-9]*")))


def test_a_message_is_sent_when_its_job_has_been_committed(project_on_each: int, waiting: Callable[[], int]) -> None:
    with writing() as session:
        request(session, "monitor.check", "drift", {"monitor_id": 1})
        assert waiting() == 0
    assert waiting() == 1


def test_a_job_that_was_rolled_back_sends_nothing(project_on_each: int, waiting: Callable[[], int]) -> None:
    def fail() -> None:
        with writing() as session:
            request(session, "monitor.check", "drift", {"monitor_id": 1})
            raise RuntimeError("a defect")

    with pytest.raises(RuntimeError, match="a defect"):
        fail()
    with writing() as session:
        assert session.exec(select(Job)).all() == []
    assert waiting() == 0


def test_after_a_rollback_the_same_session_sends_only_what_came_later(project: int, waiting: Callable[[], int]) -> None:
    with writing() as session:
        request(session, "monitor.check", "drift", {"monitor_id": 1})
        session.rollback()
        request(session, "monitor.check", "drift", {"monitor_id": 2})
    assert waiting() == 1
    with reading() as session:
        assert [job.args for job in session.exec(select(Job))] == [{"monitor_id": 2}]


def test_a_job_for_later_is_not_sent_yet(project: int, waiting: Callable[[], int]) -> None:
    with writing() as session:
        request(session, "notification.send", "drift", {"alert_id": 1}, due_at=now_us() + 20_000_000)
    assert waiting() == 0


def test_a_message_that_lost_its_content_is_dropped_and_the_next_one_taken(
    project: int, data_dir: Path, waiting: Callable[[], int]
) -> None:
    with writing() as session:
        request(session, "monitor.check", "drift", {"monitor_id": 1})
    folder = data_dir / "broker" / "drift"
    (folder / "0-torn").write_bytes(b"")
    (folder / "0-torn-too").write_bytes(b'{"body": "\xff')
    with messenger().connection_for_read() as connection:
        message = connection.SimpleQueue("drift").get(timeout=5)
        message.ack()
    assert message.headers["task"] == "monitor.check"
    assert waiting() == 0


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return int(taken.getsockname()[1])


@pytest.fixture
def broker(monkeypatch: pytest.MonkeyPatch, data_dir: Path) -> Iterator[Callable[[str], None]]:
    """Points this process at a broker."""
    from driftline.settings import settings

    def use(url: str) -> None:
        monkeypatch.setenv("DRIFTLINE_BROKER_URL", url)
        settings.cache_clear()
        messenger.cache_clear()

    yield use
    messenger.cache_clear()


@pytest.mark.parametrize("scheme", ["redis", "amqp"])
def test_a_broker_that_is_away_holds_no_request_up_and_loses_no_job(
    project: int, broker: Callable[[str], None], scheme: str
) -> None:
    broker(f"{scheme}://127.0.0.1:{free_port()}//")
    began = monotonic()
    with writing() as session:
        request(session, "monitor.check", "drift", {"monitor_id": 1})
    assert monotonic() - began < 10  # and not as long as it stays away
    with writing() as session:
        job = session.exec(select(Job)).one()
        assert job.state == "queued"


@pytest.mark.parametrize("refused", ["guest:wrong@127.0.0.1:5672//", "guest:guest@127.0.0.1:5672/nowhere"])
def test_a_broker_that_refuses_us_fails_no_request_and_is_named(
    project: int, broker: Callable[[str], None], refused: str
) -> None:
    broker("amqp://guest:guest@127.0.0.1:5672//")
    try:
        queue.reach_broker()
    except queue.BrokerUnavailable as error:
        pytest.skip(error.message)
    broker(f"amqp://{refused}")
    with writing() as session:
        request(session, "monitor.check", "drift", {"monitor_id": 1})
    with reading() as session:
        assert session.exec(select(Job)).one().state == "queued"
    with pytest.raises(queue.BrokerUnavailable, match=r"refuses the connection.*Check DRIFTLINE_BROKER_URL") as told:
        run_worker(["drift"])
    assert "wrong" not in told.value.message


@pytest.mark.skipif(shutil.which("redis-server") is None, reason="redis-server is not installed")
def test_a_broker_that_dies_and_comes_back_is_sent_the_job_by_the_sweep(
    project: int, broker: Callable[[str], None], tmp_path: Path, time: Any
) -> None:
    port = free_port()

    def start() -> subprocess.Popen[bytes]:
        server = subprocess.Popen(
            ["redis-server", "--port", str(port), "--save", "", "--dir", str(tmp_path)], stdout=subprocess.DEVNULL
        )
        for _ in range(200):
            try:
                socket.create_connection(("127.0.0.1", port)).close()
                return server
            except OSError:
                sleep(0.05)
        raise AssertionError("redis-server did not start")

    broker(f"redis://127.0.0.1:{port}/0")
    server = start()
    try:
        assert queue.send("monitor.check", "drift", 1)
        server.kill()
        server.wait()
        with writing() as session:
            request(session, "monitor.check", "drift", {"monitor_id": 1})
        server = start()
        time.advance(10)
        with writing() as session:
            assert sweep(session) == 1
        with messenger().connection_for_read() as connection:
            assert connection.SimpleQueue("drift").qsize() == 1
    finally:
        server.kill()
        server.wait()


@pytest.mark.parametrize("url", ["", "redis://127.0.0.1:6379/14", "amqp://guest:guest@127.0.0.1:5672//"])
def test_a_broker_says_how_many_messages_wait_in_each_queue(
    project: int, broker: Callable[[str], None], url: str
) -> None:
    broker(url)
    try:
        queue.reach_broker()
    except queue.BrokerUnavailable as error:
        pytest.skip(error.message)
    with messenger().connection_for_write() as connection:
        for name in ("drift", "notify"):
            connection.SimpleQueue(name).clear()
    for number in range(3):
        queue.send("monitor.check", "drift", number)
    held = queue.messages_held()
    assert (held["drift"], held["notify"]) == (3, 0)
    with messenger().connection_for_write() as connection:
        connection.SimpleQueue("drift").clear()


def test_a_broker_that_is_away_says_nothing_and_holds_nobody_up(project: int, broker: Callable[[str], None]) -> None:
    for scheme in ("redis", "amqp"):
        broker(f"{scheme}://127.0.0.1:{free_port()}//")
        began = monotonic()
        assert queue.messages_held() == {}
        assert monotonic() - began < 10


def test_consumers_of_the_embedded_broker_get_each_message_once_and_whole(project: int, waiting: Any) -> None:
    for number in range(60):
        queue.send("monitor.check", "drift", number)
    taken: list[int] = []

    def consume() -> None:
        with messenger().connection_for_read() as connection:
            simple = connection.SimpleQueue("drift")
            while True:
                try:
                    message = simple.get(block=True, timeout=0.5)
                except simple.Empty:
                    return
                taken.append(message.payload[0][0])
                message.ack()

    threads = [threading.Thread(target=consume) for _ in range(3)]
    for thread in threads:
        thread.start()
    for number in range(60, 90):
        queue.send("monitor.check", "drift", number)
    for thread in threads:
        thread.join()
    assert Counter(taken) == Counter(range(90))
    assert waiting() == 0


def test_one_consumer_gets_messages_in_the_order_they_were_sent(project: int) -> None:
    for number in range(20):
        queue.send("monitor.check", "drift", number)
    with messenger().connection_for_read() as connection:
        simple = connection.SimpleQueue("drift")
        assert [simple.get_nowait().payload[0][0] for _ in range(20)] == list(range(20))
