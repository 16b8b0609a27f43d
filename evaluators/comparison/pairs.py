"""Two runs of the same items, side by side: who is paired, who is left over, and why."""

import math
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from driftline.errors import BadInput

Floats = NDArray[np.float64]
ROUNDING = 1e-9  # a score may miss its range by this much

Scores = Mapping[str, float | None]


@dataclass(frozen=True, slots=True)
class Pairs:
    """Items scored on both sides, in the order of their ids, and the count of those that are not."""

    items: tuple[str, ...]
    candidate: Floats
    baseline: Floats
    unscored: int
    only_candidate: tuple[str, ...]
    only_baseline: tuple[str, ...]

    @property
    def differences(self) -> Floats:
        """Candidate minus baseline, in [-1, 1], shape (items,)."""
        return self.candidate - self.baseline

    @property
    def binary(self) -> bool:
        """Whether every score on both sides is 0 or 1."""
        return bool(np.isin(self.candidate, (0.0, 1.0)).all() and np.isin(self.baseline, (0.0, 1.0)).all())


def pair(
    candidate: Scores, baseline: Scores, errors: Collection[str] = (), baseline_errors: Collection[str] = ()
) -> Pairs:
    """Both scores of every item that has two; items with an error count as 0, whatever score came with them.

    Raises:
        BadInput: A score is no number in [0, 1], or no item is common to both sides.
    """
    left, right = _checked(candidate, errors, "candidate"), _checked(baseline, baseline_errors, "baseline")
    common = sorted(left.keys() & right.keys())
    if not common:
        raise BadInput(
            f"The candidate's {len(left)} items and the baseline's {len(right)} have none in common; a paired "
            "comparison needs the same golden version on both sides. Replay the baseline on the candidate's version."
        )
    scored = [(item, a, b) for item in common if (a := left[item]) is not None and (b := right[item]) is not None]
    return Pairs(
        tuple(item for item, _, _ in scored),
        np.array([ours for _, ours, _ in scored], dtype=np.float64),
        np.array([theirs for _, _, theirs in scored], dtype=np.float64),
        len(common) - len(scored),
        tuple(sorted(left.keys() - right.keys())),
        tuple(sorted(right.keys() - left.keys())),
    )


def _checked(scores: Scores, errors: Collection[str], side: str) -> dict[str, float | None]:
    checked: dict[str, float | None] = {}
    for item, score in scores.items():
        if score is not None and not -ROUNDING <= score <= 1.0 + ROUNDING:
            raise BadInput(
                f"The {side}'s score of item {item} is {score}; scores must lie in [0, 1], "
                "or be None where the item could not be scored."
            )
        checked[item] = None if score is None else min(max(float(score), 0.0), 1.0)
    return checked | dict.fromkeys(errors, 0.0)


def once_per_item(
    scored: Iterable[tuple[str, float | None]], *, repeats_are_draws: bool = False
) -> dict[str, float | None]:
    """Scores by item from rows in which an item may come several times, so that no item is counted twice.

    A model at temperature 0 gives the same answer to the same item, so a second row is no second observation (the
    replay trap): equal rows are one, and rows that contradict each other are refused. Where answers are drawn, each
    row is a draw and the item's score is their mean; unscored draws do not take part in it.

    Args:
        scored: Pairs of item id and score.
        repeats_are_draws: The answers were sampled, at a temperature above 0.

    Raises:
        BadInput: An item came with two different scores although answers were not sampled.

    >>> once_per_item([("a", 1.0), ("b", None), ("a", 1.0)])
    {'a': 1.0, 'b': None}
    >>> once_per_item([("a", 1.0), ("a", 0.0)], repeats_are_draws=True)
    {'a': 0.5}
    """
    rows: dict[str, list[float | None]] = {}
    for item, score in scored:
        rows.setdefault(item, []).append(score)
    once: dict[str, float | None] = {}
    for item, scores in rows.items():
        if not repeats_are_draws and any(score != scores[0] for score in scores):
            raise BadInput(
                f"Item {item} came {len(scores)} times with different scores: {sorted({str(s) for s in scores})}. "
                "Give each item one id, or say that answers were sampled so that repeats are averaged."
            )
        drawn = [score for score in scores if score is not None]
        once[item] = math.fsum(drawn) / len(drawn) if drawn else None
    return once
