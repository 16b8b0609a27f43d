"""Texts as vectors without a model: hashed character 3-grams and words, and the format."""

import math
import re
import zlib
from collections import Counter
from collections.abc import Sequence

import numpy as np

from driftline.errors import BadInput
from evaluators.drift.bounds import Array

WIDTH = 1024  # places for hashed features, signed so that collisions cancel on average
CHARACTERS = 4000  # of a text that are looked at

FORMAT = (
    "characters",
    "lines",
    "list items",
    "digits",
    "upper case",
    "code fences",
    "ends in a full stop",
    "empty",
)


def features(texts: Sequence[str]) -> Array:
    """One row per text, (texts, 2 * 1024 + 8): 3-grams, words and format, each part of length at most 1.

    >>> one, other = features(["The answer is 42.", "The answer is 43."])
    >>> round(float(one @ one), 3), 2 < float(one @ other) < 3
    (3.0, True)
    """
    rows = np.zeros((len(texts), 2 * WIDTH + len(FORMAT)))
    for row, text in zip(rows, texts, strict=True):
        if not isinstance(text, str):
            raise BadInput(f"A text is {text!r}; give a string, empty where there was no answer.")
        text = text[:CHARACTERS]
        lowered = text.lower()
        _hash(row[:WIDTH], Counter(lowered[i : i + 3] for i in range(len(lowered) - 2)))
        _hash(row[WIDTH : 2 * WIDTH], Counter(re.findall(r"\w+", lowered)))
        row[2 * WIDTH :] = _format(text)
    return rows


def _hash(row: Array, counts: Counter[str]) -> None:
    for feature, count in counts.items():
        place = zlib.crc32(feature.encode())
        row[place % WIDTH] += (1 if place >> 31 else -1) * math.sqrt(count)
    length = float(np.linalg.norm(row))
    if length:
        row /= length


def _format(text: str) -> Array:
    n = max(len(text), 1)
    found = np.array(
        [
            min(math.log1p(len(text)) / math.log1p(CHARACTERS), 1.0),
            min(math.log1p(text.count("\n")) / 5, 1.0),
            min(len(re.findall(r"(?m)^\s*(?:[-*•]|\d+[.)])\s", text)) / 10, 1.0),
            sum(c.isdigit() for c in text) / n,
            sum(c.isupper() for c in text) / n,
            min(text.count("```") / 2, 1.0),
            float(text.rstrip().endswith(".")),
            float(not text.strip()),
        ]
    )
    length = float(np.linalg.norm(found))
    unit: Array = found / length if length else found
    return unit
