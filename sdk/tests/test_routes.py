"""Asking which variant shall answer: fast, the same for a session, and never in the way of the application."""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from local_collector import eventually
from scripts import run

import driftline_sdk
from driftline_sdk import routes
from driftline_sdk.routes import assigned


class Server:
    """Answers for routes as the dashboard does, or as it is told; counts what it was asked."""

    def __init__(self) -> None:
        self.known: dict[str, dict[str, Any]] = {}
        self.asked: list[tuple[str, int]] = []
        self.status: int | None = None
        self.waits_s = 0.0
        told = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                time.sleep(told.waits_s)
                answer = told.known.get(self.path.removeprefix("/api/routes/"))
                body = json.dumps(answer).encode() if answer else b"{}"
                etag = f'"{hash(body)}"'
                status = told.status or (200 if answer else 404)
                if status == 200 and self.headers.get("If-None-Match") == etag:
                    status, body = 304, b""
                told.asked.append((self.path, status))
                self.send_response(status)
                self.send_header("ETag", etag)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None: ...

        class Quiet(ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, *_: object) -> None: ...

        self.server = Quiet(("127.0.0.1", 0), Handler)
        self.endpoint = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True).start()

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()


@pytest.fixture
def server() -> Iterator[Server]:
    made = Server()
    yield made
    made.close()


@pytest.fixture
def sdk(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setattr(routes, "REFRESH_S", 0.1)
    driftline_sdk.init(endpoint=server.endpoint, route="support", spool_dir=tmp_path / "spool", interval_s=0.02)
    return driftline_sdk


def serves(
    server: Server, production: str, canary: str | None = None, share: float = 0.0, name: str = "support"
) -> None:
    server.known[name] = {"route": name, "production": production, "canary": canary, "canary_share": share}


def test_the_first_question_waits_a_moment_and_the_next_ones_do_not(server: Server, sdk: Any) -> None:
    serves(server, "int8")
    assert sdk.route() == "int8"
    started = time.perf_counter()
    for _ in range(1000):
        assert sdk.route() == "int8"
    assert time.perf_counter() - started < 1.0
    assert len(server.asked) < 50


def test_a_promotion_is_noticed_within_the_refresh(server: Server, sdk: Any) -> None:
    serves(server, "int8")
    sdk.route()
    serves(server, "bf16")
    assert eventually(lambda: sdk.route() == "bf16")
    assert eventually(lambda: sdk.route() and server.asked[-1][1] == 304)


def test_a_session_stays_with_its_variant_and_the_share_is_kept(server: Server, sdk: Any) -> None:
    serves(server, "int8", "new", 0.25)
    chosen = {n: sdk.route(session_id=f"session-{n}") for n in range(2000)}
    assert {n: sdk.route(session_id=f"session-{n}") for n in range(2000)} == chosen
    assert 0.2 < sum(one == "new" for one in chosen.values()) / 2000 < 0.3
    with sdk.context(session_id="session-7"):
        assert sdk.route() == chosen[7]
    assert sdk.route() == "int8"
    assert sdk.route(user_id="ann") == sdk.route(user_id="ann")


def test_while_nothing_is_known_it_is_the_fallback(server: Server, sdk: Any) -> None:
    assert sdk.route("no such route", fallback="mine") == "mine"
    server.status = 503
    assert sdk.route("support", fallback="mine") == "mine"
    assert sdk.route("support") is None
    driftline_sdk.init(endpoint=server.endpoint, variant="usual", spool_dir="")
    assert sdk.route("support") == "usual"


@pytest.mark.parametrize(
    "odd",
    [
        {"production": 5},
        {"production": {"name": "int8"}},
        {"production": "new", "canary": ["a"], "canary_share": 1},
        {"production": "new", "canary": "a", "canary_share": "most"},
        ["production"],
    ],
)
def test_an_answer_that_is_none_changes_nothing(server: Server, sdk: Any, odd: Any) -> None:
    server.known["support"] = odd
    assert sdk.route(session_id="s", fallback="mine") == "mine"
    serves(server, "int8")
    assert eventually(lambda: sdk.route(session_id="s", fallback="mine") == "int8")
    server.known["support"] = odd
    asked = len(server.asked)
    assert eventually(lambda: sdk.route() and len(server.asked) > asked + 1)
    assert sdk.route(session_id="s", fallback="mine") == "int8"


@pytest.mark.parametrize("kept", ["[]", "5", "{", "[" * 100_000, '{"support": {"production": 5}}', "\udcff"])
def test_a_file_of_routes_that_somebody_spoiled_is_no_hindrance(
    server: Server, sdk: Any, tmp_path: Path, kept: str
) -> None:
    (tmp_path / "spool.routes.json").write_bytes(kept.encode("utf-8", "surrogateescape"))
    serves(server, "int8")
    assert sdk.route(fallback="mine") == "int8"


def test_a_server_that_hangs_costs_one_short_wait(server: Server, sdk: Any) -> None:
    server.waits_s = 1.0
    started = time.monotonic()
    assert sdk.route(fallback="mine", wait_s=0.1) == "mine"
    assert time.monotonic() - started < 0.9


def test_the_last_answer_holds_while_the_server_is_away(server: Server, sdk: Any) -> None:
    serves(server, "int8", "new", 0.5)
    before = [sdk.route(session_id=str(n)) for n in range(50)]
    server.close()
    time.sleep(0.3)
    assert [sdk.route(session_id=str(n)) for n in range(50)] == before


def test_a_process_that_starts_while_the_server_is_away_goes_on_as_the_last_one_did(
    server: Server, sdk: Any, tmp_path: Path
) -> None:
    serves(server, "int8")
    sdk.route()
    assert eventually(lambda: (tmp_path / "spool.routes.json").exists())
    server.close()
    said = run(
        f"""
        import driftline_sdk
        driftline_sdk.init(endpoint={server.endpoint!r}, route="support", spool_dir={str(tmp_path / "spool")!r})
        print(driftline_sdk.route(fallback="other"))
        """
    )
    assert said.stdout.strip() == "int8", said.stderr


@pytest.mark.parametrize("body", ["not json", "[]", '{"other": 1}'])
def test_nonsense_is_no_answer(
    body: str, server: Server, sdk: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(json, "dumps", lambda *_, **__: body)
    serves(server, "int8")
    assert sdk.route(fallback="mine") == "mine"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_forked_child_asks_for_itself(server: Server, tmp_path: Path) -> None:
    serves(server, "int8")
    said = run(
        f"""
        import os, time, driftline_sdk
        from driftline_sdk import routes
        routes.REFRESH_S = 0.05
        driftline_sdk.init(endpoint={server.endpoint!r}, route="support", spool_dir="")
        assert driftline_sdk.route() == "int8"
        read, write = os.pipe()
        if os.fork() == 0:
            first = driftline_sdk.route()
            until = time.monotonic() + 5
            while driftline_sdk.process.active.routes._known["support"].etag is None and time.monotonic() < until:
                driftline_sdk.route(); time.sleep(0.02)
            os.write(write, f"{{first}} {{driftline_sdk.process.active.routes._known['support'].etag}}".encode())
            os._exit(0)
        os.wait()
        print(os.read(read, 1000).decode())
        """
    )
    assert said.stdout.startswith('int8 "'), said.stderr


def test_without_init_it_is_the_fallback() -> None:
    assert driftline_sdk.route("support", fallback="mine") == "mine"


@given(st.text(max_size=20), st.text(min_size=1, max_size=20), st.floats(0, 1), st.floats(0, 1))
def test_whoever_belongs_to_a_small_share_belongs_to_every_larger_one(
    key: str, canary: str, one: float, other: float
) -> None:
    small, large = sorted((one, other))
    assert assigned("qa", canary, large, key) or not assigned("qa", canary, small, key)
