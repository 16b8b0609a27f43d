"""Items in files: JSON Lines, JSON, CSV and Parquet, one after the other, never all at once."""

import contextlib
import csv
import json
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from driftline.errors import BadInput, MissingPackage

Item = dict[str, Any]


def read_items(path: Path) -> Iterator[Item]:
    """The items of a file; its suffix says how it is written.

    Raises:
        BadInput: The file is missing, of an unknown kind or broken; says where.
    """
    reader = _READERS.get(path.suffix.lower())
    if reader is None:
        raise BadInput(f"{path} ends in {path.suffix or 'nothing'}; known are {', '.join(_READERS)}.")
    if not path.is_file():
        raise BadInput(f"There is no file {path}.")
    return _readable(path, reader(path))


def _readable(path: Path, items: Iterator[Item]) -> Iterator[Item]:
    try:
        yield from items
    except UnicodeDecodeError as error:
        raise BadInput(f"{path} is not UTF-8 (byte {error.start}). Save it as UTF-8.") from None
    except csv.Error as error:
        raise BadInput(f"{path} is not CSV: {error}.") from None
    except OSError as error:
        raise BadInput(f"{path} cannot be read: {error.strerror or error}.") from None


def _read_lines(path: Path) -> Iterator[Item]:
    with path.open(encoding="utf-8-sig") as file:
        for number, line in enumerate(file, 1):
            if line.strip():
                yield _object(line, path, number)


def _object(line: str, path: Path, number: int) -> Item:
    try:
        value = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise BadInput(f"{path}, line {number} is not JSON: {error}.") from None
    if not isinstance(value, dict):
        raise BadInput(f"{path}, line {number} is not a JSON object.")
    return value


def _read_json(path: Path) -> Iterator[Item]:
    try:
        value = json.loads(path.read_text(encoding="utf-8-sig"))
    except UnicodeDecodeError:
        raise
    except (ValueError, RecursionError) as error:
        raise BadInput(f"{path} is not JSON: {error}.") from None
    if isinstance(value, dict):  # {"data": […]} as APIs answer
        value = next((held for held in value.values() if isinstance(held, list)), [value])
    for number, item in enumerate(value if isinstance(value, list) else [value], 1):
        if not isinstance(item, dict):
            raise BadInput(f"{path}, item {number} is not an object.")
        yield item


def _read_csv(path: Path) -> Iterator[Item]:
    csv.field_size_limit(min(sys.maxsize, 2**31 - 1))
    with path.open(encoding="utf-8-sig", newline="") as file:
        rows = csv.DictReader(file)
        for row in rows:
            if None in row or None in row.values():
                columns = len(rows.fieldnames or ())
                raise BadInput(f"{path}, line {rows.line_num}: the header has {columns} columns, this row has not.")
            yield row


def _read_parquet(path: Path) -> Iterator[Item]:
    parquet = _pyarrow_parquet()
    try:
        for batch in parquet.ParquetFile(path).iter_batches(batch_size=500):
            yield from batch.to_pylist()
    except ValueError as error:  # what pyarrow's own errors are
        raise BadInput(f"{path} is not Parquet: {error}.") from None


_READERS: dict[str, Callable[[Path], Iterator[Item]]] = {
    ".jsonl": _read_lines, ".ndjson": _read_lines, ".json": _read_json, ".csv": _read_csv, ".parquet": _read_parquet,
}  # fmt: skip


def write_items(
    path: Path,
    columns: Sequence[str],
    batches: Iterable[Sequence[Mapping[str, Any]]],
    *,
    suffix: str | None = None,
) -> int:
    """Writes items to a file whose suffix (or the one given) says how; how many they were.

    The file appears under its name when it is whole; what was there stays until then.

    Raises:
        BadInput: The suffix is unknown, or the file cannot be written.
    """
    suffix = path.suffix if suffix is None else suffix
    writer = _WRITERS.get(suffix.lower())
    if writer is None:
        raise BadInput(f"The file would end in {suffix or 'nothing'}; known are {', '.join(_WRITERS)}.")
    part = path.with_name(path.name + ".part")
    try:
        n = writer(part, columns, batches)
        part.replace(path)
    except OSError as error:
        raise BadInput(f"{path} cannot be written ({error.strerror}).") from None
    finally:
        with contextlib.suppress(OSError):
            part.unlink()
    return n


def _write_lines(path: Path, _columns: Sequence[str], batches: Iterable[Sequence[Mapping[str, Any]]]) -> int:
    n = 0
    with path.open("w", encoding="utf-8") as file:
        for batch in batches:
            file.writelines(json.dumps(dict(item), ensure_ascii=False) + "\n" for item in batch)
            n += len(batch)
    return n


def _write_csv(path: Path, columns: Sequence[str], batches: Iterable[Sequence[Mapping[str, Any]]]) -> int:
    n = 0
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, columns)
        writer.writeheader()
        for batch in batches:
            writer.writerows({name: _cell(value) for name, value in item.items()} for item in batch)
            n += len(batch)
    return n


def _cell(value: Any) -> Any:
    return json.dumps(value, ensure_ascii=False) if isinstance(value, dict | list) else value


def _write_parquet(path: Path, columns: Sequence[str], batches: Iterable[Sequence[Mapping[str, Any]]]) -> int:
    parquet = _pyarrow_parquet()
    import pyarrow  # type: ignore[import-untyped]

    kinds = {str: pyarrow.string(), int: pyarrow.int64(), float: pyarrow.float64()}
    schema = pyarrow.schema([(name, kinds[PARQUET_KINDS.get(name, str)]) for name in columns])
    n = 0
    with parquet.ParquetWriter(path, schema) as writer:
        for batch in batches:
            rows = [{name: _cell(value) for name, value in item.items()} for item in batch]
            writer.write_table(pyarrow.Table.from_pylist(rows, schema))
            n += len(batch)
    return n


def _pyarrow_parquet() -> Any:
    try:
        from pyarrow import parquet
    except ImportError:
        raise MissingPackage("pyarrow", "Parquet", "pip install pyarrow") from None
    return parquet


PARQUET_KINDS: dict[str, type] = {
    "latency_ms": float, "ttft_ms": float, "cost_usd": float, "sample_rate": float, "input_tokens": int,
    "output_tokens": int,
}  # fmt: skip

_WRITERS: dict[str, Callable[[Path, Sequence[str], Iterable[Sequence[Mapping[str, Any]]]], int]] = {
    ".jsonl": _write_lines, ".csv": _write_csv, ".parquet": _write_parquet,
}  # fmt: skip
