"""What pages tell people to type is what the command line understands."""

import re
import shlex
from pathlib import Path

import pytest
import typer

import dashboard
from driftline.cli.commands import app

TEMPLATES = Path(next(iter(dashboard.__path__))) / "templates"


def hints() -> list[str]:
    """Every command in a hint of an empty page or in a code element."""
    found = []
    for template in sorted(TEMPLATES.rglob("*.html")):
        text = template.read_text().replace('\\"', "'").replace("\\n", "\n")
        for quoted in re.findall(r"ui\.empty\((.*?)\) }}", text) + re.findall(r"<code>(driftline .*?)</code>", text):
            filled = re.sub(r"{{.*?}}|\" ~ .*? ~ \"|\" ~ [^)]*$", "NAME", quoted)
            found += re.findall(r"driftline [a-z][^\"\n]*", filled)
    return found


@pytest.mark.parametrize("hint", hints())
def test_a_hint_names_a_command_and_options_that_exist(hint: str) -> None:
    words = shlex.split(hint.rstrip("."))[1:]
    command = typer.main.get_command(app)
    while words and (commands := getattr(command, "commands", None)):
        assert words[0] in commands, hint
        command = commands[words.pop(0)]
    known = {"--help"} | {name for parameter in command.params for name in (*parameter.opts, *parameter.secondary_opts)}
    assert {word for word in words if word.startswith("--")} <= known, hint
