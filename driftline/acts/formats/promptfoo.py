"""Test cases of promptfoo: each prompt filled in with each test's variables, and what its assertions expect."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from driftline.acts.formats.rows import Row, documents, tags_of, text_of
from driftline.errors import BadInput

EXPECTING = (
    "equals",
    "contains",
    "icontains",
    "similar",
    "contains-any",
    "icontains-any",
    "starts-with",
    "levenshtein",
)
VARIABLE = re.compile(r"\{\{\s*([\w.]+)\s*\}\}")


def items(path: Path, rows: Iterator[tuple[str, Row]]) -> Iterator[tuple[str, Row]]:
    """Our fields of every prompt × test of a configuration.

    Assertions that name a text become expected answers, `llm-rubric` the rubric, `is-json` with a schema the rubric of
    `json_schema`; those that run code are left out, as their authors' code is not run here.
    """
    for place, config in rows:
        tests = _loaded(path, config.get("tests"), "tests")
        prompts = [_prompt(path, one) for one in _loaded(path, config.get("prompts", []), "prompts")]
        default = config.get("defaultTest") if isinstance(config.get("defaultTest"), dict) else {}
        for number, test in enumerate(tests, 1):
            at = f"{place}, test {number}"
            if not isinstance(test, dict):
                raise BadInput(f"{path}, {at}: a test is an object. Nothing was imported.")
            variables = (default or {}).get("vars", {}) | _variables(test)
            asserts = [*(default or {}).get("assert", []), *(test.get("assert") or [])]
            for prompt in prompts or [_only(path, at, variables)]:
                yield (
                    at,
                    {"input": _filled(path, at, prompt, variables)}
                    | _expected(asserts)
                    | {"tags": tags_of(test.get("metadata"))},
                )


def _loaded(path: Path, value: Any, what: str) -> list[Any]:
    """A list, or that of the file (YAML, JSON, CSV) that is named; a single text is a list of one."""
    if isinstance(value, str) and value.startswith("file://") and value.endswith((".yaml", ".yml", ".json", ".csv")):
        return [row for _, row in documents(path.parent / value.removeprefix("file://"))]
    if isinstance(value, str):
        if what == "tests":
            raise BadInput(f"{path}: the tests are {value!r}, which cannot be read here. Nothing was imported.")
        return [value]
    return list(value or [])


def _prompt(path: Path, value: Any) -> str:
    text = value.get("raw") or value.get("id") if isinstance(value, dict) else value
    if not isinstance(text, str):
        raise BadInput(f"{path}: a prompt is a text or has one as `raw`; got {value!r}. Nothing was imported.")
    if text.startswith("file://"):
        file = path.parent / text.removeprefix("file://")
        if file.suffix not in (".txt", ".json", ".md"):
            raise BadInput(f"{path}: the prompt {text} is a program, which is not run here. Nothing was imported.")
        return file.read_text(encoding="utf-8")
    return text


def _variables(test: Row) -> dict[str, Any]:
    """A test's variables; in a CSV of tests, all columns but promptfoo's own."""
    named = test.get("vars")
    if isinstance(named, dict):
        return named
    return {name: value for name, value in test.items() if not name.startswith("__") and name != "assert"}


def _only(path: Path, at: str, variables: dict[str, Any]) -> str:
    if len(variables) == 1:
        return "{{" + next(iter(variables)) + "}}"
    raise BadInput(f"{path}, {at}: there is no prompt to fill {sorted(variables)} in. Nothing was imported.")


def _filled(path: Path, at: str, prompt: str, variables: dict[str, Any]) -> Any:
    def value(found: re.Match[str]) -> str:
        if found[1] not in variables:
            raise BadInput(f"{path}, {at}: the prompt asks for {found[1]!r}, which is not given. Nothing was imported.")
        return text_of(variables[found[1]]) or ""

    if prompt.lstrip().startswith("["):
        try:
            messages = json.loads(prompt)
        except ValueError:
            return VARIABLE.sub(value, prompt)
        return [{"role": one["role"], "content": VARIABLE.sub(value, str(one["content"]))} for one in messages]
    return VARIABLE.sub(value, prompt)


def _expected(asserts: list[Any]) -> Row:
    texts: list[str] = []
    rubric = None
    for one in asserts:
        kind, value = (one.get("type"), one.get("value")) if isinstance(one, dict) else (None, None)
        if kind in EXPECTING:
            texts += [text_of(text) or "" for text in (value if isinstance(value, list) else [value])]
        elif kind == "llm-rubric" and isinstance(value, str):
            rubric = value
        elif kind in ("is-json", "contains-json") and isinstance(value, dict):
            rubric = json.dumps(value)
    return {"expected": [text for text in texts if text.strip()] or None, "rubric": rubric}
