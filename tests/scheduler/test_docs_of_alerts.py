"""docs/alerts.md is true: its examples run, its commands exist, its tables name what there is."""

import doctest
import re
import shlex
from pathlib import Path

import pytest

from driftline.acts.channels import KINDS
from driftline.acts.rules import OCCASIONS

DOCS = Path(__file__).parents[2] / "docs" / "alerts.md"
TEXT = DOCS.read_text(encoding="utf-8")
COMMANDS = [line for line in TEXT.splitlines() if line.startswith("driftline alert ")]


def test_its_examples_run() -> None:
    failed, tried = doctest.testfile(str(DOCS), module_relative=False, encoding="utf-8")
    assert (failed, tried > 3) == (0, True)


def test_every_occasion_and_every_channel_has_a_word() -> None:
    assert [name for name in (*OCCASIONS, *KINDS) if f"`{name}`" not in TEXT and f"--kind {name}" not in TEXT] == []


@pytest.mark.parametrize("line", COMMANDS)
def test_its_commands_exist_with_these_options(line: str) -> None:
    import typer

    from driftline.cli.commands import app

    words = shlex.split(re.sub(r"\$\([^)]*\)", "x", line))[1:]
    command = typer.main.get_command(app)
    while hasattr(command, "commands"):
        command = command.commands[words.pop(0)]
    known = {opt for parameter in command.params for opt in parameter.opts}
    assert {word for word in words if word.startswith("--")} <= known


def test_the_commands_are_there() -> None:
    assert len(COMMANDS) >= 8
