"""docs/scorers.md and the examples in docstrings are true."""

import doctest
import inspect
from importlib import import_module
from pathlib import Path

import pytest

from evaluators.scorers import SCORERS

DOCS = Path(__file__).parents[3] / "docs" / "scorers.md"
MODULES = ("", ".grading", ".languages", ".likelihood", ".numeric", ".pii", ".words", ".embeddings")


def test_the_examples_of_the_guide_run():
    found = doctest.testfile(str(DOCS), module_relative=False)
    assert found.attempted > 5
    assert found.failed == 0


@pytest.mark.parametrize("module", MODULES)
def test_the_examples_of_the_docstrings_run(module):
    found = doctest.testmod(import_module(f"evaluators.scorers{module}"))
    assert found.attempted > 0
    assert found.failed == 0


@pytest.mark.parametrize("name", SCORERS)
def test_the_table_of_the_guide_says_what_the_docstring_says(name):
    module, function = SCORERS[name].split(":")
    make = getattr(import_module(module), function)
    parameters = inspect.signature(make).parameters
    config = ", ".join(f"`{parameter}`" for parameter in parameters if parameter != "model") or "–"
    asks = "yes" if "model" in parameters else ""
    row = f"| `{name}` | {inspect.getdoc(make).splitlines()[0]} | {config} | {asks} |"
    assert row in DOCS.read_text(encoding="utf-8").splitlines()
