"""Prints what an image must install: `python requirements.py collector`, beside pyproject.toml, for that extra.

Images install these before the code is copied, so that a change of the code does not download PyTorch again.
"""

import re
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

OWN = re.compile(r"driftline\[([^\]]+)\]")


def requirements(project: dict[str, object], extras: list[str]) -> Iterator[str]:
    """The requirements of the project and of its extras; an extra that names other extras is followed."""
    of_extras = project["optional-dependencies"]
    assert isinstance(of_extras, dict)
    base = project["dependencies"]
    assert isinstance(base, list)
    yield from base
    waiting = list(extras)
    for extra in waiting:
        if extra not in of_extras:
            sys.exit(f"There is no extra {extra!r}. Known: {', '.join(of_extras)}.")
        for wanted in of_extras[extra]:
            own = OWN.fullmatch(wanted)
            if own is None:
                yield wanted
            else:
                waiting.extend(name.strip() for name in own[1].split(","))


if __name__ == "__main__":
    told = tomllib.loads(Path("pyproject.toml").read_text(encoding="utf-8"))
    sys.stdout.write("\n".join(dict.fromkeys(requirements(told["project"], sys.argv[1:]))) + "\n")
