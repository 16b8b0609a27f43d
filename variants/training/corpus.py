"""Training and calibration examples: read from a file, cleaned, turned into token ids."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from driftline.errors import BadInput
from driftline.protocols import Message, Messages

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

ASKED = ("messages", "input", "prompt", "question")
SAID = ("output", "response", "completion", "answer", "expected")
IGNORED = -100  # the label that torch's cross entropy leaves out


@dataclass(frozen=True)
class Example:
    """A prompt and the answer wanted, or (no messages) a bare text to read."""

    messages: Messages
    answer: str

    @property
    def text(self) -> str:
        """All of it, for comparing examples with each other."""
        return "\n".join([*(message["content"] for message in self.messages), self.answer])


def read_examples(path: Path) -> list[Example]:
    """The examples of a JSONL file, or the paragraphs (parted by empty lines) of a text file.

    A JSONL row has a prompt (`messages`, `input`, `prompt` or `question`) and an answer (`output`, `response`,
    `completion`, `answer` or `expected`), or a `text` alone; rows as `driftline export` writes them fit.

    Raises:
        BadInput: No such file, or a row that is neither; names its line.
    """
    try:
        content = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as wrong:
        raise BadInput(f"The examples in {path} cannot be read: {wrong}") from wrong
    if path.suffix in {".txt", ".md"}:
        found = [Example((), part.strip()) for part in content.split("\n\n") if part.strip()]
    else:
        found = [example_of(row, f"{path}, line {number}") for number, row in _rows(content, path)]
    if not found:
        raise BadInput(f"{path} holds no example.")
    return found


def _rows(content: str, path: Path) -> Iterator[tuple[int, Any]]:
    for number, line in enumerate(content.splitlines(), 1):
        if not line.strip():
            continue
        try:
            yield number, json.loads(line)
        except ValueError as wrong:
            raise BadInput(f"{path}, line {number} is not JSON: {wrong}.") from wrong


def example_of(row: Any, place: str) -> Example:
    """The example in one JSON row.

    Raises:
        BadInput: It has no prompt and answer, and no text; names the place.
    """
    row = row if isinstance(row, dict) else {}
    asked = next((row[key] for key in ASKED if row.get(key)), None)
    said = next((row[key] for key in SAID if row.get(key)), None)
    said = said[0] if isinstance(said, list) and said else said
    if asked is None and isinstance(row.get("text"), str) and row["text"].strip():
        return Example((), row["text"])
    messages: Any = [{"role": "user", "content": asked}] if isinstance(asked, str) else asked
    fits = isinstance(messages, list) and all(
        isinstance(m, dict) and isinstance(m.get("content"), str) and isinstance(m.get("role"), str) for m in messages
    )
    if not fits or not isinstance(said, str) or not said:
        raise BadInput(
            f"{place} is no example: it needs a prompt ({', '.join(ASKED)}) and an answer ({', '.join(SAID)}), "
            "or a text."
        )
    kept: tuple[Message, ...] = tuple({"role": m["role"], "content": m["content"]} for m in messages)
    return Example(kept, said)


@dataclass(frozen=True)
class Tokens:
    """Token ids of an example and, per token, the label to predict (IGNORED over the prompt)."""

    ids: tuple[int, ...]
    labels: tuple[int, ...]


def tokenized(tokenizer: "PreTrainedTokenizerBase", examples: Sequence[Example], most: int) -> list[Tokens]:
    """Each example as at most `most` tokens; one whose prompt alone fills them is left out.

    Raises:
        BadInput: None is left.
    """
    from variants.runners.chat_tokens import ChatTokens

    chat, end = ChatTokens(tokenizer, "auto", 1 << 30, None), tokenizer.eos_token_id
    found: list[Tokens] = []
    for example in examples:
        answer = [*tokenizer(example.answer, add_special_tokens=False)["input_ids"], end]
        prompt = chat.prompt_ids(example.messages) if example.messages else []
        ids = (*prompt, *answer)[:most]
        labels = (*[IGNORED] * len(prompt), *answer)[:most]
        if len(ids) > 1 and any(label != IGNORED for label in labels[1:]):
            found.append(Tokens(ids, labels))
    if not found:
        raise BadInput(f"No example has an answer within {most} tokens. Raise max_tokens or shorten the prompts.")
    return found


def batch_of(rows: Sequence[Tokens], pad: int) -> "dict[str, Any]":
    """`input_ids`, `attention_mask` and `labels` of right-padded `rows`: int64 (rows, longest)."""
    import torch

    longest = max(len(row.ids) for row in rows)
    ids = torch.full((len(rows), longest), pad, dtype=torch.long)
    mask = torch.zeros(len(rows), longest, dtype=torch.long)
    labels = torch.full((len(rows), longest), IGNORED, dtype=torch.long)
    for place, row in enumerate(rows):
        ids[place, : len(row.ids)] = torch.tensor(row.ids)
        mask[place, : len(row.ids)] = 1
        labels[place, : len(row.labels)] = torch.tensor(row.labels)
    return {"input_ids": ids, "attention_mask": mask, "labels": labels}
