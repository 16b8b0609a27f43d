"""docs/detection.md is true: its example runs, its tables name what exists."""

import doctest
import re
from importlib import import_module
from pathlib import Path

from evaluators.drift import DETECTORS
from evaluators.drift.cause import RULES

DOCS = Path(__file__).parents[3] / "docs" / "detection.md"


def test_the_example_of_the_guide_runs() -> None:
    failed, tried = doctest.testfile(str(DOCS), module_relative=False, encoding="utf-8")
    assert (failed, tried > 5) == (0, True)


def test_the_guide_describes_every_detector_and_every_cause() -> None:
    text = DOCS.read_text()
    assert set(re.findall(r"^\| `([a-z-]+)` \|", text, re.MULTILINE)) == set(DETECTORS)
    assert all(f"`{name}`" in text for name in (*RULES, "unknown"))


def test_every_function_that_the_guide_names_exists() -> None:
    named = re.findall(r"`([a-z]+)\.([a-z_]+)`", DOCS.read_text())
    ours = [(module, name) for module, name in named if module != "evaluators"]
    assert len(ours) >= 8
    assert all(hasattr(import_module(f"evaluators.drift.{module}"), name) for module, name in ours)
