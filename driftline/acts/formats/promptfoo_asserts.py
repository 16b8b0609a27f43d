"""What promptfoo's assertions expect of an answer, as far as a text or a rubric says it."""

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from driftline.acts.formats.promptfoo_text import filled, value_of
from driftline.acts.formats.rows import text_of
from driftline.errors import BadInput
from driftline.files import Row

EXPECTING = (
    "equals", "contains", "icontains", "similar", "contains-any", "icontains-any", "starts-with", "levenshtein",
    "factuality",
)  # fmt: skip
JUDGED = ("llm-rubric", "model-graded-closedqa")
SHORT = {"grade": "llm-rubric"}  # how a CSV of tests writes it
WRITTEN = re.compile(r"(not-)?([a-z][a-z-]*)(?:\([\d.]+\))?:\s*(.*)", re.DOTALL)
LEFT_OUT = ("javascript", "python", "fn", "eval", "file", "regex", "cost", "latency", "perplexity", "webhook", "bleu")
ALONE = re.compile(r"(?:is|not|contains)-[a-z-]+")  # an assertion without a value


def expected_of(asserts: Any, variables: dict[str, Any], templates: Mapping[str, Any], folder: Path | None) -> Row:
    """The expected answers and the rubric that assertions name, with the test's variables filled in."""
    texts: list[str] = []
    rubric = None
    for one in _flat(asserts, templates):
        kind, value = one.get("type"), one.get("value")
        if folder is not None and isinstance(value, str) and value.startswith("file://"):
            if Path(value).suffix in (".js", ".ts", ".mjs", ".cjs", ".py", ".rb"):
                continue
            value = value_of(folder / "config", f"the assertion {kind}", value)
        if kind in EXPECTING:
            texts += [_text(part, variables) for part in (value if isinstance(value, list) else [value])]
        elif kind in JUDGED and isinstance(value, str):
            rubric = _text(value, variables) or None
        elif kind in ("is-json", "contains-json") and isinstance(value, dict):
            rubric = json.dumps(value)
    return {"expected": [text for text in texts if text.strip()] or None, "rubric": rubric}


def column_asserts(test: Row) -> Iterator[Row]:
    """The assertions that a CSV of tests has in its columns `__expected`, `__expected1`, …"""
    for name, value in test.items():
        if not re.fullmatch(r"__expected\d*", name) or not isinstance(value, str):
            continue
        found = WRITTEN.fullmatch(value.strip())
        kind = SHORT.get(found[2], found[2]) if found else "equals"
        if found and (kind in EXPECTING or kind in JUDGED):
            if not found[1]:
                several = kind in ("contains-any", "icontains-any")
                parts = [part.strip() for part in found[3].split(",")]
                yield {"type": kind, "value": parts if several else found[3].strip()}
        elif not ALONE.fullmatch(value.strip()) and not (found and (kind in LEFT_OUT or "-" in kind)):
            yield {"type": "equals", "value": value}  # as promptfoo reads what names no assertion


def _flat(asserts: Any, templates: Mapping[str, Any]) -> Iterator[Row]:
    for one in asserts if isinstance(asserts, list) else []:
        if not isinstance(one, dict):
            continue
        if isinstance(one.get("$ref"), str):
            named = templates.get(one["$ref"].rsplit("/", 1)[-1])
            one = named if isinstance(named, dict) else {}
        if one.get("type") == "assert-set":
            yield from _flat(one.get("assert"), templates)
        else:
            yield one


def _text(value: Any, variables: dict[str, Any]) -> str:
    """The text with its variables; nothing where it computes, as code is not run here."""
    try:
        return filled(Path(), "an assertion", text_of(value) or "", variables)
    except BadInput:
        return ""
