"""Examples in docstrings are true, and colours can be read."""

import doctest
import importlib
import pkgutil
import re
from pathlib import Path

import pytest

import dashboard

MODULES = [one.name for one in pkgutil.walk_packages(dashboard.__path__, "dashboard.")]
CSS = (Path(dashboard.__file__).parent / "static" / "app.css").read_text()
PAIRS = [
    ("ink", "paper"), ("ink", "raised"), ("ink-soft", "paper"), ("ink-soft", "raised"), ("accent", "paper"),
    ("accent", "raised"), ("accent-ink", "accent"), ("good", "good-wash"), ("bad", "bad-wash"), ("wait", "wait-wash"),
    ("good", "raised"), ("bad", "raised"), ("ink-soft", "quiet-wash"), ("rail-ink", "rail"), ("rail-soft", "rail"),
    ("rail-ink", "rail-here"),
]  # fmt: skip


@pytest.mark.parametrize("module", MODULES)
def test_examples_in_docstrings_are_true(module: str) -> None:
    assert doctest.testmod(importlib.import_module(module)).failed == 0


def colours(theme: str) -> dict[str, str]:
    """The style sheet's colours by name; dark ones fall back to light ones."""
    light, dark = (dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6})\b", block)) for block in CSS.split("@media", 2)[:2])
    return light if theme == "light" else light | dark


def luminance(colour: str) -> float:
    """Relative luminance, WCAG 2.2."""
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    red, green, blue = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize(("text", "ground"), PAIRS)
def test_text_stands_out_from_its_ground(text: str, ground: str, theme: str) -> None:
    named = colours(theme)
    bright, dim = sorted((luminance(named[text]), luminance(named[ground])), reverse=True)

    assert (bright + 0.05) / (dim + 0.05) >= 4.5
