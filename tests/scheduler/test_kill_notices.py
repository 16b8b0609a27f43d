"""Senders that are killed at random moments: nobody misses an alert, and a repeat is the same message."""

import random
import signal
import subprocess
import sys
import threading
import time as clock
from collections import Counter
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from sqlmodel import col, func, select

from driftline.acts import alerts
from driftline.queue import messages_held
from driftline.settings import settings
from driftline.store.engine import reading, writing
from driftline.store.tables import Notification
from scheduler.incidents import raise_alerts
from scheduler.outbox import ask_for_flushes
from scheduler.sweep import sweep

EACH = 3  # alerts between two kills
PATIENCE_S = 240.0  # a loaded machine starts a worker slowly


@pytest.fixture
def pager(world: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[Counter[str]]:
    """A receiver that takes its time; how often each idempotency key came."""
    keys: Counter[str] = Counter()
    writing_down = threading.Lock()

    class Answer(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["content-length"]))
            with writing_down:
                keys[self.headers["idempotency-key"]] += 1
            clock.sleep(random.uniform(0, 0.1))
            self.send_response(202)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Answer)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setenv("DRIFTLINE_ALLOW_PRIVATE_WEBHOOKS", "true")
    settings.cache_clear()
    address = {"routing_key": "R", "url": f"http://127.0.0.1:{server.server_port}/"}
    with writing() as session:
        alerts.add_channel(session, world.project_id, "pager", "pagerduty", address, "ann")
        alerts.add_rule(session, world.project_id, "drift", "drift", "ann", channels=["pager"])
    yield keys
    server.shutdown()
    server.server_close()


def beat() -> None:
    """What the clock does each round."""
    held = messages_held()
    with writing() as session:
        sweep(session, held)
        ask_for_flushes(session)


def unsent() -> int:
    with reading() as session:
        rows = select(func.count()).select_from(Notification).where(col(Notification.state) != "sent")
        return session.exec(rows).one()


def start() -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "driftline", "work", "--queues", "notify", "--concurrency", "4"]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def beat_until(ready: Any) -> bool:
    deadline = clock.monotonic() + PATIENCE_S
    while clock.monotonic() < deadline:
        beat()
        if ready():
            return True
        clock.sleep(0.05)
    return False


@pytest.mark.parametrize(("kills", "seed"), [(3, 1), pytest.param(100, 7, marks=pytest.mark.slow)])
@pytest.mark.timeout(3600)
def test_no_notice_is_lost_over_kills_and_each_repeats_at_most_one_message(
    world: Any, pager: Counter[str], kills: int, seed: int
) -> None:
    rng, raised = random.Random(seed), 0
    for kill in range(kills):
        with writing() as session:
            for _ in range(EACH):
                labels = {"route": f"r{raised}"}
                raise_alerts(session, world.project_id, "drift", f"k{raised}", "Drift", labels, {"summary": "s"})
                raised += 1
        worker = start()
        came = sum(pager.values())
        assert beat_until(lambda came=came: sum(pager.values()) > came or not unsent()), (
            f"kill {kill}: nothing was sent"
        )
        clock.sleep(rng.uniform(0, 0.15))
        worker.send_signal(signal.SIGKILL)
        worker.wait()
    worker = start()
    try:
        assert beat_until(lambda: unsent() == 0), f"{unsent()} notices are not sent"
    finally:
        worker.terminate()
        worker.wait(30)
    with reading() as session:
        rows = session.exec(select(Notification)).all()
    assert len(rows) == raised == EACH * kills
    assert set(pager) == {f"notification-{row.id}" for row in rows}, "each came, and nothing else"
    repeats = sum(pager.values()) - len(pager)
    assert repeats <= kills, "a worker has one message of a channel in hand"
    print(f"{kills} kills, {raised} alerts, {sum(pager.values())} requests, {repeats} repeats")
