"""What docs/promotion.md says is what happens: its commands, its Python, its gate in CI."""

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "promotion.md").read_text()
GOLDEN = "".join(f'{{"input": "What follows {n}?", "expected": "{n + 1}"}}\n' for n in range(60))


def answers(right: int) -> str:
    rows = [f'{{"prompt": "What follows {n}?", "answer": "{n + 1 if n < right else "no idea"}"}}' for n in range(60)]
    return "\n".join(rows) + "\n"


@pytest.fixture
def shell(tmp_path: Path) -> dict[str, str]:
    """The environment of a bare runner whose `driftline` is this one."""
    return {
        **{name: value for name, value in os.environ.items() if not name.startswith("DRIFTLINE_")},
        "PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin", "PYTHONPATH": f"{ROOT}:{ROOT / 'sdk'}",
        "DRIFTLINE_DATA_DIR": str(tmp_path / "data"), "DRIFTLINE_PORT": "0", "HOME": str(tmp_path),
    }  # fmt: skip


def blocks(beginning: str) -> list[str]:
    return re.findall(rf"```bash\n{beginning}\n(.*?)```", PAGE, re.S)


def test_its_commands_do_what_they_say(shell: dict[str, str], tmp_path: Path) -> None:
    said = ""
    for block in blocks("# runs in the tests"):
        done = subprocess.run(["sh", "-e", "-c", block], env=shell, cwd=tmp_path, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        said += done.stdout
    assert "support: approved by manual; 50 prompts in the shadow; a canary of 10% until 300 answers." in said
    assert "ann is admin now." in said


def test_its_python_runs_while_no_server_is_there(shell: dict[str, str], tmp_path: Path) -> None:
    (block,) = re.findall(r"```python\n(.*?)```", PAGE, re.S)
    code = block.replace("http://127.0.0.1:8400", "http://127.0.0.1:9") + "\nprint(variant)\n"
    done = subprocess.run([sys.executable, "-c", code], env=shell, cwd=tmp_path, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "llama-fp16\n"), done.stderr


@pytest.mark.slow
@pytest.mark.parametrize(("right", "code", "verdict"), [(60, 0, "equivalent"), (20, 1, "worse")])
def test_its_gate_lets_through_what_is_as_good_and_stops_what_is_worse(
    right: int, code: int, verdict: str, shell: dict[str, str], tmp_path: Path
) -> None:
    for name, content in {"golden": GOLDEN, "before": answers(60), "after": answers(right)}.items():
        (tmp_path / f"{name}.jsonl").write_text(content)
    (script,) = blocks("# the whole job")
    job = subprocess.Popen(
        ["sh", "-e", "-c", script], env=shell, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        text=True, start_new_session=True,
    )  # fmt: skip
    try:
        said, _ = job.communicate(timeout=300)
    finally:
        os.killpg(job.pid, signal.SIGTERM)
    assert job.returncode == code, said + (tmp_path / "driftline.log").read_text()
    assert f"after against before: {verdict}." in said
