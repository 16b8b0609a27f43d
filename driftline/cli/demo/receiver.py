"""A Slack-compatible webhook on this machine, so that the demo can show what Slack would be sent."""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

MOST_BYTES = 1_000_000


class Receiver:
    """Takes incoming-webhook posts on a free loopback port and keeps them in order of arrival."""

    def __init__(self) -> None:
        self.received: list[dict[str, Any]] = []
        kept = self.received

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                length = min(int(self.headers.get("content-length", 0)), MOST_BYTES)
                kept.append({"key": self.headers.get("idempotency-key"), **json.loads(self.rfile.read(length))})
                self.send_response(200)
                self.send_header("content-length", "2")
                self.end_headers()
                self.wfile.write(b"ok")

            def log_message(self, *_: object) -> None:
                pass  # requests are kept, not logged

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self._server.serve_forever, name="slack", daemon=True).start()

    @property
    def url(self) -> str:
        """The address to give to a Slack channel."""
        return f"http://127.0.0.1:{self._server.server_port}/services/demo"

    def close(self) -> None:
        """Stops listening."""
        self._server.shutdown()
        self._server.server_close()
