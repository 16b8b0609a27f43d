"""Slack on this machine: takes what Slack documents that it takes, refuses the rest, and remembers messages."""

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any
from urllib.parse import parse_qs

import pytest
from jsonschema import Draft202012Validator

SCHEMA = Draft202012Validator(json.loads((Path(__file__).parent / "block_kit.schema.json").read_text()))
TOKEN = "xoxb-hush-hush"


def broken_rules(body: dict[str, Any]) -> list[str]:
    """What Slack would refuse a message for."""
    found = [f"{'/'.join(map(str, error.absolute_path))}: {error.message[:200]}" for error in SCHEMA.iter_errors(body)]
    ids = [e["action_id"] for b in body.get("blocks", []) if b["type"] == "actions" for e in b["elements"]]
    return [*found, *(["an action_id comes twice"] if len(ids) != len(set(ids)) else [])]


@pytest.fixture(scope="session")
def slack_refuses() -> Any:
    """What Slack would refuse a message for; an empty list when it takes it."""
    return broken_rules


@dataclass
class Slack:
    """A workspace: its messages by timestamp, its files, and what it was asked."""

    url: str = ""
    messages: dict[str, dict[str, Any]] = field(default_factory=dict)
    files: dict[str, bytes] = field(default_factory=dict)
    calls: list[str] = field(default_factory=list)
    fails: list[dict[str, Any] | int] = field(default_factory=list)  # answers to give before anything else

    def answer(self, method: str, body: dict[str, Any]) -> dict[str, Any]:
        match method:
            case "chat.postMessage":
                if broken := broken_rules(body):
                    return {"ok": False, "error": "invalid_blocks", "response_metadata": {"messages": broken}}
                ts = f"1700000000.{len(self.messages):06d}"
                self.messages[ts] = body
                return {"ok": True, "channel": body["channel"], "ts": ts}
            case "chat.update":
                if body["ts"] not in self.messages:
                    return {"ok": False, "error": "message_not_found"}
                if broken := broken_rules(body):
                    return {"ok": False, "error": "invalid_blocks", "response_metadata": {"messages": broken}}
                self.messages[body["ts"]] = body
                return {"ok": True, "channel": body["channel"], "ts": body["ts"]}
            case "files.getUploadURLExternal":
                assert int(body["length"]) > 0
                return {"ok": True, "upload_url": f"{self.url}/upload/F1", "file_id": "F1"}
            case "files.completeUploadExternal":
                return {"ok": body["files"][0]["id"] in self.files, "files": body["files"]}
        return {"ok": False, "error": "unknown_method"}


@pytest.fixture
def slack_api(data_dir: object, monkeypatch: pytest.MonkeyPatch) -> Iterator[Slack]:
    """Slack's Web API on loopback."""
    from driftline.settings import settings

    workspace = Slack()

    class Answer(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            raw = self.rfile.read(int(self.headers["content-length"]))
            method = self.path.rsplit("/", 1)[1]
            workspace.calls.append(method)
            if "/upload/" in self.path:
                workspace.files[method] = raw
                return self._say(200, "OK")
            if workspace.fails:
                planned = workspace.fails.pop(0)
                return self._say(planned, "") if isinstance(planned, int) else self._say(200, json.dumps(planned))
            if self.headers["authorization"] != f"Bearer {TOKEN}":
                return self._say(200, json.dumps({"ok": False, "error": "invalid_auth"}))
            form = self.headers["content-type"].startswith("application/x-www-form-urlencoded")
            body = {k: v[0] for k, v in parse_qs(raw.decode()).items()} if form else json.loads(raw)
            return self._say(200, json.dumps(workspace.answer(method, body)))

        def _say(self, code: int, text: str) -> None:
            self.send_response(code)
            if code == 429:
                self.send_header("retry-after", "30")
            self.send_header("content-length", str(len(text.encode())))
            self.end_headers()
            self.wfile.write(text.encode())

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Answer)
    Thread(target=server.serve_forever, daemon=True).start()
    workspace.url = f"http://127.0.0.1:{server.server_port}"
    monkeypatch.setenv("DRIFTLINE_ALLOW_PRIVATE_WEBHOOKS", "true")
    settings.cache_clear()
    yield workspace
    server.shutdown()
    server.server_close()
