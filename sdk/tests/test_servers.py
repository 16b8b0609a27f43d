"""Real servers that fork: gunicorn, with and without a preloaded application, and a Celery worker's prefork pool."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import textwrap
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from local_collector import Collector, eventually
from scripts import SDK

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")

# Records travel every five seconds only, so most of what a worker made is sent by its end.
APP = """
import os, driftline_sdk as sdk
sdk.init(endpoint=os.environ["COLLECTOR"], spool_dir=os.environ["SPOOL"], interval_s=5)
sdk.record(output="loaded")
def app(environ, start_response):
    sdk.record(output=environ["PATH_INFO"], tags={"pid": str(os.getpid())})
    start_response("200 OK", [("Content-Length", "2")])
    return [b"ok"]
"""

TASKS = """
import os, driftline_sdk as sdk
from celery import Celery
sdk.init(endpoint=os.environ["COLLECTOR"], spool_dir=os.environ["SPOOL"], interval_s=5)
folder = os.environ["QUEUE"]
celery = Celery("tasks", broker="filesystem://", broker_transport_options={
    "data_folder_in": folder, "data_folder_out": folder, "control_folder": folder + "/control"})
@celery.task(name="answer")
def answer(n):
    sdk.record(output=f"answer {n}", tags={"pid": str(os.getpid())})
    open(os.path.join(os.environ["DONE"], str(n)), "w").close()
"""


@contextmanager
def running(
    folder: Path, collector: Collector, *command: str, may_hang: bool = False, **more: str
) -> Iterator[subprocess.Popen[str]]:
    """A server in a process group of its own, asked to stop at the end; one that may hang then is killed."""
    environment = {
        **os.environ, "PYTHONPATH": f"{SDK}{os.pathsep}{folder}", "COLLECTOR": collector.endpoint,
        "SPOOL": str(folder / "spool"), **more,
    }  # fmt: skip
    server = subprocess.Popen(
        [sys.executable, "-m", *command], env=environment, cwd=folder,
        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip
    try:
        yield server
        server.send_signal(signal.SIGTERM)
        try:
            _, said = server.communicate(timeout=20 if may_hang else 60)
        except subprocess.TimeoutExpired:
            if not may_hang:
                raise
            os.killpg(server.pid, signal.SIGKILL)
            _, said = server.communicate(timeout=60)
        assert "driftline" not in said.lower(), said  # nothing of ours went wrong
    finally:
        if server.poll() is None:
            os.killpg(server.pid, signal.SIGKILL)


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def asked(port: int, path: str) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=5) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


@pytest.mark.parametrize("preload", [False, True])
def test_workers_of_gunicorn_lose_nothing(collector: Collector, tmp_path: Path, preload: bool) -> None:
    pytest.importorskip("gunicorn", reason="needs the package gunicorn")
    (tmp_path / "shop.py").write_text(textwrap.dedent(APP))
    port = free_port()
    options = ["--workers", "2", "--bind", f"127.0.0.1:{port}", "--preload"][: 5 if preload else 4]
    with running(tmp_path, collector, "gunicorn", *options, "shop:app"):
        assert eventually(lambda: asked(port, "/first"), 40)
        assert all(asked(port, f"/{n}") for n in range(30))
    outputs = [record["output"] for record in collector.records.values()]
    assert {f"/{n}" for n in range(30)} <= set(outputs)
    assert outputs.count("loaded") == (1 if preload else 2)
    assert collector.duplicates == 0


@pytest.mark.parametrize("tasks", [None, 1], ids=["for the worker's life", "for one task"])
def test_a_prefork_pool_of_celery_loses_nothing(collector: Collector, tmp_path: Path, tasks: int | None) -> None:
    pytest.importorskip("celery", reason="needs the package celery")
    (tmp_path / "tasks.py").write_text(textwrap.dedent(TASKS))
    done, queue = tmp_path / "done", tmp_path / "queue"
    done.mkdir()
    queue.mkdir()
    folders = {"DONE": str(done), "QUEUE": str(queue)}
    send = "import tasks\nfor n in range(12): tasks.answer.delay(n)"
    environment = {**os.environ, "PYTHONPATH": f"{SDK}{os.pathsep}{tmp_path}", "COLLECTOR": collector.endpoint,
                   "SPOOL": str(tmp_path / "elsewhere"), **folders}  # fmt: skip
    subprocess.run([sys.executable, "-c", send], env=environment, cwd=tmp_path, check=True, timeout=60)
    worker = ["celery", "-A", "tasks", "worker", "--pool", "prefork", "--concurrency", "2", "--without-gossip"]
    if tasks:
        worker += ["--max-tasks-per-child", str(tasks)]  # each process ends while the others go on
    # Without our SDK, too, about one in thirty of such workers never ends: billiard 4.3 stops its pool waiting for the
    # lock of its queue (`_help_stuff_finish`). What is ours, that the records are there, is asked all the same.
    with running(tmp_path, collector, *worker, may_hang=tasks is not None, **folders):
        assert eventually(lambda: len(list(done.iterdir())) == 12, 60)
        time.sleep(0.2)
    outputs = sorted(record["output"] for record in collector.records.values())
    assert outputs == sorted(f"answer {n}" for n in range(12))
    assert collector.duplicates == 0
