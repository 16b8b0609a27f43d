"""What a server makes of heads that never end, and of trailers."""

import contextlib
import json
import resource
import socket
import time
from collections.abc import Iterator
from threading import Thread

import pytest
import uvicorn

from driftline.cli.heads import MAX_HEAD, BoundedHeads

POST = b"POST / HTTP/1.1\r\nHost: x\r\n"
CHUNKED = POST + b"Transfer-Encoding: chunked\r\n\r\n1\r\nx\r\n"
MANY = b"X-Some: " + b"a" * 1000 + b"\r\n"
ENDLESS = {
    "path": (b"POST /", b"a" * 1000),
    "headers": (POST, MANY),
    "header": (POST + b"X-Some: ", b"a" * 1000),
    "header's name": (POST, b"a" * 1000),
    "trailers": (CHUNKED + b"0\r\n", MANY),
    "trailer": (CHUNKED + b"0\r\nX-Some: ", b"a" * 1000),
    "extension of a chunk": (POST + b"Transfer-Encoding: chunked\r\n\r\n1;", b"a" * 1000),
}


async def echo(scope, receive, send):
    """Answers with the headers and the body it was given."""
    body, more = b"", True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            return
        body, more = body + message["body"], message.get("more_body", False)
    told = json.dumps({"headers": [name.decode() for name, _ in scope["headers"]], "body": len(body)}).encode()
    length = (b"content-length", str(len(told)).encode())
    await send({"type": "http.response.start", "status": 200, "headers": [length]})
    await send({"type": "http.response.body", "body": told})


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    config = uvicorn.Config(echo, port=0, log_level="critical", lifespan="off", http=BoundedHeads)
    server = uvicorn.Server(config)
    thread = Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        assert thread.is_alive()
        time.sleep(0.01)
    yield server.servers[0].sockets[0].getsockname()[1]
    server.should_exit = True
    thread.join()


def answer(port: int, sent: bytes) -> bytes:
    with socket.create_connection(("127.0.0.1", port), timeout=20) as connection:
        connection.sendall(sent)
        found = b""
        while part := connection.recv(65_536):
            found += part
    return found


@pytest.mark.parametrize("kind", ENDLESS)
def test_what_never_ends_is_cut_off_before_it_fills_the_memory(port, kind):
    start, more = ENDLESS[kind]
    before, sent = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, 0
    said = b""
    with socket.create_connection(("127.0.0.1", port), timeout=20) as connection:
        with contextlib.suppress(OSError):
            connection.sendall(start)
            while sent < 64 * 2**20:
                connection.sendall(more * 100)
                sent += len(more) * 100
        with contextlib.suppress(OSError):
            said = connection.recv(65_536)
    assert sent < 64 * 2**20
    assert said == b"" or b" 400 " in said  # a reset may overtake the answer
    assert (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024 < 32


def test_a_long_head_is_answered_and_a_longer_one_refused(port):
    last = b"Connection: close\r\n\r\n"
    assert b" 200 " in answer(port, POST + b"X-Some: " + b"a" * (MAX_HEAD - 200) + b"\r\n" + last)
    assert b" 400 " in answer(port, POST + b"X-Some: " + b"a" * MAX_HEAD + b"\r\n" + last)


def test_each_request_of_a_connection_has_a_head_of_its_own(port):
    one = POST + b"Content-Length: 100000\r\nX-Some: " + b"a" * (MAX_HEAD // 2)
    found = answer(
        port, (one + b"\r\n\r\n" + b"b" * 100_000) * 4 + one + b"\r\nConnection: close\r\n\r\n" + b"b" * 100_000
    )
    assert found.count(b" 200 ") == 5


def test_trailers_are_no_headers(port):
    sent = CHUNKED.replace(b"Host", b"Connection: close\r\nHost") + b"0\r\nContent-Encoding: gzip\r\nX-Sum: 1\r\n\r\n"
    told = json.loads(answer(port, sent).partition(b"\r\n\r\n")[2])
    assert told == {"headers": ["connection", "host", "transfer-encoding"], "body": 1}
