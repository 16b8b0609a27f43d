"""Driving the demo's production app from outside: start it, hear what it does, tell it to deploy or to stop."""

import json
import queue
import subprocess
import sys
import threading
from contextlib import suppress
from typing import Any

from driftline.errors import DriftlineError

STOP_S = 20.0


class App:
    """The production app, a process of its own. `sent` counts requests, `deployed` is variant → moment (seconds)."""

    def __init__(self, plan: dict[str, Any], module: str = "driftline.cli.demo.sender") -> None:
        self.sent = 0
        self.by_variant: dict[str, int] = {}
        self.deployed: dict[str, float] = {}
        self.stats: dict[str, Any] = {}
        self._process = subprocess.Popen(
            [sys.executable, "-m", module],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        self._lines: queue.SimpleQueue[str] = queue.SimpleQueue()
        threading.Thread(target=self._read, daemon=True).start()
        self._write(json.dumps(plan))

    def hear(self) -> None:
        """Takes in what the app has said since last time.

        Raises:
            DriftlineError: It has died.
        """
        while not self._lines.empty():
            self._take(json.loads(self._lines.get()))
        if self._process.poll() not in (None, 0) and self._lines.empty():
            raise DriftlineError(
                f"The demo's app ended with exit code {self._process.returncode}; its output says why."
            )

    def deploy(self, phase: dict[str, Any]) -> None:
        """Tells the app to answer with another variant from now on: `variant`, `spec`, `slow_down`, `people`."""
        self._write(json.dumps(phase))

    def stop(self) -> None:
        """Ends the app after the batch in hand; kills it when it does not listen."""
        if self._process.poll() is None:
            assert self._process.stdin is not None
            with suppress(BrokenPipeError):
                self._process.stdin.close()
            try:
                self._process.wait(STOP_S)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        self.hear()

    def _take(self, said: dict[str, Any]) -> None:
        match said["event"]:
            case "sent":
                before = self.sent
                self.sent = said["n"]
                self.by_variant[said["variant"]] = self.by_variant.get(said["variant"], 0) + said["n"] - before
            case "deployed":
                self.deployed[said["variant"]] = said["at"]
            case "ended":
                self.stats = said["stats"]

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._lines.put(line)

    def _write(self, line: str) -> None:
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(line + "\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            self.hear()
