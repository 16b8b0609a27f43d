"""Is what the answer says in the text it was given?"""

import re

from driftline.errors import BadInput
from driftline.protocols import Answered, Score, Scored
from evaluators.scorers.judging import Each, unscored
from evaluators.scorers.words import words

_SENTENCES = re.compile(r"(?<=[.!?])\s+|[\n。！？]+")
SHORT = 4  # letters; shorter words are mostly grammar


def groundedness(enough: float = 0.7) -> Score:
    """The share of the answer's sentences that the retrieved text supports, by their words.

    A sentence is supported when all its numbers and at least the share `enough` of its longer words occur in the
    context: the item's tag `context`, or else the prompt. Words are compared as they are written, so a paraphrase
    counts as unsupported and a contradiction in the context's own words as supported; use a judge where that matters.

    Args:
        enough: Share of a sentence's words, in (0, 1].

    Raises:
        BadInput: `enough` is no such share.
    """
    if not 0.0 < enough <= 1.0:
        raise BadInput(f"enough is {enough}; it must be a share above 0 and at most 1.")

    def judge(answered: Answered) -> Scored:
        context = answered.tags.get("context") or "\n".join(m.get("content", "") for m in answered.messages)
        known = set(words(context))
        if not known:
            return unscored("the item has no context to be grounded in")
        claims = [claim for claim in map(_claim, _SENTENCES.split(answered.text)) if claim]
        if not claims:
            return Scored(0.0, because="the answer claims nothing")
        return Scored(sum(_supported(claim, known, enough) for claim in claims) / len(claims))

    return Each("groundedness", judge)


def _claim(sentence: str) -> list[str]:
    """The words of a sentence that carry it: numbers, long words, and characters of unspaced scripts."""
    said = words(sentence)
    return [word for word in said if len(word) >= SHORT or word >= "\u3000" or _has_digit(word)]


def _has_digit(word: str) -> bool:
    return not word.isalpha() and any(map(str.isdecimal, word))


def _supported(claim: list[str], known: set[str], enough: float) -> bool:
    missing = [word for word in claim if word not in known]
    return not any(map(_has_digit, missing)) and len(claim) - len(missing) >= enough * len(claim)
