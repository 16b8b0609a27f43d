"""docs/comparison.md and the examples in docstrings are true."""

import doctest
from importlib import import_module
from pathlib import Path

import pytest

DOCS = Path(__file__).parents[3] / "docs" / "comparison.md"


def test_the_examples_of_the_guide_run():
    found = doctest.testfile(str(DOCS), module_relative=False)
    assert found.attempted > 10
    assert found.failed == 0


@pytest.mark.parametrize("module", ["compare", "evidence", "pairs", "power", "sequential", "slices", "verdicts"])
def test_the_examples_of_the_docstrings_run(module):
    found = doctest.testmod(import_module(f"evaluators.comparison.{module}"))
    assert found.attempted > 0
    assert found.failed == 0
