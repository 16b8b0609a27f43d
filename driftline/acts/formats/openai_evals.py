"""Samples of OpenAI evals: `input` (messages or a text) and `ideal` (a text or a list), perhaps under `item`."""

from collections.abc import Iterator
from pathlib import Path

from driftline.acts.formats.rows import tags_of, text_of
from driftline.files import Row


def items(path: Path, rows: Iterator[tuple[str, Row]]) -> Iterator[tuple[str, Row]]:
    """Our fields of every sample; `metadata` becomes tags."""
    for place, row in rows:
        sample = row["item"] if isinstance(row.get("item"), dict) else row
        ideal = sample.get("ideal")
        expected = ideal if isinstance(ideal, list) else text_of(ideal)
        messages = sample.get("input")
        if isinstance(messages, list):
            messages = [_message(message) for message in messages]
        yield place, {"input": messages, "expected": expected or None, "tags": tags_of(sample.get("metadata"))}


def _message(message: object) -> object:
    """A message without the name that few-shot examples carry; those are turns of user and assistant."""
    if not isinstance(message, dict):
        return message
    shown = {"example_user": "user", "example_assistant": "assistant"}
    role = shown.get(str(message.get("name")), message.get("role"))
    return {"role": role, "content": message.get("content")}
