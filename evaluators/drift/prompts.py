"""Did the prompts move? Lengths, and how far they lie from what the golden set covers."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from driftline.errors import BadInput
from evaluators.drift.bounds import Array
from evaluators.drift.twosample import Moved, numbers_moved


@dataclass(frozen=True, slots=True)
class PromptsMoved:
    """What happened to the lengths of prompts: whether they moved, and how many are now short or long.

    `short` and `long` are the shares of prompts below the reference 10 % length and above the 90 % length.
    """

    moved: bool
    lengths: Moved
    short_before: float
    short: float
    long_before: float
    long: float


def prompts_moved(
    before: Sequence[float], after: Sequence[float], *, margin: float = 0.02, alpha: float = 0.01
) -> PromptsMoved:
    """Two-sample check of prompt lengths (tokens or characters) around an alarm.

    Works as well for output lengths. It explains; for an alarm under continuous looking feed `short` and `long` to a
    detector.

    Raises:
        BadInput: A side is empty, or a length is NaN or infinite.

    >>> prompts_moved([20, 30, 40] * 50, [20, 30, 40] * 30).moved
    False
    >>> found = prompts_moved([20, 30, 40] * 50, [20, 300, 400] * 30)
    >>> found.moved, round(found.long, 2)
    (True, 0.67)
    """
    lengths = numbers_moved(before, after, margin=margin, alpha=alpha)
    old, new = np.array(before, dtype=float), np.array(after, dtype=float)
    few, many = np.quantile(old, [0.1, 0.9], method="inverted_cdf")
    return PromptsMoved(
        moved=lengths.moved,
        lengths=lengths,
        short_before=float(np.mean(old < few)),
        short=float(np.mean(new < few)),
        long_before=float(np.mean(old > many)),
        long=float(np.mean(new > many)),
    )


def coverage_gap(golden: Array, prompts: Array, *, quantile: float = 0.95) -> tuple[float, list[float]]:
    """How far each prompt lies outside what the golden set covers: (radius, 1.0 per prompt outside it, else 0.0).

    The radius is the quantile of the golden items' distances to their nearest other golden item; by construction
    1 - quantile of the golden items themselves lie outside, so a rise above that is a gap. Cosine distance.

    Args:
        golden: Embeddings of golden prompts, (items, dimensions).
        prompts: Embeddings of traffic, (prompts, dimensions).
        quantile: Of the leave-one-out distances.

    Raises:
        BadInput: Fewer than 20 golden items, different dimensions, or a vector that is zero or not finite.

    >>> circle = np.linspace(0, 1, 40)
    >>> golden = np.column_stack([np.cos(circle), np.sin(circle)])
    >>> coverage_gap(golden, np.array([[1.0, 0.0], [-1.0, 0.0]]))[1]
    [0.0, 1.0]
    """
    if len(golden) < 20:
        raise BadInput(f"The golden set has {len(golden)} embedded prompts; at least 20 are needed to know its spread.")
    if golden.shape[1] != prompts.shape[1]:
        raise BadInput(
            f"Golden vectors have {golden.shape[1]} dimensions, prompts {prompts.shape[1]}; embed both alike."
        )
    known, new = _unit(golden, "golden"), _unit(prompts, "prompt")
    among = known @ known.T
    np.fill_diagonal(among, -np.inf)
    radius = float(np.quantile(1 - among.max(axis=1), quantile, method="higher"))
    nearest = 1 - (new @ known.T).max(axis=1)
    return radius, [1.0 if distance > radius + 1e-12 else 0.0 for distance in nearest.tolist()]


def _unit(vectors: Array, what: str) -> Array:
    lengths = np.linalg.norm(vectors, axis=1)
    wrong = np.flatnonzero(~(np.isfinite(lengths) & (lengths > 0)))
    if len(wrong):
        raise BadInput(
            f"The {what} vector at index {wrong[0]} is zero or not finite; embed that text again or leave it out."
        )
    unit: Array = vectors / lengths[:, None]
    return unit
