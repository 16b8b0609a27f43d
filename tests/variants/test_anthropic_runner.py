"""The messages API, spoken with a real local server that streams, refuses, limits and lies."""

import json
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from driftline.errors import BadInput
from driftline.protocols import Completion, Messages, Sampling
from variants.open import open_variant
from variants.recipe import spec
from variants.runners.chat_client import Pace

ASKED: Messages = (
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "Capital of France?"},
)
STREAM = [
    {"type": "message_start", "message": {"usage": {"input_tokens": 11, "output_tokens": 1}}},
    {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
    {"type": "ping"},
    {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "Par"}},
    {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "is."}},
    {"type": "content_block_stop", "index": 0},
    {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 4}},
    {"type": "message_stop"},
]
Ask = Callable[..., Completion]


class Api(ThreadingHTTPServer):
    replies: list[tuple[int, Any]]
    seen: list[tuple[dict[str, Any], dict[str, str]]]


class Handler(BaseHTTPRequestHandler):
    server: Api

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        self.server.seen.append((body, {k.lower(): v for k, v in self.headers.items()}))
        status, said = self.server.replies.pop(0) if len(self.server.replies) > 1 else self.server.replies[0]
        self.send_response(status)
        self.send_header("content-type", "text/event-stream" if isinstance(said, list) else "application/json")
        self.send_header("connection", "close")
        self.end_headers()
        if isinstance(said, list):
            for event in said:
                self.wfile.write(f"event: {event['type']}\ndata: {json.dumps(event)}\n\n".encode())
                self.wfile.flush()
                time.sleep(0.01)
        else:
            self.wfile.write(said if isinstance(said, bytes) else json.dumps(said).encode())

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def api() -> Iterator[Api]:
    server = Api(("127.0.0.1", 0), Handler)
    server.replies, server.seen = [(200, STREAM)], []
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture
def ask(api: Api, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Ask:
    monkeypatch.setenv("ANTHROPIC_API_KEY", "sk-secret")

    def one(sampling: Sampling | None = None, **config: Any) -> Completion:
        told = {"model": "claude", "base_url": f"http://127.0.0.1:{api.server_port}/v1", "retries": 0, **config}
        return open_variant(spec("anthropic", **told), tmp_path).generate([ASKED], sampling or Sampling())[0]

    return one


def test_a_streamed_message_is_put_together_and_counted(ask: Ask, api: Api) -> None:
    answer = ask(Sampling(max_tokens=9, stop=("X",)))

    assert (answer.text, answer.finish_reason, answer.error) == ("Paris.", "stop", None)
    assert (answer.input_tokens, answer.output_tokens) == (11, 4)
    assert answer.ttft_ms is not None
    assert 0 < answer.ttft_ms < answer.latency_ms
    [(body, headers)] = api.seen
    assert body["system"] == "Be brief."
    assert body["messages"] == [{"role": "user", "content": "Capital of France?"}]
    assert (body["max_tokens"], body["stop_sequences"], body["stream"]) == (9, ["X"], True)
    assert (headers["x-api-key"], headers["anthropic-version"]) == ("sk-secret", "2023-06-01")


def test_a_whole_message_is_read_too(ask: Ask, api: Api) -> None:
    usage = {"input_tokens": 3, "output_tokens": 2}
    api.replies = [
        (
            200,
            {
                "type": "message",
                "content": [{"type": "text", "text": "Paris"}],
                "stop_reason": "max_tokens",
                "usage": usage,
            },
        )
    ]

    answer = ask(stream=False)

    assert (answer.text, answer.finish_reason, answer.output_tokens) == ("Paris", "length", 2)


@pytest.mark.parametrize("status", [429, 529, 500])
def test_a_busy_api_is_asked_again(ask: Ask, api: Api, status: int) -> None:
    api.replies = [(status, {"type": "error", "error": {"message": "busy"}}), (200, STREAM)]

    assert ask(retries=1).text == "Paris."
    assert len(api.seen) == 2


@pytest.mark.parametrize(
    ("reply", "says"),
    [
        ((401, {"type": "error", "error": {"message": "invalid x-api-key"}}), "HTTP 401"),
        ((200, b"<html>"), "not JSON"),
        ((200, {"id": 1}), "no message"),
        ((200, [{"type": "error", "error": {"message": "Overloaded"}}]), "Overloaded"),
        ((200, [STREAM[0]]), "without any text"),
        (
            (200, [{"type": "message_start", "message": None}, {"type": "content_block_delta", "delta": 3}]),
            "without any text",
        ),
    ],
)
def test_what_is_no_answer_becomes_an_error_that_says_so(ask: Ask, api: Api, reply: tuple[int, Any], says: str) -> None:
    api.replies = [reply]

    answer = ask()

    assert answer.text == ""
    assert says in str(answer.error)
    assert "sk-secret" not in str(answer.error)


def test_a_stream_without_end_is_ended(ask: Ask, api: Api) -> None:
    api.replies = [(200, [STREAM[0], *[STREAM[3]] * 500])]

    answer = ask(deadline_s=0.3)

    assert "not complete after 0.3 s" in str(answer.error)


def test_a_key_that_is_not_there_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ANTHROPIC_API_KEY", raising=False)

    with pytest.raises(BadInput, match="ANTHROPIC_API_KEY"):
        open_variant(spec("anthropic", model="claude"), tmp_path)


def test_requests_keep_their_distance(monkeypatch: pytest.MonkeyPatch) -> None:
    slept: list[float] = []
    monkeypatch.setattr("variants.runners.chat_client.time.sleep", slept.append)
    monkeypatch.setattr("variants.runners.chat_client.time.monotonic", lambda: 100.0)
    pace = Pace(120)

    for _ in range(3):
        pace.wait()

    assert slept == [0.0, 0.5, 1.0]
