"""Rows of files as tools write them: JSON Lines, JSON, CSV and Parquet, one after the other, each with its place."""

import csv
import json
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from driftline.errors import BadInput, MissingPackage

Row = dict[str, Any]
Rows = Iterator[tuple[str, Row]]  # "line 3", "item 3" or "row 3", and what stands there
BATCH = 500  # Parquet rows read at a time


def rows_of(path: Path, documents: Mapping[str, Callable[[str], Any]] | None = None, held: str | None = None) -> Rows:
    """Place and content of each row of a file; its suffix says how it is written. CSV cells are texts.

    Args:
        documents: More kinds by suffix, such as YAML: what makes a value of a file's text; ValueError where it is none.
        held: The key under which a document that is an object holds its rows, as APIs answer; the first list in it
            unless given. Without such a list the object is the only row.

    Raises:
        BadInput: The file is missing, of an unknown kind or broken; says where.
        MissingPackage: Parquet without pyarrow.
    """
    whole = {".json": json.loads, **(documents or {})}
    suffix = path.suffix.lower()
    if suffix not in whole and suffix not in _READERS:
        raise BadInput(f"{path} ends in {path.suffix or 'nothing'}; known are {', '.join([*_READERS, *whole])}.")
    try:
        path.open("rb").close()
    except OSError as error:
        raise _unreadable(path, error) from None
    found = _members(path, whole[suffix], held) if suffix in whole else _READERS[suffix](path)
    return _explained(path, found)


def _explained(path: Path, rows: Rows) -> Rows:
    try:
        yield from rows
    except OSError as error:
        raise _unreadable(path, error) from None
    except UnicodeDecodeError as error:
        raise BadInput(f"{path} is not UTF-8 (byte {error.start}). Save it as UTF-8.") from None


def _unreadable(path: Path, error: OSError) -> BadInput:
    return BadInput(f"{path} cannot be read: {error.strerror or error}.")


def _broken(path: Path, place: str, what: str) -> BadInput:
    return BadInput(f"{path}, {place}: {what}")


def _lines(path: Path) -> Rows:
    with path.open(encoding="utf-8-sig") as file:
        for number, line in enumerate(file, 1):
            if line.strip():
                place = f"line {number}"
                yield place, _object(path, place, line)


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


def _members(path: Path, read: Callable[[str], Any], held: str | None) -> Rows:
    text = path.read_text(encoding="utf-8-sig")
    try:
        value = read(text)
    except (ValueError, RecursionError) as error:
        kind = path.suffix.lower().strip(".").upper()
        raise _broken(path, "the file", f"not {kind} ({' '.join(str(error).split())}).") from None
    if isinstance(value, dict):
        lists = [one for key, one in value.items() if isinstance(one, list) and held in (None, key)]
        value = lists[0] if lists else [value]
    for number, member in enumerate(value if isinstance(value, list) else [value], 1):
        if not isinstance(member, dict):
            raise _broken(path, f"item {number}", "an item is an object.")
        yield f"item {number}", member


def _csv(path: Path) -> Rows:
    csv.field_size_limit(min(sys.maxsize, 2**31 - 1))
    with path.open(encoding="utf-8-sig", newline="") as file:
        rows = csv.DictReader(file)
        try:
            for row in rows:
                place = f"line {rows.line_num}"
                if None in row or None in row.values():
                    columns = len(rows.fieldnames or ())
                    raise _broken(path, place, f"the header has {columns} columns, this row has not.")
                yield place, row
        except csv.Error as error:
            raise _broken(path, f"line {rows.line_num + 1}", f"not CSV ({error}).") from None


def _parquet(path: Path) -> Rows:
    parquet = parquet_module()
    from pyarrow import ArrowInvalid  # type: ignore[import-untyped]

    number = 0
    try:
        with path.open("rb") as file:
            for batch in parquet.ParquetFile(file).iter_batches(batch_size=BATCH):
                for row in batch.to_pylist():
                    number += 1
                    yield f"row {number}", row
    except ArrowInvalid as error:
        raise _broken(path, "the file", f"not Parquet ({error}).") from None


def parquet_module() -> Any:
    """`pyarrow.parquet`.

    Raises:
        MissingPackage: It is not installed.
    """
    try:
        from pyarrow import parquet
    except ImportError:
        raise MissingPackage("pyarrow", "Parquet", "pip install pyarrow") from None
    return parquet


_READERS: dict[str, Callable[[Path], Rows]] = {".csv": _csv, ".parquet": _parquet, ".jsonl": _lines, ".ndjson": _lines}
