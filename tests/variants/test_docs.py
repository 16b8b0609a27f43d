"""The guide's example runs, its tables name every method and runner, and the examples in docstrings hold."""

import doctest
import importlib
import pkgutil
import re
from pathlib import Path

import pytest

import variants
from variants.methods import METHODS
from variants.runners import RUNNERS

GUIDE = Path(__file__).parents[2] / "docs" / "variants.md"
MODULES = [found.name for found in pkgutil.walk_packages(variants.__path__, "variants.")]


def test_the_guides_example_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    [example] = re.findall(r"```python\n(.*?)```", GUIDE.read_text(), re.DOTALL)

    exec(compile(example, str(GUIDE), "exec"), {})

    assert capsys.readouterr().out.splitlines()[1] == "Paris."


def test_the_guide_names_every_method_and_runner() -> None:
    cells = re.findall(r"^\| (`[^|]*`) \|", GUIDE.read_text(), re.MULTILINE)
    named = {name for cell in cells for name in re.findall(r"`(\w+)`", cell)}

    assert set(METHODS) | set(RUNNERS) == named


@pytest.mark.parametrize("module", MODULES)
def test_docstring_examples_hold(module: str) -> None:
    assert doctest.testmod(importlib.import_module(module)).failed == 0
