import http.client
import json
import os
import random
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import event, func, text
from sqlmodel import select

from collector.budget import Budget
from collector.core import Collector
from driftline.store.engine import engine, reading, writing
from driftline.store.projects import ensure_project
from driftline.store.tables import Generation, Rollup

SERVER = Path(__file__).parent / "serve_collector.py"


def batch(name: str, n: int, size: int = 200) -> bytes:
    records = [
        {"id": f"{name}-{k}", "started_at": time.time(), "variant": "v", "output": "x" * size, "latency_ms": 5.0}
        for k in range(n)
    ]
    return json.dumps({"records": records}).encode()


def stored_ids() -> list[str]:
    with reading() as session:
        return list(session.exec(select(Generation.id)))


def counted() -> int:
    with reading() as session:
        return session.exec(select(func.coalesce(func.sum(Rollup.n), 0))).one()


def wait_for_backends() -> None:
    """Waits for what PostgreSQL still does for a client that is dead: a commit that had reached it is carried out."""
    busy = (
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid() "
        "AND state <> 'idle'"
    )
    while engine().dialect.name == "postgresql":
        with reading() as session:
            if session.execute(text(busy)).scalar_one() == 0:
                return
        time.sleep(0.02)


class Server:
    """A collector process that can be killed."""

    def __init__(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as probe:
            self.port = probe.getsockname()[1]
        self.process = subprocess.Popen([sys.executable, str(SERVER), str(self.port)], env=os.environ.copy())
        while True:
            try:
                socket.create_connection(("127.0.0.1", self.port)).close()
                return
            except OSError:
                assert self.process.poll() is None, "the collector did not start"
                time.sleep(0.02)

    def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()
        wait_for_backends()


def load_until_killed(server: Server, name: str, patient: bool) -> tuple[set[str], set[str]]:
    """Sends batches on four connections until the server dies; the names acknowledged, and the others.

    A patient kill waits for the first acknowledgement, so that on the slowest machine there is something to lose.
    """
    acknowledged: set[str] = set()
    sent: set[str] = set()

    def work(worker: int) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=20)
        for k in range(100_000):
            this = f"{name}-{worker}-{k}"
            sent.add(this)
            try:
                connection.request("POST", "/v1/records", batch(this, 20))
                answer = connection.getresponse()
                answer.read()
                if answer.status == 200:
                    acknowledged.add(this)
            except (OSError, http.client.HTTPException):
                return

    threads = [threading.Thread(target=work, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    deadline = time.monotonic() + 30
    while patient and not acknowledged and time.monotonic() < deadline:
        time.sleep(0.01)
    time.sleep(random.uniform(0.05, 0.6))
    server.kill()
    for thread in threads:
        thread.join()
    return acknowledged, sent - acknowledged


def sent_until_taken(connection: http.client.HTTPConnection, body: bytes) -> dict[str, Any]:
    """The answer to a request that is sent again, as senders do, while the store has no time for it."""
    for _ in range(20):
        connection.request("POST", "/v1/records", body)
        answer = connection.getresponse()
        said: dict[str, Any] = json.loads(answer.read())
        if answer.status != 503:
            break
        time.sleep(1)
    return said


def survive_kills(times: int) -> None:
    total = 0
    server = Server()
    for round_number in range(times):
        acknowledged, unsure = load_until_killed(server, str(round_number), patient=round_number == 0)
        stored = stored_ids()
        kept = set(stored)
        assert len(kept) == len(stored) == counted()
        lost = {f"{name}-{k}" for name in acknowledged for k in range(20)} - kept
        assert not lost, f"{len(lost)} acknowledged records lost in round {round_number}"
        total += len(acknowledged)
        server = Server()
        connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=20)
        for name in [*unsure, *list(acknowledged)[:3]]:  # the senders try again what they do not know of
            answer = sent_until_taken(connection, batch(name, 20))
            assert answer["accepted"] + answer["duplicates"] == 20
        connection.close()
        stored = stored_ids()
        assert len(set(stored)) == len(stored) == counted()
        assert {f"{name}-{k}" for name in unsure for k in range(20)} <= set(stored)
    server.kill()
    assert total > 0


def test_killing_the_collector_loses_and_doubles_nothing(either_store):
    with writing() as session:
        ensure_project(session)
    survive_kills(2)


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_fifty_kills_lose_and_double_nothing(either_store):
    with writing() as session:
        ensure_project(session)
    survive_kills(50)


def test_overload_is_refused_early_and_passes(sqlite_store, app_of, serve):
    with serve(app_of(Collector(Budget(room=300_000)))) as port:

        def post(name: str) -> tuple[int, str | None, float]:
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
            start = time.monotonic()
            connection.request("POST", "/v1/records", batch(name, 100, size=500))
            answer = connection.getresponse()
            answer.read()
            return answer.status, answer.headers.get("retry-after"), time.monotonic() - start

        assert post("warm")[0] == 200
        blocker = sqlite3.connect(sqlite_store / "driftline.db", isolation_level=None)
        blocker.execute("BEGIN IMMEDIATE")
        with ThreadPoolExecutor(16) as pool:
            answers = [pool.submit(post, f"r{n}") for n in range(16)]
            time.sleep(1)
            early = [answer.result() for answer in answers if answer.done()]
            blocker.execute("ROLLBACK")
            everything = [answer.result() for answer in answers]
        assert early
        assert all(status == 503 and after == "1" and took < 1 for status, after, took in early)
        assert sum(status == 200 for status, _, _ in everything) == 16 - len(early) > 0
        assert post("after")[0] == 200
    assert len(stored_ids()) == counted() == 100 * (18 - len(early))


def test_a_store_that_hangs_is_503_in_time_and_fills_no_memory(sqlite_store, app_of, monkeypatch):
    budget = Budget(room=300_000)
    with TestClient(app_of(Collector(budget))) as client, monkeypatch.context() as impatient:
        assert client.post("/v1/records", content=batch("warm", 1)).status_code == 200
        impatient.setattr("collector.core.PATIENCE_S", 0.2)
        blocker = sqlite3.connect(sqlite_store / "driftline.db", isolation_level=None)
        blocker.execute("BEGIN IMMEDIATE")
        answers = [client.post("/v1/records", content=batch(f"r{n}", 100, size=500)) for n in range(10)]
        assert {a.status_code for a in answers} == {503}
        waited = sum("did not answer" in a.json()["detail"] for a in answers)
        assert 0 < waited < 10  # the others were refused at once, as the room was taken by those that still wait
        assert 0 < budget.taken <= budget.room
        blocker.execute("ROLLBACK")
        until = time.monotonic() + 5
        while budget.taken and time.monotonic() < until:
            time.sleep(0.01)
        assert budget.taken == 0
        impatient.undo()
        again = [client.post("/v1/records", content=batch(f"r{n}", 100, size=500)).json() for n in range(10)]
    assert sum(a["duplicates"] for a in again) == waited * 100
    assert len(stored_ids()) == counted() == 1001


@pytest.mark.parametrize("path", ["/v1/records", "/v1/traces"])
def test_a_body_cut_off_is_dropped_quietly_and_gives_its_room_back(sqlite_store, app_of, serve, caplog, path):
    budget = Budget()
    with serve(app_of(Collector(budget))) as port:
        body = batch("a", 1000)
        with socket.create_connection(("127.0.0.1", port)) as connection:
            head = f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n"
            connection.sendall(head.encode() + body[: len(body) // 2])
            until = time.monotonic() + 5
            while budget.taken == 0 and time.monotonic() < until:
                time.sleep(0.01)
            assert budget.taken > 0
        while budget.taken > 0 and time.monotonic() < until:
            time.sleep(0.01)
        assert budget.taken == 0
    assert stored_ids() == []
    assert not [record for record in caplog.records if record.levelname == "ERROR"]


def test_a_body_that_does_not_arrive_gives_its_room_back(sqlite_store, app_of, serve, monkeypatch):
    monkeypatch.setattr("collector.body.ARRIVAL_S", 0.3)
    budget = Budget()
    with serve(app_of(Collector(budget))) as port, socket.create_connection(("127.0.0.1", port)) as connection:
        connection.sendall(b"POST /v1/records HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n" + b"x" * 100)
        assert connection.recv(65536).startswith(b"HTTP/1.1 408")
        assert budget.taken == 0


def test_a_full_disk_is_503_and_leaves_nothing_half_written(sqlite_store, app_of):
    @event.listens_for(engine(), "connect")
    def limit(connection, _record):
        connection.execute("PRAGMA max_page_count=300")

    with TestClient(app_of()) as client:
        answers = [client.post("/v1/records", content=batch(f"b{n}", 50, size=2000)) for n in range(20)]
    assert {a.status_code for a in answers} == {200, 503}
    refused = [a for a in answers if a.status_code == 503]
    assert all(a.headers["retry-after"] == "1" for a in refused)
    assert "full" in refused[0].json()["detail"]
    assert len(stored_ids()) == counted() == 50 * sum(a.status_code == 200 for a in answers)


@pytest.mark.postgres
def test_a_database_that_goes_away_is_503_and_recovers_by_itself(postgres_store, app_of):
    name = engine().url.database
    with TestClient(app_of()) as client:
        assert client.post("/v1/records", content=batch("a", 3)).status_code == 200
        away(name, connections_allowed=False)
        refused = client.post("/v1/records", content=batch("b", 3))
        traces = client.post("/v1/traces", content=b"", headers={"content-type": "application/x-protobuf"})
        away(name, connections_allowed=True)
        assert (refused.status_code, refused.headers["retry-after"]) == (503, "1")
        assert "does not answer" in refused.json()["detail"]
        assert traces.status_code in (200, 503)
        assert client.post("/v1/records", content=batch("b", 3)).status_code == 200
    assert len(stored_ids()) == counted() == 6


@pytest.mark.postgres
def test_a_postgres_that_hangs_is_503_in_time_and_is_used_again_when_it_answers(postgres_store, app_of, monkeypatch):
    monkeypatch.setattr("collector.core.PATIENCE_S", 0.3)
    budget = Budget(room=300_000)
    with TestClient(app_of(Collector(budget))) as client:
        sent_until_stored(client, "warm", 1)
        with engine().connect() as blocker:
            blocker.execute(text("LOCK TABLE generation IN ACCESS EXCLUSIVE MODE"))
            answers = [client.post("/v1/records", content=batch(f"r{n}", 100, size=500)) for n in range(6)]
            assert {a.status_code for a in answers} == {503}
            assert {a.headers["retry-after"] for a in answers} == {"1"}
            assert 0 < budget.taken <= budget.room
            blocker.rollback()
        until = time.monotonic() + 20
        while budget.taken and time.monotonic() < until:
            time.sleep(0.01)
        for n in range(6):
            sent_until_stored(client, f"r{n}", 100)
    assert len(stored_ids()) == counted() == 601


def sent_until_stored(client: TestClient, name: str, n: int) -> None:
    """Sends a batch again, as senders do, until it is stored."""
    until = time.monotonic() + 30
    while client.post("/v1/records", content=batch(name, n, size=500)).status_code != 200:
        assert time.monotonic() < until
        time.sleep(0.1)


def away(name: str, *, connections_allowed: bool) -> None:
    from sqlalchemy import create_engine

    server = create_engine(engine().url.set(database="postgres"), isolation_level="AUTOCOMMIT")
    with server.connect() as connection:
        connection.execute(text(f"ALTER DATABASE {name} ALLOW_CONNECTIONS {str(connections_allowed).lower()}"))
        if not connections_allowed:
            connection.execute(
                text("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = :n"), {"n": name}
            )
    server.dispose()


def test_one_batch_that_cannot_be_stored_does_not_spoil_the_others(sqlite_store):
    from collector.record import Record
    from collector.rows import Privacy, row_of
    from collector.writer import Batch, Writer
    from driftline.moment import now_us

    with writing() as session:
        project_id = ensure_project(session).id
    now = now_us()

    def made(name: str, project: int) -> Batch:
        record = Record(id=name, started_at=0, output="x", variant="v")
        return Batch(project, rows=[row_of(record, now, project, Privacy("full"), now)])

    writer = Writer(engine())
    waiting = [
        writer.submit(made("a", project_id)),
        writer.submit(made("b", 999)),
        writer.submit(made("c", project_id)),
    ]
    writer.start()  # all three are waiting, so they share the first commit
    assert [waiting[n].result().accepted for n in (0, 2)] == [1, 1]
    assert waiting[1].exception() is not None
    writer.stop()
    assert sorted(stored_ids()) == ["a", "c"]


def test_what_was_submitted_before_a_stop_is_written(sqlite_store, app_of, serve):
    with serve(app_of()) as port, ThreadPoolExecutor(8) as pool:

        def post(n: int) -> int:
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
            connection.request("POST", "/v1/records", batch(f"r{n}", 50))
            return connection.getresponse().status

        statuses = list(pool.map(post, range(30)))
    assert statuses == [200] * 30
    assert len(stored_ids()) == 1500
