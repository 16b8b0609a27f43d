"""A small language model that can weigh any text, for scorers that ask one."""

import math
from collections import Counter
from itertools import pairwise

import pytest

from driftline.errors import BadInput
from driftline.protocols import Answered, AnswerLogProbs

CORPUS = "the cat sat on the mat. the capital of france is paris. yes it is, and no it is not. " * 3


class Bigrams:
    """Characters given the one before, counted in a corpus with one added to each; a context of 200 000 characters."""

    def __init__(self, corpus=CORPUS):
        self.pairs, self.singles = Counter(pairwise(corpus)), Counter(corpus)
        self.follower = {a: max(corpus, key=lambda b, a=a: self.pairs[a, b]) for a in self.singles}

    def log_probs(self, pairs):
        return [self._one(messages, answer) for messages, answer in pairs]

    def _one(self, messages, answer):
        if not messages:
            raise BadInput("A prompt needs at least one message.")
        if len(answer) > 200_000:
            raise BadInput("The answer is beyond the context.")
        before = [messages[-1]["content"][-1:] or " ", *answer]
        steps = list(zip(before, answer, strict=False))
        return AnswerLogProbs(
            tuple(math.log((self.pairs[a, b] + 1) / (self.singles[a] + 300)) for a, b in steps),
            tuple(self.follower.get(a) == b for a, b in steps),
        )


@pytest.fixture(scope="session")
def bigrams():
    return Bigrams()


def prompt(text="What is the capital of France? "):
    return ({"role": "user", "content": text},)


def said(text, *expected, **more):
    """An answer to an item with these references."""
    return Answered(prompt(more.pop("asked", "What is the capital of France? ")), text, expected, **more)
