"""The examples in the docstrings of the drift room run."""

import doctest
import pkgutil
from importlib import import_module

import pytest

import evaluators.drift

MODULES = [
    "evaluators.drift",
    *(f"evaluators.drift.{found.name}" for found in pkgutil.iter_modules(evaluators.drift.__path__)),
]


@pytest.mark.parametrize("name", MODULES)
def test_the_examples_in_the_docstrings_say_what_happens(name: str) -> None:
    failed, _ = doctest.testmod(import_module(name))
    assert failed == 0
