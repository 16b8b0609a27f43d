"""Texts of promptfoo's templates: variables are filled in; what computes is refused, since it is not run here."""

import json
import re
from pathlib import Path
from typing import Any

from driftline.acts.formats.rows import documents, text_of
from driftline.errors import BadInput

MARKED = re.compile(r"\{\{-?(.*?)-?\}\}|\{%.*?%\}", re.DOTALL)
NAME = re.compile(r"[\w-]+(?:\.[\w-]+)*")


def fill(path: Path, at: str, prompt: str, variables: dict[str, Any]) -> Any:
    """A prompt with its variables, as a text or as the messages that it holds as JSON.

    Raises:
        BadInput: It asks for what is not given, or computes.
    """
    messages = chat_of(prompt)
    if isinstance(messages, list):
        return [one | {"content": filled(path, at, one["content"], variables)} for one in messages]
    return filled(path, at, prompt, variables)


def filled(path: Path, at: str, text: str, variables: dict[str, Any]) -> str:
    """A text with its variables.

    Raises:
        BadInput: It asks for what is not given, or computes.
    """

    def value(found: re.Match[str]) -> str:
        name = (found[1] or "").strip()
        if not NAME.fullmatch(name):
            raise BadInput(
                f"{path}, {at}: {found[0]!r} computes, which only promptfoo does. Import what "
                "`promptfoo eval -o results.json` writes instead. Nothing was imported."
            )
        held: Any = variables
        for part in [name] if name in variables else name.split("."):
            if not isinstance(held, dict) or part not in held:
                raise BadInput(f"{path}, {at}: the prompt asks for {name!r}, which is not given. Nothing was imported.")
            held = held[part]
        return text_of(held) or ""

    return MARKED.sub(value, text)


def filled_values(path: Path, at: str, variables: dict[str, Any]) -> dict[str, Any]:
    """The variables, where one names another filled in."""
    return {
        name: filled(path, at, value, {key: one for key, one in variables.items() if key != name})
        if isinstance(value, str) and _names_another(value, name, variables)
        else value
        for name, value in variables.items()
    }


def _names_another(text: str, name: str, variables: dict[str, Any]) -> bool:
    named = {(found[1] or "").strip() for found in MARKED.finditer(text)}
    return bool(named & (variables.keys() - {name}))


def value_of(path: Path, at: str, value: Any) -> Any:
    """What a variable holds; of `file://…` the content.

    Raises:
        BadInput: The file is a program, or of a kind that is not read here.
    """
    if not isinstance(value, str) or not value.startswith("file://"):
        return value
    file = path.parent / value.removeprefix("file://")
    if file.suffix in (".yaml", ".yml", ".json"):
        rows = [row for _, row in documents(file)]
        return rows[0] if len(rows) == 1 else rows
    if file.suffix not in (".txt", ".md"):
        raise BadInput(f"{path}, {at}: {value} cannot be read here. Nothing was imported.")
    return file.read_text(encoding="utf-8-sig").rstrip("\n")


def chat_of(prompt: str) -> Any:
    """A chat that stands in a text as JSON is messages; everything else stays a text."""
    if not prompt.lstrip().startswith("["):
        return prompt
    try:
        value = json.loads(prompt)
    except (ValueError, RecursionError):
        return prompt
    if not value or not all(isinstance(one, dict) and "role" in one and "content" in one for one in value):
        return prompt
    return [{"role": one["role"], "content": text_of(one["content"]) or ""} for one in value]
