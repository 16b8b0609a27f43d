"""Does the code in the answer do what it should?"""

import os
import re
import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import lru_cache
from pathlib import Path

from driftline.errors import BadInput
from driftline.protocols import Answered, Score, Scored
from evaluators.scorers.judging import Together, references, unscored

FENCED = re.compile(r"```[ \t]*(?:python|py)?[ \t]*\n(.*?)(?:\n?```|\Z)", re.DOTALL | re.IGNORECASE)
MOST_OUTPUT = 100_000  # characters
AT_ONCE = 4
RUNNER = Path(__file__).with_name("sandbox_child.py")


def code_execution(timeout_s: float = 5.0, memory_mb: int = 512, tests: str | None = None) -> Score:
    """1 where the answer's Python code runs and passes its tests, or prints what is expected; 0 elsewhere.

    The code is the first fenced block, or the whole answer. Tests are Python that is run after it, from the
    configuration or the item's tag `tests`; without any, what the code prints must equal a reference.

    It runs in a process of its own with an empty environment and folder, limits on time, memory and file size, no
    network, no other processes, and no files but its own and Python's. This stops accidents and clumsy tricks. It is
    no wall against an attacker: where answers may be hostile, let the workers run in a container or a machine apart.

    Args:
        timeout_s: Wall-clock seconds for one answer.
        memory_mb: Address space for one answer.
        tests: Python code for all items.

    Raises:
        BadInput: A limit that is not above 0.
    """
    if timeout_s <= 0 or memory_mb < 64:
        raise BadInput(f"Code needs time and at least 64 MB to run; got {timeout_s} s and {memory_mb} MB.")

    def judge(answers: Sequence[Answered]) -> list[Scored]:
        with ThreadPoolExecutor(AT_ONCE) as pool:
            return list(pool.map(one, answers))

    def one(answered: Answered) -> Scored:
        checks = tests or answered.tags.get("tests")
        expected = references(answered)
        if not checks and not expected:
            return unscored("the item has neither tests nor an expected output")
        found = FENCED.search(answered.text)
        code = found[1] if found else answered.text
        if not code.strip():
            return Scored(0.0, because="the answer holds no code")
        ended, printed, complaint = run(f"{code}\n\n{checks or ''}\n", timeout_s, memory_mb)
        if ended is None:
            return Scored(0.0, because=f"it ran longer than {timeout_s:g} s")
        if ended != 0:
            return Scored(0.0, because=complaint or f"it ended with {_name(ended)}")
        if not checks and printed.strip() not in {text.strip() for text in expected}:
            return Scored(0.0, because=f"it printed {printed.strip()[:200]!r}")
        return Scored(1.0)

    return Together("code_execution", judge)


def run(code: str, timeout_s: float, memory_mb: int) -> tuple[int | None, str, str]:
    """Exit code (None where time ran out), output, and the last line of what was complained of."""
    with tempfile.TemporaryDirectory(prefix="driftline-code-") as folder:
        program = Path(folder) / "answer.py"
        program.write_text(code, encoding="utf-8", errors="replace")
        with (Path(folder) / "out").open("w+b") as out, (Path(folder) / "err").open("w+b") as err:
            child = subprocess.Popen(
                [*_without_network(), sys.executable, "-I", "-B", "-c", RUNNER.read_text(), str(memory_mb),
                 str(timeout_s)],
                cwd=folder, env={}, stdin=subprocess.DEVNULL, stdout=out, stderr=err, start_new_session=True,
            )  # fmt: skip
            try:
                ended: int | None = child.wait(timeout_s)
            except subprocess.TimeoutExpired:
                ended = None
            finally:
                _end(child)
            return ended, _read(out, first=True), (_read(err, first=False).strip().splitlines() or [""])[-1][:300]


def _end(child: "subprocess.Popen[bytes]") -> None:
    """Kills whatever of the child's group is left."""
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(child.pid, signal.SIGKILL)
    child.wait()


def _read(file: object, *, first: bool) -> str:
    assert hasattr(file, "seek")
    assert hasattr(file, "read")
    size = file.seek(0, os.SEEK_END)
    file.seek(0 if first else max(size - MOST_OUTPUT, 0))
    return bytes(file.read(MOST_OUTPUT)).decode("utf-8", "replace")


@lru_cache(maxsize=1)
def _without_network() -> tuple[str, ...]:
    """A command that runs another in a network of its own with nobody in it; nothing where the kernel forbids it."""
    command = ("unshare", "--user", "--map-root-user", "--net")
    try:
        subprocess.run([*command, "true"], check=True, capture_output=True, timeout=5)
    except (OSError, subprocess.SubprocessError):
        return ()
    return command


def _name(ended: int) -> str:
    return signal.Signals(-ended).name if ended < 0 else f"exit code {ended}"
