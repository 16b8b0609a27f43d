"""Small models for scorers that ask one: it can weigh any text, and judge by the words that texts share."""

import math
import re
from collections import Counter
from itertools import pairwise

import pytest

from driftline.errors import BadInput
from driftline.protocols import AnswerLogProbs, Completion
from evaluators.scorers.words import words

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


def shown(question, name):
    """The quoted section of a judge's question, None where there is none."""
    found = re.search(rf"<{name}>\n(.*?)\n</{name}>", question, re.DOTALL)
    return found and found[1]


class Reader(Bigrams):
    """Also answers: grades by the words shared with the reference, prefers what shares more with the rubric."""

    fingerprint = "reader 1"

    def generate(self, prompts, sampling):
        return [Completion(self._say(messages[-1]["content"]), latency_ms=1.0) for messages in prompts]

    def _say(self, question):
        if "answer_A" in question:
            wanted = set(words(shown(question, "rubric")))
            first, second = (len(wanted & set(words(shown(question, f"answer_{side}")))) for side in "AB")
            return f"Grade: {'A' if first > second else 'B' if second > first else 'tie'}"
        wanted = set(words(shown(question, "reference") or shown(question, "rubric")))
        shared = len(wanted & set(words(shown(question, "answer")))) / max(len(wanted), 1)
        return f"Let me see. Grade: {1 + round(4 * shared)}"


@pytest.fixture(scope="session")
def bigrams():
    return Reader()
