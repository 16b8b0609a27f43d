"""Which variant shall answer: asked in the background, answered from memory, sensible when nobody is there to ask."""

from __future__ import annotations

import contextlib
import json
import os
import threading
import time
from hashlib import blake2b
from pathlib import Path
from typing import Any
from urllib.parse import quote

from driftline_sdk.faults import note
from driftline_sdk.settings import Settings
from driftline_sdk.transport import Transport

REFRESH_S = 5.0  # how old an answer may become before it is asked for again
LONGEST_PAUSE_S = 60.0  # between two attempts while nobody answers
IDLE_S = 60.0  # after which the thread ends; the next question starts another


class Known:
    """What is known of a route: the last answer, and when to ask again."""

    __slots__ = ("answer", "asking", "due_at", "etag", "failures", "heard")

    def __init__(self, answer: dict[str, Any] | None = None) -> None:
        self.answer = answer
        self.etag: str | None = None
        self.due_at = 0.0
        self.failures = 0
        self.asking = False
        self.heard = threading.Event()  # once the first question was answered, be it by silence


class Routes:
    """The routes of one process. `choose` never raises on its own account and waits for the first answer only.

    The last answers lie in `folder`, so that a process that starts while the server is away goes on as the last one
    did; None keeps them nowhere.
    """

    def __init__(self, settings: Settings, folder: Path | None) -> None:
        self.settings = settings
        self._file = None if folder is None else folder.with_name(folder.name + ".routes.json")
        self._begin(self._read())

    def choose(self, route: str, key: str | None, fallback: str | None, wait_s: float) -> str | None:
        """The variant for a session or user; the fallback while nothing is known of the route."""
        if os.getpid() != self._pid:
            self._begin({name: one.answer for name, one in self._known.items() if one.answer})  # a forked child
        known = self._known.get(route)
        if known is None:
            known = self._add(route)
        if time.monotonic() >= known.due_at and not known.asking:
            self._ask(known)
        if known.answer is None and not known.heard.is_set() and wait_s > 0:
            known.heard.wait(wait_s)
        answer = known.answer
        if answer is None:
            return fallback
        canary = answer.get("canary")
        if canary and key is not None and assigned(route, canary, float(answer.get("canary_share") or 0.0), key):
            return str(canary)
        return answer.get("production") or fallback

    def _begin(self, answers: dict[str, dict[str, Any]]) -> None:
        self._pid = os.getpid()
        self._lock = threading.Lock()
        self._wake = threading.Event()
        self._thread: threading.Thread | None = None
        self._transport = Transport(self.settings.endpoint, self.settings.api_key)
        self._known = {route: Known(answer) for route, answer in answers.items()}

    def _add(self, route: str) -> Known:
        with self._lock:
            return self._known.setdefault(route, Known())

    def _ask(self, known: Known) -> None:
        """Has the thread ask for the route; starts it where it does not run."""
        with self._lock:
            if known.asking:
                return
            known.asking = True
            if self._thread is None or not self._thread.is_alive():
                self._thread = threading.Thread(target=self._run, name="driftline-routes", daemon=True)
                try:
                    self._thread.start()
                except RuntimeError as error:  # the system has no thread to give, or the interpreter ends
                    known.asking = False
                    known.due_at = time.monotonic() + REFRESH_S
                    note(error, "starting the asking for routes")
                    return
        self._wake.set()

    def _run(self) -> None:
        while self._wake.wait(IDLE_S):
            self._wake.clear()
            for route, known in list(self._known.items()):
                if known.asking:
                    try:
                        self._fetch(route, known)
                    except Exception as error:  # noqa: BLE001 - the application must not notice
                        note(error, "asking for a route")
                        self._later(known)
                    known.asking = False
                    known.heard.set()

    def _fetch(self, route: str, known: Known) -> None:
        path = "/api/routes/" + quote(route, safe="")
        status, etag, body = self._transport.get(path, known.etag, self.settings.timeout_s)
        if status == 200:
            answer = json.loads(body)
            if not _is_answer(answer):
                raise ValueError(f"{path} answered something else than a route")
            known.answer, known.etag, known.failures = answer, etag, 0
            self._write()
        elif status == 404:
            known.answer, known.etag, known.failures = None, None, 0
        elif status != 304:
            self._later(known)
            return
        known.failures, known.due_at = 0, time.monotonic() + REFRESH_S

    def _later(self, known: Known) -> None:
        known.failures = min(known.failures + 1, 10)
        known.due_at = time.monotonic() + min(LONGEST_PAUSE_S, REFRESH_S * 2.0 ** (known.failures - 1))

    def _read(self) -> dict[str, dict[str, Any]]:
        if self._file is None:
            return {}
        with contextlib.suppress(OSError, ValueError, RecursionError, AttributeError):
            kept = json.loads(self._file.read_text(encoding="utf-8"))
            return {route: one for route, one in kept.items() if _is_answer(one)}
        return {}

    def _write(self) -> None:
        if self._file is None:
            return
        kept = {route: known.answer for route, known in self._known.items() if known.answer is not None}
        with contextlib.suppress(OSError):
            self._file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            part = self._file.with_name(f"{self._file.name}.{os.getpid()}")
            part.write_text(json.dumps(kept), encoding="utf-8")
            part.replace(self._file)


def _is_answer(one: Any) -> bool:
    """Whether this says of a route who answers it; what is said to applications is never anything but a name."""
    return (
        isinstance(one, dict)
        and "production" in one
        and all(one.get(name) is None or isinstance(one[name], str) for name in ("production", "canary"))
        and isinstance(one.get("canary_share") or 0.0, (int, float))
    )


def assigned(route: str, canary: str, share: float, key: str) -> bool:
    """Whether a session or user belongs to the canary. The server computes the same.

    The same key always gets the same answer for a canary, and stays in it when its share grows.

    >>> [assigned("qa", "new", share, "session-1") for share in (0.0, 1.0)]
    [False, True]
    """
    digest = blake2b(f"{route}\n{canary}\n{key}".encode("utf-8", "replace"), digest_size=8).digest()
    return int.from_bytes(digest, "big") / 2.0**64 < share
