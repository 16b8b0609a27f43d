"""Runs a script in a new interpreter that finds the SDK."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path

SDK = Path(__file__).parents[1]


def run(script: str | Path, *arguments: object) -> subprocess.CompletedProcess[str]:
    """A path is run as a file, a text as a program."""
    program = [str(script)] if isinstance(script, Path) else ["-c", textwrap.dedent(script)]
    environment = {**os.environ, "PYTHONPATH": str(SDK)}
    command = [sys.executable, *program, *map(str, arguments)]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)
