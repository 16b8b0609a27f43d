"""The SDK in a process of its own against a collector in another: what it sends, leaves out and drops adds up."""

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from driftline.store.engine import writing
from driftline.store.projects import create_key, ensure_project, revoke_key

ROOT = Path(__file__).parents[2]


@pytest.fixture
def port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


@contextmanager
def server(port: int) -> Iterator[None]:
    """`driftline collect` and `show` on one port, until the block ends."""
    program = (
        "import sys, uvicorn; from driftline.cli.web import application\n"
        "uvicorn.run(application(collector=True, dashboard=True), port=int(sys.argv[1]), log_level='warning')"
    )
    process = subprocess.Popen([sys.executable, "-c", program, str(port)], env=os.environ.copy())
    try:
        until = time.monotonic() + 60
        while True:
            try:
                httpx.get(f"http://127.0.0.1:{port}/healthz").raise_for_status()
                break
            except httpx.HTTPError:
                assert process.poll() is None
                assert time.monotonic() < until, "the collector did not start"
                time.sleep(0.05)
        yield
    finally:
        process.kill()
        process.wait()


@pytest.fixture
def app(tmp_path: Path, port: int) -> Callable[..., dict[str, Any]]:
    """Runs an application that uses the SDK, to its end; what its last line says, as JSON."""

    def run(body: str, **settings: Any) -> dict[str, Any]:
        given = {"endpoint": f"http://127.0.0.1:{port}", "spool_dir": str(tmp_path / "spool"), "interval_s": 0.05}
        program = f"import json, time\nimport driftline_sdk as sdk\nsdk.init(**{given | settings!r})\n{body}"
        environment = os.environ | {"PYTHONPATH": f"{ROOT / 'sdk'}", "DRIFTLINE_SDK_STRICT": ""}
        done = subprocess.run(
            [sys.executable, "-c", program], env=environment, capture_output=True, text=True, timeout=60, check=False
        )
        assert done.returncode == 0, done.stderr
        said: dict[str, Any] = json.loads(done.stdout.splitlines()[-1]) if done.stdout else {}
        return said

    return run


def ask(port: int, path: str, key: str = "") -> Any:
    headers = {"authorization": f"Bearer {key}"} if key else {}
    return httpx.get(f"http://127.0.0.1:{port}/api/{path}", headers=headers).raise_for_status().json()


def test_what_is_kept_left_out_and_dropped_adds_up_per_variant(either_store, port, app):
    with writing() as session:
        ensure_project(session)
    with server(port):
        stats = app(
            "for n in range(400):\n"
            "    with sdk.context(session_id=f's{n % 40}'):\n"
            "        sdk.record(input='q', output='a', variant='int4', latency_ms=5.0)\n"
            "sdk.record(output='a', variant='odd', session_id='kept', started_at=1e15)\n"
            "sdk.record(output='x' * (21 << 20), variant='odd', session_id='kept')\n"
            "class Odd:\n"
            "    def __str__(self): raise ValueError('no text')\n"
            "sdk.record(output={'a': Odd()}, variant='odd', session_id='kept')\n"
            "assert sdk.flush(20)\n"
            "print(json.dumps(sdk.stats()))",
            sample_rate=0.6,
        )
        counts = ask(port, "counts")
        rows = ask(port, "generations?limit=1000")["items"]
    assert stats["dropped"] == {"rejected": 1, "too_large": 1, "unencodable": 1}
    assert {row["sample_rate"] for row in rows} == {0.6}
    sessions = [row["session_id"] for row in rows]
    assert all(sessions.count(name) == 10 for name in set(sessions))
    stored, left_out = len(rows), 400 - len(rows)
    assert 0 < left_out < 400
    by_variant = {entry["variant"]: entry for entry in counts["variants"]}
    assert by_variant["int4"] == {
        "variant": "int4", "generations": stored, "sampled_out": left_out, "dropped": {},
        "captured_share": stored / 400,
    }  # fmt: skip
    assert by_variant["odd"]["dropped"] == stats["dropped"]
    assert (counts["generations"], counts["sampled_out"]) == (stored, left_out)
    assert (counts["rejected"], counts["dropped_by_clients"]) == (1, 2)  # nothing is counted twice
    assert counts["captured_share"] == stored / 403


def test_what_an_app_said_while_the_collector_was_away_arrives_once(sqlite_store, port, app):
    with writing() as session:
        ensure_project(session)
    said = "for n in range(50): sdk.record(id=f'{NAME}-{n}', output='a', variant='v')\n"
    drop = "sdk.record(output='x' * (21 << 20), variant='v')\n"
    stats = app(f"NAME = 'first'\n{said}{drop}sdk.shutdown(1)\nprint(json.dumps(sdk.stats()))")
    assert (stats["spooled"], stats["dropped"]) == (50, {"too_large": 1})
    with server(port):
        app(f"NAME = 'second'\n{said}assert sdk.flush(20)")
        app(f"NAME = 'first'\n{said}assert sdk.flush(20)")  # sent again by somebody who does not know
        counts, rows = ask(port, "counts"), ask(port, "generations?limit=1000")["items"]
    assert sorted(row["id"] for row in rows) == sorted(f"{name}-{n}" for name in ("first", "second") for n in range(50))
    assert (counts["duplicates"], counts["dropped_by_clients"]) == (50, 1)


def test_with_a_revoked_key_records_wait_for_a_new_one(sqlite_store, port, app):
    with writing() as session:
        project = ensure_project(session)
        old, reader = (
            create_key(session, project, name, [scope], "t") for name, scope in (("a", "ingest"), ("r", "read"))
        )
        revoke_key(session, project, "a", "t")
    with server(port):
        stats = app(
            "for n in range(20): sdk.record(output='a')\nsdk.flush(2)\nsdk.shutdown(1)\nprint(json.dumps(sdk.stats()))",
            api_key=old,
        )
        assert (stats["sent"], stats["spooled"], stats["dropped"], stats["last_error"]) == (0, 20, {}, "HTTP 401")
        with writing() as session:
            new = create_key(session, ensure_project(session), "b", ["ingest"], "t")
        app("assert sdk.flush(20)", api_key=new)
        assert ask(port, "counts", reader)["generations"] == 20


def test_a_key_s_limit_slows_an_app_down_and_costs_it_nothing(sqlite_store, port, app):
    with writing() as session:
        project = ensure_project(session)
        key = create_key(session, project, "a", ["ingest", "read"], "t", calls_per_minute=1200)
    with server(port):
        begun = time.monotonic()
        stats = app(
            "for n in range(5):\n"
            "    for _ in range(60): sdk.record(output='a')\n"
            "    time.sleep(0.2)\n"
            "assert sdk.flush(40)\nprint(json.dumps(sdk.stats()))",
            api_key=key,
        )
        took_s = time.monotonic() - begun
        counts = ask(port, "counts", key)
    assert (stats["sent"], stats["dropped"]) == (300, {})
    assert (counts["generations"], counts["duplicates"]) == (300, 0)
    assert took_s > 2  # 200 may come at once, then 20 a second
