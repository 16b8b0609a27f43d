"""A real HTTP server that answers like a model provider: JSON, server-sent events, errors, streams that break."""

from __future__ import annotations

import json
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class Turns:
    """Answers that are given one after the other, the last of them for ever."""

    def __init__(self, *answers: Any) -> None:
        self.answers = list(answers)

    def next(self) -> Any:
        return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]


class LocalModel:
    """Answers each path with what `answers` holds: a JSON value, (status, value), a list of events to stream.

    Or with one after the other of these, as `Turns` has them.

    Events are (name or None, value) pairs; a number waits so many seconds; an exception class hangs up.
    """

    def __init__(self) -> None:
        self.answers: dict[str, Any] = {}
        self.asked: list[tuple[str, dict[str, Any], dict[str, str]]] = []
        model = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                path = self.path.partition("?")[0]
                model.asked.append((path, body, dict(self.headers)))
                answer: Any = next((known for end, known in model.answers.items() if path.endswith(end)), (404, {}))
                if isinstance(answer, Turns):
                    answer = answer.next()
                if isinstance(answer, list):
                    self.stream(answer)
                    return
                status, value = answer if isinstance(answer, tuple) else (200, answer)
                content = json.dumps(value).encode()
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def stream(self, events: list[Any]) -> None:
                self.send_response(200)
                self.send_header("Content-Type", "text/event-stream")
                self.send_header("Transfer-Encoding", "chunked")
                self.end_headers()
                for event in events:
                    if isinstance(event, float):
                        time.sleep(event)
                        continue
                    if isinstance(event, type):
                        self.close_connection = True
                        return
                    name, value = event
                    text = value if isinstance(value, str) else json.dumps(value)
                    chunk = (f"event: {name}\n" if name else "") + f"data: {text}\n\n"
                    self.wfile.write(f"{len(chunk.encode()):x}\r\n{chunk}\r\n".encode())
                self.wfile.write(b"0\r\n\r\n")

            def log_message(self, *_: object) -> None: ...

        class Server(ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, *_: object) -> None: ...  # clients that break off are part of the tests

        self.server = Server(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True).start()

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()
