"""Items of a Langfuse dataset: `input`, `expectedOutput`, `metadata`; archived ones are left out.

Its Python SDK writes `expected_output`.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from driftline.acts.formats.rows import tags_of, text_of
from driftline.files import Row


def items(path: Path, rows: Iterator[tuple[str, Row]]) -> Iterator[tuple[str, Row]]:
    """Our fields of every active item."""
    for place, row in rows:
        if str(row.get("status")).rpartition(".")[2] == "ARCHIVED":
            continue
        expected = text_of(row.get("expectedOutput") or row.get("expected_output") or None)
        tags = tags_of(row.get("metadata"))
        yield place, {"input": _input(row.get("input")), "expected": expected or None, "tags": tags}


def _input(value: Any) -> Any:
    """Messages where there are some, else the one text, else all that was put in as JSON."""
    if isinstance(value, dict) and isinstance(value.get("messages"), list):
        value = value["messages"]
    if isinstance(value, list) and value and all(isinstance(one, dict) and "role" in one for one in value):
        return [{"role": one["role"], "content": _content(one.get("content"))} for one in value]
    return text_of(value)


def _content(value: Any) -> str:
    """The text of a message whose content may be a list of parts."""
    if isinstance(value, list):
        parts = [part.get("text", "") if isinstance(part, dict) else str(part) for part in value]
        return "".join(str(part) for part in parts)
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
