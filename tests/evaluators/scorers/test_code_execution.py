"""Code in answers runs apart: it is judged by what it does, and it can do little."""

import os
import time
from pathlib import Path

import pytest

from driftline.errors import BadInput
from driftline.protocols import Answered
from evaluators.scorers import scorer

ASKED = ({"role": "user", "content": "Write add(a, b)."},)
TESTS = {"tests": "assert add(2, 3) == 5\nassert add(-1, 1) == 0"}
GOOD = "Here it is:\n```python\ndef add(a, b):\n    return a + b\n```\nIt adds."


@pytest.fixture(scope="module")
def score():
    return scorer("code_execution", timeout_s=20.0)


def because(score, code, **more):
    (found,) = score([Answered(ASKED, code, **({"expected": ("done",)} | more))])
    return found.value, found.because or ""


def test_code_that_passes_its_tests_scores_1_and_what_fails_says_how(score):
    bad = GOOD.replace("a + b", "a - b")
    passed, failed = score([Answered(ASKED, GOOD, tags=TESTS), Answered(ASKED, bad, tags=TESTS)])
    assert (passed.value, failed.value, failed.because) == (1.0, 0.0, "AssertionError")
    assert because(score, "def f(:\n  pass")[1].startswith("SyntaxError")
    assert because(score, "print('done'); raise SystemExit(3)") == (0.0, "it ended with exit code 3")
    assert because(score, "print('done')") == (1.0, "")
    assert because(score, "```python\n```") == (0.0, "the answer holds no code")


def test_code_that_never_ends_is_ended():
    started = time.monotonic()
    value, reason = because(scorer("code_execution", timeout_s=1.0), "while True: pass")
    assert (value, reason[:22]) in ((0.0, "it ran longer than 1 s"), (0.0, "it ended with SIGXCPU"[:22]))
    assert time.monotonic() - started < 15


def test_code_that_eats_memory_is_stopped(score):
    assert "MemoryError" in because(score, "x = 'a' * 10**12")[1]


@pytest.mark.parametrize(
    "attempt",
    [
        "import socket; socket.socket().connect(('127.0.0.1', 9))",
        "import urllib.request; urllib.request.urlopen('http://127.0.0.1:9')",
        "import os; os.system('true')",
        "import subprocess; subprocess.run(['true'])",
        "import os; os.fork()",
        "import os; os.kill(1, 0)",
        "import ctypes",
        "open('/etc/passwd').read()",
        "import os; os.listdir('/')",
        "import os; os.chdir('/'); open('etc/passwd')",
        "import os; os.symlink('/etc/passwd', 'mine'); open('mine').read()",
        "open('{target}', 'w').write('x')",
        "import os; os.remove('{target}')",
        "import shutil; shutil.rmtree('{target}')",
        "import os; os.rename('{target}', 'mine')",
    ],
)
def test_code_reaches_nothing_outside_its_folder(score, attempt, tmp_path: Path):
    target = tmp_path / "precious"
    target.write_text("kept")
    code = "try:\n    " + "\n    ".join(attempt.replace("{target}", str(target)).split("; "))
    code += "\nexcept (PermissionError, OSError) as error:\n    print('done' if 'sandbox' in str(error) else error)\n"
    assert because(score, code) == (1.0, "")
    assert target.read_text() == "kept"


def test_code_may_work_in_its_own_folder_and_sees_no_environment(score):
    os.environ["SECRET_OF_A_TEST"] = "hush"
    code = "import os, json, math\nopen('a.txt', 'w').write('done')\n"
    code += "assert 'SECRET_OF_A_TEST' not in os.environ\nprint(open('a.txt').read())"
    try:
        assert because(score, code) == (1.0, "")
    finally:
        del os.environ["SECRET_OF_A_TEST"]


def test_limits_that_let_nothing_run_are_refused():
    with pytest.raises(BadInput, match="Code needs time"):
        scorer("code_execution", timeout_s=0)
