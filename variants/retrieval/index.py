"""An index of passages: BM25 over their words, embeddings of their meaning, the two rankings fused."""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from driftline.errors import BadInput
from variants.loading import INSTALL
from variants.lookup import need
from variants.retrieval.embedding import embed

PASSAGES, VECTORS = "passages.jsonl", "vectors.npy"
FUSION = 60  # Cormack et al. 2009: a rank r counts 1 / (60 + r)
DEPTH = 50  # of each ranking, what enters the fusion


@dataclass(frozen=True)
class Passage:
    """A piece of a document; `id` is the document's."""

    id: str
    text: str


def read_documents(place: Path, words: int) -> list[Passage]:
    """Passages of about `words` words from a JSONL file (`id`, `text`), a text file, or a folder of text files.

    Raises:
        BadInput: Nothing there, or a row without text.
    """
    if place.is_dir():
        files = [path for path in sorted(place.iterdir()) if path.suffix in {".txt", ".md", ".jsonl"}]
    else:
        files = [place] if place.is_file() else []
    found: list[Passage] = []
    for path in files:
        content = path.read_text(encoding="utf-8")
        documents = _rows(content, path) if path.suffix == ".jsonl" else [(path.name, content)]
        found += [Passage(name, piece) for name, text in documents for piece in pieces(text, words)]
    if not found:
        raise BadInput(f"{place} holds no documents: give a folder of .txt, .md and .jsonl files, or one of them.")
    return found


def _rows(content: str, path: Path) -> list[tuple[str, str]]:
    found = []
    for number, line in enumerate(filter(str.strip, content.splitlines()), 1):
        try:
            row = json.loads(line)
            found.append((str(row.get("id", f"{path.name}:{number}")), str(row["text"])))
        except (ValueError, KeyError, AttributeError) as wrong:
            raise BadInput(f"{path}, row {number} is no document: it needs a text (and an id).") from wrong
    return found


def pieces(text: str, words: int) -> list[str]:
    """`text` cut at paragraphs, then at `words` words where a paragraph is longer.

    >>> pieces("a b\\n\\nc d e", 2)
    ['a b', 'c d', 'e']
    """
    found = []
    for paragraph in re.split(r"\n\s*\n", text):
        spoken = paragraph.split()
        found += [" ".join(spoken[at : at + words]) for at in range(0, len(spoken), words)]
    return found


class Index:
    """Passages that can be searched; written by `write`, opened from the directory it wrote to."""

    def __init__(self, passages: Sequence[Passage], vectors: NDArray[np.float32] | None) -> None:
        need("bm25s", "Retrieval", INSTALL)
        import bm25s

        self.passages, self._vectors = list(passages), vectors
        self._words = bm25s.BM25()
        self._words.index(self._tokens([one.text for one in passages]), show_progress=False)

    @classmethod
    def open(cls, directory: Path) -> "Index":
        """The index in `directory`."""
        rows = [json.loads(line) for line in (directory / PASSAGES).read_text(encoding="utf-8").splitlines()]
        stored = directory / VECTORS
        vectors = np.load(stored, allow_pickle=False) if stored.is_file() else None
        return cls([Passage(**row) for row in rows], vectors)

    def search(self, question: str, count: int) -> list[Passage]:
        """The `count` best passages, best first."""
        rankings = [self._by_words(question)]
        if self._vectors is not None:
            rankings.append(np.argsort(-(self._vectors @ embed([question])[0]), kind="stable")[:DEPTH].tolist())
        fused: dict[int, float] = {}
        for ranking in rankings:
            for rank, place in enumerate(ranking, 1):
                fused[place] = fused.get(place, 0.0) + 1 / (FUSION + rank)
        best = sorted(fused, key=lambda place: (-fused[place], place))[:count]
        return [self.passages[place] for place in best]

    def _by_words(self, question: str) -> list[int]:
        tokens = self._tokens([question])
        found, scores = self._words.retrieve(tokens, k=min(DEPTH, len(self.passages)), show_progress=False)
        return [int(place) for place, score in zip(found[0], scores[0], strict=True) if score > 0]

    @staticmethod
    def _tokens(texts: list[str]) -> Any:
        import bm25s

        return bm25s.tokenize(texts, stopwords="en", show_progress=False)


def write(passages: Sequence[Passage], directory: Path, meaning: bool) -> None:
    """Writes what `Index.open` reads; with `meaning`, embeddings too."""
    rows = [json.dumps({"id": one.id, "text": one.text}, ensure_ascii=False) for one in passages]
    (directory / PASSAGES).write_text("\n".join(rows), encoding="utf-8")
    if meaning:
        np.save(directory / VECTORS, embed([one.text for one in passages]), allow_pickle=False)


def quality(index: Index, questions: Sequence[tuple[str, frozenset[str]]], count: int) -> dict[str, float]:
    """How well the index finds what is relevant, means over (question, ids of the documents that answer it).

    `retrieval_recall` is the share of relevant documents among the first `count` passages, `retrieval_mrr` one over
    the rank of the first relevant one (0 where none is found).
    """
    recall = reciprocal = 0.0
    for question, relevant in questions:
        ids = [passage.id for passage in index.search(question, count)]
        recall += len(relevant.intersection(ids)) / len(relevant)
        reciprocal += next((1 / rank for rank, one in enumerate(ids, 1) if one in relevant), 0.0)
    asked = max(1, len(questions))
    return {
        "retrieval_recall": recall / asked,
        "retrieval_mrr": reciprocal / asked,
        "retrieval_questions": float(len(questions)),
    }
