"""Test cases of promptfoo: each prompt filled in with each test's variables, and what its assertions expect.

Also the results that `promptfoo eval -o FILE` writes: there the prompts are filled in already.
"""

import json
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from typing import Any

from driftline.acts.formats.promptfoo_asserts import column_asserts, expected_of
from driftline.acts.formats.promptfoo_text import chat_of, fill, filled_values, value_of
from driftline.acts.formats.rows import documents, tags_of
from driftline.errors import BadInput
from driftline.files import Row

LISTS = (".yaml", ".yml", ".json", ".jsonl", ".csv")  # files of tests
PROMPTS = (".txt", ".json", ".md")


def items(path: Path, rows: Iterator[tuple[str, Row]]) -> Iterator[tuple[str, Row]]:
    """Our fields of every prompt × test of a configuration, or of every result.

    Assertions that name a text become expected answers, `llm-rubric` the rubric, `is-json` with a schema the rubric of
    `json_schema`; those that run code are left out, as their authors' code is not run here.
    """
    seen: set[str] = set()
    for place, row in rows:
        results = _results(row)
        found = _of_config(path, place, row) if results is None else _of_results(place, results)
        for at, fields in found:
            key = json.dumps(fields, sort_keys=True, default=str)
            if results is None or key not in seen:  # a result for each provider; the item is the same
                seen.add(key)
                yield at, fields


def _results(row: Row) -> list[Any] | None:
    if "testCase" in row:  # a line of results.jsonl
        return [row]
    told = row.get("results")
    told = told.get("results") if isinstance(told, dict) else told
    return told if isinstance(told, list) else None


def _of_results(place: str, results: list[Any]) -> Iterator[tuple[str, Row]]:
    for number, result in enumerate(results, 1):
        at = place if len(results) == 1 else f"{place}, result {number}"
        prompt = result.get("prompt") if isinstance(result, dict) else None
        raw = prompt.get("raw") if isinstance(prompt, dict) else prompt
        if not isinstance(raw, str):
            raise BadInput("a result of promptfoo has its prompt as `prompt.raw`.")
        test = _object(result.get("testCase"))
        variables = _object(result.get("vars") or test.get("vars"))
        expected = expected_of(test.get("assert"), variables, {}, None)
        yield at, {"input": chat_of(raw)} | expected | {"tags": tags_of(test.get("metadata"))}


def _of_config(path: Path, place: str, config: Row) -> Iterator[tuple[str, Row]]:
    if config.get("scenarios"):
        raise BadInput(
            f"{path}: scenarios are not filled in here. Import what `promptfoo eval -o results.json` writes. "
            "Nothing was imported."
        )
    tests = _tests(path, config.get("tests"))
    named = config.get("prompts") or []
    prompts = [text for one in (named if isinstance(named, list) else [named]) for text in _prompts(path, one)]
    default = _object(config.get("defaultTest"))
    templates = _object(config.get("assertionTemplates"))
    for number, test in enumerate(tests, 1):
        at = f"{place}, test {number}"
        if not isinstance(test, dict):
            raise BadInput(f"{path}, {at}: a test is an object. Nothing was imported.")
        given = _object(default.get("vars")) | _variables(test)
        asserts = [*_listed(default.get("assert")), *_listed(test.get("assert")), *column_asserts(test)]
        for variables in _expanded(path, at, given):
            for prompt in prompts or [_only(path, at, variables)]:
                yield (
                    at,
                    {"input": fill(path, at, prompt, variables)}
                    | expected_of(asserts, variables, templates, path.parent)
                    | {"tags": tags_of(_object(default.get("metadata")) | _object(test.get("metadata")))},
                )


def _object(value: Any) -> Row:
    return value if isinstance(value, dict) else {}


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _tests(path: Path, value: Any) -> list[Any]:
    """The tests that stand there, and those of the files (YAML, JSON, CSV) that are named."""
    found: list[Any] = []
    for one in value if isinstance(value, list) else [value] if value else []:
        if isinstance(one, str):
            file = path.parent / one.removeprefix("file://")
            if file.suffix not in LISTS:
                raise BadInput(f"{path}: the tests are {one!r}, which cannot be read here. Nothing was imported.")
            found += [row for _, row in documents(file)]
        else:
            found.append(one)
    return found


def _prompts(path: Path, value: Any) -> list[str]:
    text = value.get("raw") or value.get("id") if isinstance(value, dict) else value
    if not isinstance(text, str):
        raise BadInput(f"{path}: a prompt is a text or has one as `raw`; got {value!r}. Nothing was imported.")
    if not text.startswith("file://"):
        return [text]
    name = text.removeprefix("file://")
    files = sorted(path.parent.glob(name)) if "*" in name else [path.parent / name]
    found = []
    for file in files:
        if file.suffix not in PROMPTS:
            raise BadInput(f"{path}: the prompt {text} is a program, which is not run here. Nothing was imported.")
        content = file.read_text(encoding="utf-8-sig")
        found += [part.strip() for part in content.split("---")] if file.suffix == ".txt" else [content]
    if not any(found):
        raise BadInput(f"{path}: the prompt {text} names no file that holds one. Nothing was imported.")
    return [one for one in found if one]


def _variables(test: Row) -> dict[str, Any]:
    """A test's variables; in a CSV of tests, all columns but promptfoo's own."""
    if "vars" in test or "assert" in test:
        return _object(test.get("vars"))
    own = ("description", "metadata", "options", "threshold", "provider", "providers")
    return {name: value for name, value in test.items() if not name.startswith("__") and name not in own}


def _expanded(path: Path, at: str, given: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Every combination of variables that hold lists, as promptfoo tests them."""
    read = {name: value_of(path, at, value) for name, value in given.items()}
    choices = [value if isinstance(value, list) and value else [value] for value in read.values()]
    for chosen in product(*choices):
        yield filled_values(path, at, dict(zip(read, chosen, strict=True)))


def _only(path: Path, at: str, variables: dict[str, Any]) -> str:
    if len(variables) == 1:
        return "{{" + next(iter(variables)) + "}}"
    raise BadInput(f"{path}, {at}: there is no prompt to fill {sorted(variables)} in. Nothing was imported.")
