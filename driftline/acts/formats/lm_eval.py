"""Samples that lm-evaluation-harness logs (`--log_samples`): the prompt it sent, its target, the choices it weighed."""

import ast
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from driftline.acts.formats.rows import text_of
from driftline.errors import BadInput
from driftline.files import Row


def items(path: Path, rows: Iterator[tuple[str, Row]]) -> Iterator[tuple[str, Row]]:
    """Our fields of every sample; those that were scored under several filters come once.

    A multiple-choice sample has its choices in the tag `choices`, where the scorer `multiple_choice` looks for them.
    """
    seen = set()
    for place, row in rows:
        asked = _arguments(row.get("arguments"))
        if not asked:
            raise BadInput(f"{path}, {place}: `arguments` holds no prompt. Nothing was imported.")
        key = row.get("doc_id"), row.get("prompt_hash")
        if key != (None, None) and key in seen:
            continue
        seen.add(key)
        prompts = list(dict.fromkeys(prompt for prompt, _ in asked))
        choices = [choice for _, choice in asked if choice is not None]
        if len(prompts) > 1:
            raise BadInput(
                f"{path}, {place}: the task weighs {len(prompts)} prompts against each other, so no single question "
                "was asked; such tasks cannot be imported. Nothing was imported."
            )
        tags = {"task": str(row["task_name"])} if row.get("task_name") else {}
        target = row.get("target")
        expected: Any
        if len(choices) > 1:
            tags["choices"] = json.dumps([choice.strip() for choice in choices], ensure_ascii=False)
            expected = _chosen(choices, target)
        else:
            expected = target if isinstance(target, list) else _listed(target) or text_of(target)
        yield place, {"input": _messages(prompts[0]), "expected": expected or None, "tags": tags}


def _arguments(value: Any) -> list[tuple[str, str | None]]:
    """Prompt and continuation (None where the answer was generated) of each request."""
    if isinstance(value, dict):  # newer versions: {"gen_args_0": {"arg_0": prompt, "arg_1": …}}
        value = [list(one.values()) for one in value.values() if isinstance(one, dict)]
    found = []
    for one in value if isinstance(value, list) else []:
        if isinstance(one, list) and one and isinstance(one[0], str):
            found.append((one[0], one[1] if len(one) > 1 and isinstance(one[1], str) else None))
    return found


def _listed(target: Any) -> list[str] | None:
    """Several right answers, which the tool logs as Python writes a list; None where it is none."""
    if not isinstance(target, str) or not target.startswith("["):
        return None
    try:
        value = ast.literal_eval(target)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return None
    if not isinstance(value, list) or not all(isinstance(one, str) for one in value):
        return None
    return [one for one in value if one.strip()]


def _chosen(choices: list[str], target: Any) -> str | None:
    """The right continuation: the target is its index, or its text."""
    text = str(target).strip()
    if text.isdecimal() and int(text) < len(choices):
        return choices[int(text)].strip()
    return text if text in [choice.strip() for choice in choices] else None


def _messages(prompt: str) -> Any:
    """A chat that was sent as JSON is messages again."""
    if prompt.lstrip().startswith("[{"):
        try:
            value = json.loads(prompt)
        except ValueError:
            return prompt
        if all(isinstance(one, dict) and "role" in one for one in value):
            return [{"role": one["role"], "content": text_of(one.get("content")) or ""} for one in value]
    return prompt
