"""Cleaning of training and calibration sets: duplicates, near-duplicates, contradictions, leakage from golden sets."""

import re
from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from driftline.errors import BadInput
from variants.lookup import need
from variants.training.corpus import Example

if TYPE_CHECKING:
    from datasketch import MinHash

NEAR = 0.8  # share of common word triples above which two texts count as the same
LEAKS = 0.7  # as NEAR, for what must not be in a training set
PERMUTATIONS = 128


def cleaned(examples: Sequence[Example], golden: Iterable[str] = ()) -> tuple[list[Example], dict[str, float]]:
    """The examples without duplicates and near-duplicates (the first of each stays), and how many went.

    Args:
        golden: Prompts of golden items that must not be among the examples, not even nearly.

    Raises:
        BadInput: Examples contradict each other (the same prompt, answers that differ), or repeat a golden item.
    """
    refuse_leaking(examples, golden)
    seen: set[str] = set()
    once = [example for example in examples if not (plain(example.text) in seen or seen.add(plain(example.text)))]  # type: ignore[func-returns-value]
    torn = contradictions(once)
    if torn:
        raise BadInput(
            f"{len(torn)} prompts are answered in several ways, the first is {torn[0]!r}. Decide on one answer each, "
            "or set clean to false to learn from all."
        )
    apart = _apart([example.text for example in once])
    kept = [once[place] for place in apart]
    found = {"duplicates": float(len(examples) - len(once)), "near_duplicates": float(len(once) - len(kept))}
    return kept, found


def refuse_leaking(examples: Sequence[Example], golden: Iterable[str]) -> None:
    """Returns when no example repeats a golden item.

    Raises:
        BadInput: Some do; names the first.
    """
    leaks = leaking(examples, golden)
    if leaks:
        raise BadInput(
            f"{len(leaks)} of {len(examples)} examples repeat items of a golden set, the first is {leaks[0]!r}. What a "
            "variant was trained on cannot test it: take them out, or train on another set."
        )


def contradictions(examples: Sequence[Example]) -> list[str]:
    """Prompts that stand with more than one answer, case, spaces and punctuation aside."""
    answers: dict[str, set[str]] = {}
    shown: dict[str, str] = {}
    for example in examples:
        if example.messages:
            asked = "\n".join(message["content"] for message in example.messages)
            answers.setdefault(plain(asked), set()).add(plain(example.answer))
            shown.setdefault(plain(asked), asked[-120:])
    return [shown[asked] for asked, said in answers.items() if len(said) > 1]


def leaking(examples: Sequence[Example], golden: Iterable[str]) -> list[str]:
    """Texts among the examples whose prompt is, nearly, the prompt of a golden item."""
    prompts = [prompt for prompt in golden if prompt.strip()]
    if not prompts:
        return []
    index, exact = _index(LEAKS), {plain(prompt) for prompt in prompts}
    for place, prompt in enumerate(prompts):
        index.insert(place, sketch(prompt))
    found = []
    for example in examples:
        asked = "\n".join(m["content"] for m in example.messages if m["role"] == "user") or example.answer
        if plain(asked) in exact or index.query(sketch(asked)):
            found.append(asked[-120:])
    return found


def plain(text: str) -> str:
    """`text` in lower case, its words parted by single spaces, without punctuation.

    >>> plain("What's  the CAPITAL?")
    'what s the capital'
    """
    return " ".join(re.findall(r"\w+", text.lower()))


@lru_cache(maxsize=50_000)
def sketch(text: str) -> "MinHash":
    """A MinHash of the word triples of `text` (of its words where there are fewer than five)."""
    need("datasketch", "Finding near-duplicates", "pip install datasketch")
    from datasketch import MinHash

    words = plain(text).split()
    size = 3 if len(words) >= 5 else 1
    made = MinHash(num_perm=PERMUTATIONS)
    made.update_batch([" ".join(words[at : at + size]).encode() for at in range(max(1, len(words) - size + 1))])
    return made


def _index(threshold: float) -> Any:
    need("datasketch", "Finding near-duplicates", "pip install datasketch")
    from datasketch import MinHashLSH

    return MinHashLSH(threshold=threshold, num_perm=PERMUTATIONS)


def _apart(texts: Sequence[str]) -> list[int]:
    """Places of the texts that are not nearly one that came before; numbers that differ keep texts apart."""
    index, kept = _index(NEAR), list[int]()
    for place, text in enumerate(texts):
        near = index.query(sketch(text))
        if any(re.findall(r"\d+", texts[other]) == re.findall(r"\d+", text) for other in near):
            continue
        index.insert(place, sketch(text))
        kept.append(place)
    return kept
