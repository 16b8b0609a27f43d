"""An endpoint may stream, stutter, refuse, lie or hang: each answer is right, or an error that says what happened."""

import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from driftline.errors import BadInput
from driftline.protocols import Completion, Messages, Sampling
from variants.open import open_variant
from variants.recipe import spec
from variants.runners.chat_client import _lines, retry_after

Reply = Callable[["Server"], None]


class Server(BaseHTTPRequestHandler):
    """Answers with the first reply of `replies` that is left; the last one stays."""

    replies: list[Reply]
    seen: list[dict[str, Any]]
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        self.seen.append({"path": self.path, "body": body, "headers": dict(self.headers), "at": time.perf_counter()})
        reply = self.replies.pop(0) if len(self.replies) > 1 else self.replies[0]
        reply(self)

    def head(self, status: int = 200, kind: str = "text/event-stream", **headers: str) -> None:
        self.send_response(status)
        self.send_header("content-type", kind)
        self.send_header("connection", "close")
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.close_connection = True

    def event(self, body: Any) -> None:
        self.wfile.write(b"data: " + (body if isinstance(body, bytes) else json.dumps(body).encode()) + b"\n\n")
        self.wfile.flush()

    def log_message(self, *_: Any) -> None:
        pass


def piece(text: str | None, finish: str | None = None, **more: Any) -> dict[str, Any]:
    return {"choices": [{"delta": {"content": text}, "finish_reason": finish, **more}]}


def streams(*bodies: Any, done: bool = True, pause_s: float = 0.0) -> Reply:
    def reply(server: Server) -> None:
        server.head()
        for body in bodies:
            server.event(body)
            time.sleep(pause_s)
        if done:
            server.event(b"[DONE]")

    return reply


def says(content: bytes | dict[str, Any], status: int = 200, kind: str = "application/json", **headers: str) -> Reply:
    def reply(server: Server) -> None:
        server.head(status, kind, **headers)
        server.wfile.write(content if isinstance(content, bytes) else json.dumps(content).encode())

    return reply


@pytest.fixture
def endpoint() -> Iterator[Callable[..., tuple[str, type[Server]]]]:
    started: list[ThreadingHTTPServer] = []

    def start(*replies: Reply) -> tuple[str, type[Server]]:
        kind = type("Endpoint", (Server,), {"replies": list(replies), "seen": []})
        server = ThreadingHTTPServer(("127.0.0.1", 0), kind)
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        started.append(server)
        return f"http://127.0.0.1:{server.server_port}/v1", kind

    yield start
    for server in started:
        server.shutdown()
        server.server_close()


def ask(url: str, count: int = 1, sampling: Sampling | None = None, **config: Any) -> list[Completion]:
    opened = open_variant(spec("openai", base_url=url, model="m", **config), Path("unused"))
    prompt: Messages = ({"role": "user", "content": "Why?"},)
    return opened.generate([prompt] * count, sampling or Sampling(max_tokens=5))


def test_a_streamed_answer_is_put_together(endpoint: Any) -> None:
    usage = {"choices": [], "usage": {"prompt_tokens": 7, "completion_tokens": 2}}
    told = {"content": [{"token": "Be", "logprob": -0.25}, {"token": "cause", "logprob": -0.75}]}
    role = {"choices": [{"delta": {"role": "assistant", "content": ""}}]}
    url, _ = endpoint(
        streams(role, piece("Be", logprobs=told), piece("cause"), piece(None, "stop"), usage, pause_s=0.02)
    )

    [answer] = ask(url)

    assert answer.text == "Because"
    assert (answer.input_tokens, answer.output_tokens, answer.finish_reason) == (7, 2, "stop")
    assert answer.mean_logprob == -0.5
    assert answer.error is None
    assert 0 < (answer.ttft_ms or 0) < answer.latency_ms


def test_usage_done_and_logprobs_may_be_missing(endpoint: Any) -> None:
    url, _ = endpoint(streams(piece("Be"), piece("cause", "stop"), done=False))

    [answer] = ask(url)

    assert answer.text == "Because"
    assert (answer.input_tokens, answer.output_tokens, answer.mean_logprob) == (None, None, None)
    assert answer.error is None


def test_a_server_that_does_not_stream_is_understood(endpoint: Any) -> None:
    body = {"choices": [{"message": {"content": "Because"}, "finish_reason": "stop"}], "usage": {"prompt_tokens": 3}}
    url, _ = endpoint(says(body))

    for stream in (True, False):
        [answer] = ask(url, stream=stream)
        assert (answer.text, answer.input_tokens, answer.error) == ("Because", 3, None)


def test_an_empty_answer_that_has_ended_is_an_answer(endpoint: Any) -> None:
    url, _ = endpoint(streams(piece(None, "stop")))

    [answer] = ask(url)

    assert (answer.text, answer.error, answer.finish_reason) == ("", None, "stop")


def test_the_request_says_what_was_asked(endpoint: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    url, server = endpoint(streams(piece("x", "stop")))
    monkeypatch.setenv("MY_KEY", "secret-key")

    ask(
        url + "/",
        sampling=Sampling(9, 0.5, 0.9, seed=4, stop=("\n",)),
        api_key_env="MY_KEY",
        logprobs=True,
        parameters={"min_p": 0.1},
    )

    [seen] = server.seen
    wanted = {"max_tokens": 9, "temperature": 0.5, "top_p": 0.9, "seed": 4, "stop": ["\n"], "min_p": 0.1}
    assert seen["path"] == "/v1/chat/completions"
    assert seen["body"].items() >= wanted.items()
    assert seen["body"]["messages"] == [{"role": "user", "content": "Why?"}]
    assert seen["headers"]["Authorization"] == "Bearer secret-key"


def test_one_prompt_that_cannot_be_sent_does_not_fail_the_others(endpoint: Any) -> None:
    url, _ = endpoint(streams(piece("x", "stop")))
    opened = open_variant(spec("openai", base_url=url, model="m"), Path("unused"))
    good = ({"role": "user", "content": "Why?"},)

    answers = opened.generate([good, ({"role": "user", "content": {1, 2}},), ("no mapping",), good], Sampling(5))  # type: ignore[list-item, arg-type, dict-item]

    assert [answer.text for answer in answers] == ["x", "", "", "x"]
    assert all("cannot be sent" in (answer.error or "") for answer in answers[1:3])


def test_a_key_may_go_into_another_header(endpoint: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    url, server = endpoint(streams(piece("x", "stop")))
    monkeypatch.setenv("MY_KEY", "secret-key")

    ask(url, api_key_env="MY_KEY", api_key_header="api-key")

    assert server.seen[0]["headers"]["api-key"] == "secret-key"


def test_a_key_that_is_not_set_is_named() -> None:
    with pytest.raises(BadInput, match="NO_SUCH_KEY"):
        ask("http://127.0.0.1:1/v1", api_key_env="NO_SUCH_KEY")


@pytest.mark.parametrize("status", [429, 500, 503])
def test_a_busy_server_is_asked_again_when_it_says(endpoint: Any, status: int) -> None:
    url, server = endpoint(says(b"busy", status, retry_after="0.2"), streams(piece("ok", "stop")))

    [answer] = ask(url)

    assert (answer.text, answer.error) == ("ok", None)
    assert server.seen[1]["at"] - server.seen[0]["at"] >= 0.2
    assert answer.latency_ms < 200  # the wait is not the answer's latency


def test_a_server_that_stays_busy_is_given_up(endpoint: Any) -> None:
    url, server = endpoint(says(b"overloaded", 529, retry_after="0"))

    [answer] = ask(url, retries=2)

    assert answer.error == f"HTTP 529 from {url}/chat/completions: overloaded (3 attempts)"
    assert len(server.seen) == 3


def test_a_wait_longer_than_allowed_is_not_waited(endpoint: Any) -> None:
    url, server = endpoint(says(b"later", 429, retry_after="3600"))

    [answer] = ask(url)

    assert "asks to wait 3600 s" in (answer.error or "")
    assert len(server.seen) == 1


def test_a_refusal_is_not_repeated(endpoint: Any) -> None:
    url, server = endpoint(says({"error": {"message": "no such model"}}, 404))

    [answer] = ask(url)

    assert "HTTP 404" in (answer.error or "")
    assert "no such model" in (answer.error or "")
    assert len(server.seen) == 1


@pytest.mark.parametrize(
    ("reply", "says_"),
    [
        (says(b"<html>gateway</html>", kind="text/html"), "not JSON"),
        (says(b"[]"), "not an object"),
        (says({"object": "nothing"}), "without choices"),
        (says({"choices": []}), "without any text"),
        (says({"choices": [3]}), "no object"),
        (says({"error": {"message": "out of memory"}}), "out of memory"),
        (streams(b"{not json"), "not JSON"),
        (streams(piece("half"), {"error": "cuda died"}), "cuda died"),
        (streams(), "without any text"),
    ],
)
def test_garbage_is_an_error_that_quotes_it(endpoint: Any, reply: Reply, says_: str) -> None:
    url, _ = endpoint(reply)

    [answer] = ask(url)

    assert answer.text == ""
    assert says_ in (answer.error or "")


def test_a_stream_that_never_ends_is_cut(endpoint: Any) -> None:
    def forever(server: Server) -> None:
        server.head()
        try:
            while True:
                server.event(piece("more "))
                time.sleep(0.001)
        except OSError:
            return

    url, _ = endpoint(forever)

    [late] = ask(url, deadline_s=0.3)
    [large] = ask(url, max_answer_bytes=2000)

    assert "not complete after 0.3 s" in (late.error or "")
    assert "exceeds 2000 bytes" in (large.error or "")


def test_a_server_that_hangs_is_an_error(endpoint: Any) -> None:
    def hang(server: Server) -> None:
        time.sleep(2)

    url, _ = endpoint(hang)
    began = time.perf_counter()

    [answer] = ask(url, timeout_s=0.2, retries=0)

    assert "Nothing came" in (answer.error or "")
    assert time.perf_counter() - began < 2  # when the server would have answered


def test_a_server_that_is_not_there_is_an_error() -> None:
    [answer] = ask("http://127.0.0.1:9/v1", retries=0)

    assert "cannot be reached" in (answer.error or "")


def test_a_connection_that_breaks_is_tried_again(endpoint: Any) -> None:
    def broken(server: Server) -> None:
        server.send_response(200)
        server.send_header("content-type", "text/event-stream")
        server.send_header("content-length", "5000")
        server.end_headers()
        server.event(piece("half"))
        server.connection.shutdown(socket.SHUT_RDWR)

    url, server = endpoint(broken, streams(piece("whole", "stop")))

    [answer] = ask(url)

    assert (answer.text, answer.error) == ("whole", None)
    assert len(server.seen) == 2


def test_requests_run_at_once_but_no_more_than_allowed(endpoint: Any) -> None:
    running, most, lock = 0, 0, threading.Lock()

    def slow(server: Server) -> None:
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        time.sleep(0.1)
        with lock:
            running -= 1
        streams(piece("x", "stop"))(server)

    url, _ = endpoint(slow)

    answers = ask(url, count=9, concurrency=3)

    assert all(answer.error is None for answer in answers)
    assert most == 3


def test_the_fingerprint_names_endpoint_and_model_and_no_key(monkeypatch: pytest.MonkeyPatch) -> None:
    def made(**config: Any) -> str:
        return open_variant(
            spec("openai", **{"base_url": "http://h/v1", "model": "m", **config}), Path("x")
        ).fingerprint

    monkeypatch.setenv("KEY_A", "a")
    monkeypatch.setenv("KEY_B", "b")
    assert made(api_key_env="KEY_A") == made(api_key_env="KEY_B")
    assert len({made(), made(model="n"), made(base_url="http://g/v1"), made(parameters={"min_p": 0.1})}) == 4


def test_retry_after_reads_numbers_and_dates() -> None:
    assert retry_after("1.5") == 1.5
    assert retry_after("-3") == 0.0
    assert retry_after("Wed, 21 Oct 2015 07:28:00 GMT") == 0.0
    assert (retry_after("Wed, 21 Oct 2065 07:28:00 GMT") or 0) > 1e8
    assert retry_after("soon") is retry_after("") is retry_after(None) is None


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.binary(max_size=12).map(lambda b: b.replace(b"\n", b"").replace(b"\r", b"")), max_size=8), st.data())
def test_lines_are_the_same_however_the_network_cuts_them(lines: list[bytes], data: st.DataObject) -> None:
    whole = b"".join(line + data.draw(st.sampled_from([b"\n", b"\r\n"])) for line in lines)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(whole)), max_size=6)))
    pieces = [whole[a:b] for a, b in zip([0, *cuts], [*cuts, len(whole)], strict=True)]

    assert list(_lines(iter(pieces))) == lines
