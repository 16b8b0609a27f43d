"""A model on somebody else's machine: a chat endpoint on loopback whose answers a test decides, and may change."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any


@dataclass
class FarModel:
    """`answer` gives the text for the last message of a prompt, None where the endpoint refuses (400)."""

    answer: Callable[[str], str | None]
    url: str = ""
    asked: int = 0

    @property
    def spec(self) -> dict[str, Any]:
        """The recipe of a variant that asks it."""
        config = {"base_url": self.url, "model": "far", "stream": False}
        return {"runner": "openai", "runner_config": config, "chain": []}


@contextmanager
def far_model(answer: Callable[[str], str | None]) -> Iterator[FarModel]:
    """The endpoint, while it listens."""
    model = FarModel(answer)

    class Answer(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["content-length"])))
            model.asked += 1
            text = model.answer(body["messages"][-1]["content"])
            said = {"choices": [{"message": {"role": "assistant", "content": text or ""}, "finish_reason": "stop"}],
                    "usage": {"prompt_tokens": 3, "completion_tokens": 5}}  # fmt: skip
            raw = json.dumps(said).encode()
            self.send_response(400 if text is None else 200)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(raw)))
            self.end_headers()
            self.wfile.write(raw)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Answer)
    Thread(target=server.serve_forever, daemon=True).start()
    model.url = f"http://127.0.0.1:{server.server_port}/v1"
    try:
        yield model
    finally:
        server.shutdown()
        server.server_close()
