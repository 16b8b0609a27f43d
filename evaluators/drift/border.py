"""Border inputs: prompts whose first token stands on the edge between two answers, so that a change of model shows.

For endpoints that give neither weights nor log-probabilities. At temperature 0 a hosted model still answers a few
prompts sometimes this way, sometimes that, because two tokens are almost equally likely and arithmetic is not the same
in every batch. How often each comes is a fingerprint of the model that costs one output token a sample.

Source: black-box change detection by border inputs, arXiv 2602.11083.
"""

import random
from collections import Counter
from collections.abc import Callable, Mapping, Sequence

from driftline.errors import BadInput

Ask = Callable[[Sequence[str]], list[str]]  # one first token per prompt, asked at temperature 0

REFERENCE, DAILY = 100, 10  # samples of each prompt
TRIES = 8  # samples in which a prompt must give two answers to be kept
WORDS = (
    "a", "an", "or", "is", "red", "sky", "tea", "one", "two", "yes", "no", "up", "so", "at", "by", "my",
    "it", "do", "go", "we", "he", "in", "on", "of", "the", "and", "cat", "dog", "sun", "map", "ink", "old",
    "new", "hot", "ice", "oak", "sea", "key", "pen", "hat", "zip", "fog", "elm", "ash", "ivy", "owl", "fox",
    "bee", "ant", "jam", "pie", "nut", "fig", "lime", "plum", "corn", "rice", "salt", "milk",
)  # fmt: skip


def candidates(count: int, seed: int = 0) -> list[str]:
    """Short prompts that mean little, so that the next token is open.

    >>> candidates(3)
    ['ant rice', 'or it', 'old and milk']
    """
    rng = random.Random(seed)
    found: dict[str, None] = {}
    while len(found) < count:
        found.setdefault(" ".join(rng.choice(WORDS) for _ in range(rng.randint(1, 3))))
    return list(found)


def discover(ask: Ask, prompts: Sequence[str], *, wanted: int, tries: int = TRIES) -> list[str]:
    """The prompts on the border: those that gave more than one answer in `tries` samples, at most `wanted` of them.

    Args:
        ask: Asks the endpoint; called with every prompt `tries` times over.
        prompts: Candidates.
        wanted: Enough.
        tries: Samples of each.

    Raises:
        BadInput: None of them is on the border: the endpoint answers the same way every time.
    """
    answers: dict[str, set[str]] = {prompt: set() for prompt in prompts}
    for _ in range(tries):
        for prompt, answer in zip(prompts, ask(prompts), strict=True):
            answers[prompt].add(answer)
    found = [prompt for prompt in prompts if len(answers[prompt]) > 1][:wanted]
    if not found:
        raise BadInput(
            f"None of {len(prompts)} prompts gave two answers in {tries} samples: this endpoint answers the same way "
            "every time, so golden answers and probes tell its changes."
        )
    return found


def counts(ask: Ask, prompts: Sequence[str], samples: int) -> dict[str, Counter[str]]:
    """How often each first token came, per prompt."""
    found = {prompt: Counter[str]() for prompt in prompts}
    for _ in range(samples):
        for prompt, answer in zip(prompts, ask(prompts), strict=True):
            found[prompt][answer] += 1
    return found


def distance(reference: Mapping[str, int], now: Mapping[str, int]) -> float:
    """Total variation between two counts of first tokens, in [0, 1].

    With few samples it is well above 0 for the same model: judge it against what it was on other days, not against 0.

    Raises:
        BadInput: One side has no sample.

    >>> distance({"a": 60, "b": 40}, {"a": 6, "b": 4}), distance({"a": 100}, {"c": 10})
    (0.0, 1.0)
    """
    n, m = sum(reference.values()), sum(now.values())
    if not n or not m:
        raise BadInput(f"There are {n} samples in the reference and {m} now; each side needs some.")
    apart = sum(abs(reference.get(one, 0) / n - now.get(one, 0) / m) for one in {*reference, *now}) / 2
    return min(1.0, apart)  # rounding may leave it a last bit above


def moved(
    earlier: Sequence[Sequence[float]], now: Sequence[float], *, margin: float = 0.05, alpha: float = 0.01,
    permutations: int = 1999, seed: int = 0,
) -> bool | None:  # fmt: skip
    """Whether today's distances are larger than those of earlier days by more than the margin, on average.

    Of a prompt that is answered as before, today's distance is as likely as any of its earlier ones to be the largest,
    so they are exchanged prompt by prompt. None where no prompt has an earlier distance.

    >>> moved([[0.1, 0.2], [0.1, 0.1], [0.2, 0.1], [0.1, 0.1], [0.0, 0.1]], [0.9, 0.8, 0.9, 1.0, 0.7])
    True
    >>> moved([[0.1, 0.2]] * 9, [0.2] * 9), moved([[]], [0.5])
    (False, None)
    """
    pairs = [(then, today) for then, today in zip(earlier, now, strict=True) if then]
    if not pairs:
        return None
    rise = sum(today - sum(then) / len(then) for then, today in pairs) / len(pairs)
    observed, rng = sum(today for _, today in pairs), random.Random(seed)
    drawn = (sum(rng.choice((*then, today)) for then, today in pairs) for _ in range(permutations))
    p_value = (1 + sum(one >= observed - 1e-12 for one in drawn)) / (1 + permutations)
    return p_value <= alpha and rise > margin
