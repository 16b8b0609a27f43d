"""Did texts change, without pairs? Two samples of prompts or answers, compared by label permutation."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from driftline.errors import BadInput
from evaluators.drift.textual import FORMAT, WIDTH, features

MOST = 1000  # texts a side


@dataclass(frozen=True, slots=True)
class TextsMoved:
    """Whether two samples of texts differ in kind. `statistic` is the squared distance of their mean features."""

    moved: bool
    statistic: float
    p_value: float
    n_before: int
    n_after: int
    format_moved: dict[str, float]


def texts_moved(
    before: Sequence[str], after: Sequence[str], *, alpha: float = 0.01, permutations: int = 499, seed: int = 0
) -> TextsMoved:
    """Unpaired MMD: T = |mean φ(before) - mean φ(after)|² against random relabelling of the pooled texts.

    Exact where all texts are exchangeable, as independent draws from one traffic are; texts of one conversation are
    not. "Moved" never means "worse". φ as in `textual`; `format_moved` names the format features that moved most.

    Args:
        before: Texts of one side, at most 1000.
        after: Of the other.
        alpha: Level of the test.
        permutations: Random relabellings.
        seed: Of them.

    Raises:
        BadInput: A side is empty, or too many texts.

    >>> import random
    >>> old = random.Random(1).sample([f"How do I cook {n} eggs?" for n in range(60)], 60)
    >>> texts_moved(old[:30], old[30:]).moved
    False
    >>> texts_moved(old, [f"def add_{n}(a, b): return a + b" for n in range(60)]).moved
    True
    """
    if not before or not after or max(len(before), len(after)) > MOST:
        raise BadInput(f"There are {len(before)} texts before and {len(after)} after; give 1 to {MOST} of each.")
    n, m = len(before), len(after)
    pooled = features([*before, *after])
    apart = pooled[n:].mean(axis=0) - pooled[:n].mean(axis=0)
    observed = float(apart @ apart)
    rng = np.random.default_rng(seed)
    # With s the signs 1/m (after) and -1/n (before), T = s' K s: one product with K for all relabellings.
    signs = np.concatenate([np.full(n, -1 / n), np.full(m, 1 / m)])
    drawn = np.array([rng.permutation(signs) for _ in range(permutations)])
    by_chance = np.sum((drawn @ pooled) ** 2, axis=1)
    p_value = (1 + int(np.sum(by_chance >= observed * (1 - 1e-9)))) / (1 + permutations)
    moved = apart[2 * WIDTH :]
    largest = np.argsort(-np.abs(moved))[:3]
    return TextsMoved(
        moved=p_value <= alpha and observed > 0,
        statistic=observed,
        p_value=p_value,
        n_before=n,
        n_after=m,
        format_moved={FORMAT[k]: float(moved[k]) for k in largest if abs(moved[k]) > 0.02},
    )
