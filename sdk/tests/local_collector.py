"""A real collector on localhost that stores what it is sent and answers as it is told to."""

from __future__ import annotations

import functools
import gzip
import importlib.util
import json
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import driftline_sdk

SDK = Path(__file__).parents[1]


class Collector:
    """Speaks the wire: idempotent by id, checks every record, and first uses up its scripted answers.

    An entry of `script` is (status, headers), or a number of seconds to wait before answering as usual.
    """

    def __init__(self, port: int = 0) -> None:
        self.records: dict[str, dict[str, Any]] = {}
        self.feedback: dict[str, dict[str, Any]] = {}
        self.counts: dict[str, dict[tuple[str, str], int]] = {}
        self.script: list[Any] = []
        self.always: tuple[int, dict[str, str]] | None = None
        self.raw: bytes | None = None  # said instead of what is usual, with a yes
        self.most_bytes = 20 << 20
        self.hangs_up = False
        self.reject: Any = lambda record: None
        self.requests: list[tuple[float, str, int, dict[str, str]]] = []
        self.duplicates = 0
        self.wrong: list[str] = []
        self._lock = threading.Lock()
        self._check = record_check()
        collector = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                status, headers, answer = collector.answer(self.path, dict(self.headers), body)
                content = json.dumps(answer).encode() if collector.raw is None or status != 200 else collector.raw
                self.send_response(status)
                for name, value in {**headers, "Content-Length": str(len(content))}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(content)
                self.close_connection = collector.hangs_up

            def log_message(self, *_: object) -> None: ...

        class Server(ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, *_: object) -> None: ...  # clients that die are part of the tests

        self.server = Server(("127.0.0.1", port), Handler)
        self.port = self.server.server_port
        self.endpoint = f"http://127.0.0.1:{self.port}"
        threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True).start()

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()

    def dropped(self, reason: str) -> int:
        """The sum over all clients and variants, as the collector would show it."""
        return sum(n for counts in self.counts.values() for (_, why), n in counts.items() if why == reason)

    def answer(self, path: str, headers: dict[str, str], body: bytes) -> tuple[int, dict[str, str], Any]:
        if headers.get("Content-Encoding") == "gzip":
            body = gzip.decompress(body)
        if self.script:
            step = self.script.pop(0)
            if isinstance(step, tuple):
                self._note(path, step[0], headers)
                return (*step, {"title": "scripted"})
            time.sleep(step)
        if self.always is not None:
            self._note(path, self.always[0], headers)
            return (*self.always, {"title": "scripted"})
        if len(body) > self.most_bytes:
            self._note(path, 413, headers)
            return 413, {}, {}
        try:
            sent = json.loads(body.decode())
        except ValueError as error:
            self._note(path, 400, headers)
            return 400, {}, {"title": str(error)}
        with self._lock:
            taken = self._take_records(sent) if path == "/v1/records" else self._take_feedback(sent)
        self._note(path, 200, headers)
        return 200, {}, taken

    def _note(self, path: str, status: int, headers: dict[str, str]) -> None:
        self.requests.append((time.monotonic(), path, status, headers))

    def _take_records(self, sent: dict[str, Any]) -> dict[str, Any]:
        accepted = duplicates = 0
        rejected = []
        for index, record in enumerate(sent["records"]):
            wrong = self._check(record)
            if wrong:
                self.wrong.append(wrong)
            reason = wrong or self.reject(record)
            if reason:
                rejected.append({"index": index, "reason": reason})
            elif record["id"] in self.records:
                duplicates += 1
            else:
                accepted += 1
                self.records[record["id"]] = record
        self.duplicates += duplicates
        client = sent.get("client")
        if client:
            known = self.counts.setdefault(client["id"], {})
            for entry in client["counts"]:
                key = (entry["variant"], entry["reason"])
                known[key] = max(known.get(key, 0), entry["count"])
        return {"accepted": accepted, "duplicates": duplicates, "rejected": rejected}

    def _take_feedback(self, sent: dict[str, Any]) -> dict[str, Any]:
        for entry in sent["feedback"]:
            assert {"id", "generation_id", "name", "value"} <= entry.keys()
            self.feedback.setdefault(entry["id"], entry)
        return {"accepted": len(sent["feedback"]), "duplicates": 0, "rejected": []}


@functools.cache
def record_check() -> Any:
    """What is wrong with a record: by the collector's own schema where the platform is at hand, else by the basics."""
    if importlib.util.find_spec("jsonschema") and (SDK.parent / "collector" / "record.py").exists():
        sys.path.insert(0, str(SDK.parent))
        import jsonschema
        from collector.record import record_schema

        validator = jsonschema.Draft202012Validator(record_schema())
        return lambda record: "; ".join(error.message[:200] for error in validator.iter_errors(record)) or None

    def basics(record: dict[str, Any]) -> str | None:
        missing = {"id", "started_at"} - record.keys()
        if not missing and "output" not in record and "error" not in record:
            missing = {"output"}
        return f"missing {missing}" if missing else None

    return basics


def start(collector: Collector, **settings: Any) -> None:
    driftline_sdk.init(**{"endpoint": collector.endpoint, "interval_s": 0.02, "spool_dir": "", **settings})


def accounted(stats: dict[str, Any]) -> bool:
    """Whether every record offered is in exactly one place."""
    places = sum(stats[name] for name in ("queued", "sent", "spooled", "sampled_out")) + sum(stats["dropped"].values())
    return bool(stats["recorded"] + stats["adopted"] == places)


def only(sdk: Any, collector: Collector) -> dict[str, Any]:
    """The one record that was sent."""
    assert sdk.flush(5)
    (record,) = collector.records.values()
    return record


def eventually(condition: Any, timeout_s: float = 5.0) -> bool:
    deadline = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.01)
    return True
