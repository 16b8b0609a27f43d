"""Our own items: input, expected, rubric, tags, weight, cluster, split; in CSV and Parquet also columns `tags.NAME`."""

from collections.abc import Iterator
from pathlib import Path

from driftline.errors import BadInput
from driftline.files import Row

PREFIX = "tags."


def items(path: Path, rows: Iterator[tuple[str, Row]]) -> Iterator[tuple[str, Row]]:
    """The rows as they are, with columns of tags gathered and numbers of CSV read."""
    table = path.suffix.lower() in (".csv", ".parquet")
    for place, row in rows:
        if not table:
            yield place, row
            continue
        fields = {name: value for name, value in row.items() if not name.startswith(PREFIX)}
        tags = {name.removeprefix(PREFIX): str(value) for name, value in row.items() if name.startswith(PREFIX)}
        if isinstance(fields.get("weight"), str):
            try:
                fields["weight"] = float(fields["weight"])
            except ValueError:
                raise BadInput(
                    f"{path}, {place}: `weight` must be a number above 0; got {fields['weight']!r}. "
                    "Nothing was imported."
                ) from None
        yield place, fields | ({"tags": (fields.get("tags") or {}) | tags} if tags else {})
