"""A remote baseline is asked again for a few items before its old answers are trusted."""

import json
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

import pytest
from sqlmodel import col, select

from driftline.acts.replays import CANARY, request_replay
from driftline.store.engine import reading, writing
from driftline.store.tables import Comparison, Replay

ITEMS = [(f"Question {place}?", f"answer {place}") for place in range(80)]


class Model(BaseHTTPRequestHandler):
    """Answers every question right, until it is told to answer but the first tenth."""

    right = 80

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["content-length"])))["messages"][-1]["content"]
        place = int(asked.removeprefix("Question ").removesuffix("?"))
        text = f"answer {place}" if place < self.right else "I do not know."
        said = json.dumps({"choices": [{"message": {"content": text}, "finish_reason": "stop"}]}).encode()
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(said)))
        self.end_headers()
        self.wfile.write(said)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def model() -> Iterator[tuple[type[Model], str]]:
    kind = type("ModelOfATest", (Model,), {})
    server = ThreadingHTTPServer(("127.0.0.1", 0), kind)
    Thread(target=server.serve_forever, daemon=True).start()
    yield kind, f"http://127.0.0.1:{server.server_port}/v1"
    server.shutdown()
    server.server_close()


def compared(world: Any, work_off: Any, model: tuple[type[Model], str], right_later: int) -> tuple[Comparison, int]:
    """The newest comparison with a remote baseline that answered all right first, and how many replays there are."""
    kind, url = model
    config = {"base_url": url, "model": "far", "stream": False}
    far = world.declare("far", {"runner": "openai", "runner_config": config, "chain": []})
    golden, ours = world.golden(ITEMS), world.recorded("ours", 76, ITEMS)
    with writing() as session:
        request_replay(session, world.project_id, far, golden, "ann", scorers=["contains"])
    work_off(early=True)
    kind.right = right_later
    with writing() as session:
        request_replay(session, world.project_id, ours, golden, "ann", scorers=["contains"], baseline=far, margin=0.1)
    work_off(early=True)
    with reading() as session:
        rows = session.exec(select(Comparison).order_by(col(Comparison.id).desc())).all()
        return rows[0], len(session.exec(select(Replay)).all())


def test_a_baseline_that_has_not_changed_keeps_its_replay(world: Any, work_off: Any, model: Any) -> None:
    row, replays = compared(world, work_off, model, 80)
    assert (row.baseline_mean, replays) == (1.0, 3)
    canary = row.evidence["canary"]
    assert (canary["n"], canary["same"], canary["moved"]) == (CANARY, CANARY, False)


def test_a_baseline_that_has_changed_is_replayed_anew_before_anything_is_said(
    world: Any, work_off: Any, model: Any
) -> None:
    row, replays = compared(world, work_off, model, 8)
    assert (row.baseline_mean, replays) == (0.1, 4)
    assert row.verdict == "better"
    assert row.evidence["canary"]["moved"]
    assert row.evidence["canary"]["stale_replay_id"] != row.baseline_replay_id
