"""Rows of files, whatever tool wrote them: each with its place, one after the other."""

import csv
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from driftline.errors import BadInput, MissingPackage

Row = dict[str, Any]
TEXTS = ("rubric", "cluster", "split")  # columns that are texts even where they look like JSON


def documents(path: Path) -> Iterator[tuple[str, Row]]:
    """Place and content of each row of a JSON Lines, JSON, CSV, Parquet or YAML file.

    Raises:
        BadInput: The file cannot be read; says why, and where.
        MissingPackage: Parquet without pyarrow.
    """
    readers = {
        ".csv": _csv, ".parquet": _parquet, ".json": _json, ".yaml": _yaml, ".yml": _yaml, ".jsonl": _lines,
        ".ndjson": _lines,
    }  # fmt: skip
    read = readers.get(path.suffix.lower())
    if read is None:
        raise BadInput(f"The golden file {path} ends in {path.suffix or 'nothing'}; known are {', '.join(readers)}.")
    try:
        yield from read(path)
    except OSError as error:
        raise BadInput(f"The golden file {path} cannot be read: {error.strerror}.") from None
    except UnicodeDecodeError as error:
        raise BadInput(f"The golden file {path} is not UTF-8 (byte {error.start}). Save it as UTF-8.") from None


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


def _lines(path: Path) -> Iterator[tuple[str, Row]]:
    with path.open(encoding="utf-8-sig") as file:
        for number, line in enumerate(file, 1):
            if line.strip():
                place = f"line {number}"
                yield place, _object(path, place, line)


def _json(path: Path) -> Iterator[tuple[str, Row]]:
    text = path.read_text(encoding="utf-8-sig")
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise _broken(path, "the file", f"not JSON ({error}).") from None
    yield from _members(path, value)


def _yaml(path: Path) -> Iterator[tuple[str, Row]]:
    import yaml

    try:
        value = yaml.safe_load(path.read_text(encoding="utf-8-sig"))
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise _broken(path, "the file", f"not YAML ({' '.join(str(error).split())}).") from None
    yield from _members(path, value)


def _members(path: Path, value: Any) -> Iterator[tuple[str, Row]]:
    if isinstance(value, dict) and isinstance(value.get("data"), list):  # as APIs answer
        value = value["data"]
    for number, member in enumerate(value if isinstance(value, list) else [value], 1):
        if not isinstance(member, dict):
            raise _broken(path, f"item {number}", "an item is an object.")
        yield f"item {number}", member


def _csv(path: Path) -> Iterator[tuple[str, Row]]:
    csv.field_size_limit(min(sys.maxsize, 2**31 - 1))
    with path.open(encoding="utf-8-sig", newline="") as file:
        rows = csv.DictReader(file)
        for row in rows:
            place = f"line {rows.line_num}"
            if None in row or None in row.values():
                raise _broken(path, place, f"the header has {len(rows.fieldnames or ())} columns, this row has not.")
            yield place, {name: _cell(name, value) for name, value in row.items() if value != ""}


def _parquet(path: Path) -> Iterator[tuple[str, Row]]:
    try:
        from pyarrow import ArrowInvalid, parquet  # type: ignore[import-untyped]
    except ImportError:
        raise MissingPackage("pyarrow", "Parquet", "pip install pyarrow") from None
    try:
        number = 0
        with path.open("rb") as opened:
            for batch in parquet.ParquetFile(opened).iter_batches(batch_size=1000):
                for row in batch.to_pylist():
                    number += 1
                    cells = {name: _cell(name, value) for name, value in row.items()}
                    yield f"row {number}", {name: value for name, value in cells.items() if value is not None}
    except ArrowInvalid as error:
        raise _broken(path, "the file", f"not Parquet ({error}).") from None


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


def _object(path: Path, place: str, line: str) -> Row:
    try:
        value = json.loads(line)
    except json.JSONDecodeError as error:
        raise _broken(path, place, f"not JSON ({error.msg} at column {error.colno}).") from None
    except RecursionError:
        raise _broken(path, place, "nested too deeply.") from None
    if not isinstance(value, dict):
        raise _broken(path, place, "an item is a JSON object.")
    return value


def _broken(path: Path, place: str, what: str) -> BadInput:
    return BadInput(f"{path}, {place}: {what} Nothing was imported.")
