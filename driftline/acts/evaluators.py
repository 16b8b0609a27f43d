"""Evaluators as replays name them: a scorer, and after a colon its configuration."""

import json
from typing import Any

from driftline.errors import BadInput


def read_evaluator(text: str) -> tuple[str, dict[str, Any]]:
    """Name and configuration of a scorer.

    A judge's configuration names who judges: `judge:{"variant": "judge-7b", "repeats": 3, "anchors": "human-labels"}`.

    Raises:
        BadInput: What follows the colon is no JSON object.

    >>> read_evaluator('numeric:{"tolerance": 0.1}')
    ('numeric', {'tolerance': 0.1})
    """
    name, _, config = text.partition(":")
    if not config.strip():
        return name.strip(), {}
    try:
        value = json.loads(config)
    except json.JSONDecodeError as error:
        raise BadInput(
            f"The configuration of scorer {name} is no JSON: {error.msg} at column {error.colno} of {config!r}."
        ) from None
    if not isinstance(value, dict):
        raise BadInput(f"The configuration of scorer {name} must be a JSON object; got {config!r}.")
    return name.strip(), value


def evaluator_name(text: str) -> str:
    """The name alone, under which scores and comparisons are kept."""
    return text.partition(":")[0].strip()
