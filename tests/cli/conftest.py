"""The command line as a person meets it: a process of its own, its output and its exit code."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest


@dataclass(frozen=True)
class Said:
    """What a command printed and how it ended."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """Its one JSON document."""
        return json.loads(self.out)


Driftline = Callable[..., Said]


@pytest.fixture
def driftline(data_dir: Path) -> Driftline:
    """Runs a command in a process of its own; no command may ever end in a traceback."""

    def run(*arguments: str | Path, code: int = 0, **environment: str) -> Said:
        done = subprocess.run(
            [sys.executable, "-m", "driftline", *map(str, arguments)], env={**os.environ, **environment},
            capture_output=True, text=True, timeout=120, stdin=subprocess.DEVNULL,
        )  # fmt: skip
        said = Said(done.returncode, done.stdout, done.stderr)
        assert "Traceback" not in said.err, said.err
        assert said.code == code, said
        return said

    return run


@pytest.fixture
def command(store: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Driftline:
    """Runs a command through its real entry point in this process, which saves the time a process takes to start."""
    from driftline.cli import main

    def run(*arguments: str | Path, code: int = 0) -> Said:
        monkeypatch.setattr(sys, "argv", ["driftline", *map(str, arguments)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main()
        printed = capsys.readouterr()
        said = Said(int(ended.value.code or 0), printed.out, printed.err)
        assert "Traceback" not in said.err, said.err
        assert said.code == code, said
        return said

    return run


@pytest.fixture
def golden_file(tmp_path: Path) -> Path:
    """Forty questions with their answers, as JSON Lines."""
    lines = [json.dumps({"input": f"Question {n}?", "expected": f"answer {n}"}) for n in range(40)]
    path = tmp_path / "questions.jsonl"
    path.write_text("\n".join(lines) + "\n")
    return path


@pytest.fixture
def worker(store: Path, work_off: Callable[..., Any]) -> Iterator[None]:
    """A worker in a thread, for commands that wait for one."""
    from threading import Event, Thread

    stop = Event()

    def work() -> None:
        while not stop.wait(0.05):
            work_off(early=True)

    thread = Thread(target=work)
    thread.start()
    yield
    stop.set()
    thread.join()
