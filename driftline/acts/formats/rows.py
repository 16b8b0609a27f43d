"""Rows of files, whatever tool wrote them: each with its place, one after the other."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from driftline.errors import BadInput
from driftline.files import Row, rows_of

ABSENT: dict[str, tuple[Any, ...]] = {".csv": ("",), ".parquet": (None,)}  # how tables say that a cell is not there
TEXTS = ("rubric", "cluster", "split")  # columns that are texts even where they look like JSON


def documents(path: Path) -> Iterator[tuple[str, Row]]:
    """Place and content of each row of a JSON Lines, JSON, CSV, Parquet or YAML file.

    Raises:
        BadInput: The file cannot be read; says why, and where.
        MissingPackage: Parquet without pyarrow.
    """
    absent = ABSENT.get(path.suffix.lower())
    try:
        for place, row in rows_of(path, {".yaml": _yaml, ".yml": _yaml}, held="data"):
            if absent is not None:
                row = {name: _cell(name, value) for name, value in row.items() if value not in absent}
            yield place, row
    except BadInput as error:
        raise BadInput(f"{error.message} Nothing was imported.") from None


def _yaml(text: str) -> Any:
    import yaml

    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ValueError(str(error)) from None


def text_of(value: Any) -> str | None:
    """A value of another tool as a text: what it says where it holds one text, else its JSON; None stays."""
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, dict) and len(value) == 1:
        only = next(iter(value.values()))
        if isinstance(only, str):
            return only
    return json.dumps(value, ensure_ascii=False)


def tags_of(value: Any) -> dict[str, str]:
    """Another tool's metadata as tags: its entries that are texts, numbers or yes/no."""
    if not isinstance(value, dict):
        return {}
    return {str(key): str(one) for key, one in value.items() if isinstance(one, str | int | float) and str(one)}


def _cell(name: str, value: Any) -> Any:
    """A cell that holds a JSON list or object, read; a map of pairs as an object; all else as it is."""
    if name in TEXTS:
        return value
    if isinstance(value, list) and value and all(isinstance(one, tuple) for one in value):
        return dict(value)
    if not isinstance(value, str) or value.lstrip()[:2] not in ("[{", '["', '{"', "[]", "{}"):
        return value
    try:
        return json.loads(value)
    except ValueError:
        return value  # a text that only looks like JSON
