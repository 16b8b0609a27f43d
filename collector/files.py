"""Items in files: JSON Lines, JSON, CSV and Parquet, one after the other, never all at once."""

import contextlib
import csv
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from driftline.errors import BadInput
from driftline.files import parquet_module, rows_of

Item = dict[str, Any]


def read_items(path: Path) -> Iterator[Item]:
    """The items of a file; its suffix says how it is written.

    Raises:
        BadInput: The file is missing, of an unknown kind or broken; says where.
    """
    rows = rows_of(path)
    return (row for _, row in rows)


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
    parquet = parquet_module()
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


PARQUET_KINDS: dict[str, type] = {
    "latency_ms": float, "ttft_ms": float, "cost_usd": float, "sample_rate": float, "input_tokens": int,
    "output_tokens": int,
}  # fmt: skip

_WRITERS: dict[str, Callable[[Path, Sequence[str], Iterable[Sequence[Mapping[str, Any]]]], int]] = {
    ".jsonl": _write_lines, ".csv": _write_csv, ".parquet": _write_parquet,
}  # fmt: skip
