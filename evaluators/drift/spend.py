"""Why did a request become dearer? A change of cost, split into price, tokens and mix of models."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from driftline.errors import BadInput
from evaluators.drift.bounds import Array
from evaluators.drift.decompose import Part
from evaluators.drift.numbers import checked

LEAST = 20

Spent = tuple[str, float, float]  # model (or variant), tokens, cost


@dataclass(frozen=True, slots=True)
class CostChange:
    """Change of the mean cost of a request = price + tokens + mix, each with an interval at `confidence`.

    `price`: what a token costs; `tokens`: how many a request takes; `mix`: which models answer.
    """

    before: float
    after: float
    price: Part
    tokens: Part
    mix: Part
    confidence: float

    @property
    def largest(self) -> str:
        """The part that explains most, by absolute size: "price", "tokens" or "mix"."""
        return max(("price", "tokens", "mix"), key=lambda name: abs(getattr(self, name).estimate))


def cost_change(
    before: Sequence[Spent], after: Sequence[Spent], *, confidence: float = 0.95, resamples: int = 500, seed: int = 0
) -> CostChange:
    """δ = Σ (p' - p) t c + Σ p' (t' - t) c + Σ p' t' (c' - c) over models: mix, tokens, price.

    p is a model's share of requests, t its mean tokens, c its cost per token (all it cost over all its tokens), before
    and after (primed). A model that one side lacks takes t and c from the other, so that it counts as mix. Intervals by
    resampling requests (percentile bootstrap).

    Args:
        before: (model, tokens, cost) per request; any unit of money.
        after: Likewise.
        confidence: Of the intervals.
        resamples: Of the bootstrap.
        seed: Likewise.

    Raises:
        BadInput: A side has fewer than 20 requests, or a number is not finite or negative.

    >>> old = [("big", 100.0, 200.0)] * 50 + [("small", 100.0, 50.0)] * 50
    >>> dearer = [("big", 100.0, 240.0)] * 50 + [("small", 100.0, 60.0)] * 50
    >>> cost_change(old, dearer).largest, cost_change(old, [("big", 100.0, 200.0)] * 100).largest
    ('price', 'mix')
    """
    for name, side in (("before", before), ("after", after)):
        if len(side) < LEAST:
            raise BadInput(f"There are {len(side)} requests {name}; at least {LEAST} are needed on each side.")
    models = sorted({model for model, _, _ in (*before, *after)})
    rng = np.random.default_rng(seed)
    sides = [_Side(side, models) for side in (before, after)]
    estimates = _parts(*(side.figures(np.ones((1, side.n))) for side in sides))
    drawn = _parts(*(side.figures(rng.multinomial(side.n, np.full(side.n, 1 / side.n), resamples)) for side in sides))
    tail = (1 - confidence) / 2

    def part(k: int) -> Part:
        low, high = np.quantile(drawn[k], [tail, 1 - tail])
        return Part(float(estimates[k][0]), float(low), float(high))

    return CostChange(
        before=float(sides[0].cost.mean()), after=float(sides[1].cost.mean()),
        price=part(2), tokens=part(1), mix=part(0), confidence=confidence,
    )  # fmt: skip


class _Side:
    def __init__(self, spent: Sequence[Spent], models: Sequence[str]) -> None:
        tokens, _ = checked([t for _, t, _ in spent], low=0.0, what="token count")
        cost, _ = checked([c for _, _, c in spent], low=0.0, what="cost")
        places = {model: k for k, model in enumerate(models)}
        member = np.array([places[model] for model, _, _ in spent])
        self.n = len(spent)
        self.tokens, self.cost = np.array(tokens), np.array(cost)
        self._member = (member[:, None] == np.arange(len(models))).astype(float)

    def figures(self, counts: Any) -> tuple[Array, Array, Array]:
        """Shares, mean tokens and price per token of each model, (draws, models); NaN where it did not answer."""
        size = counts @ self._member
        tokens = (counts * self.tokens) @ self._member
        cost = (counts * self.cost) @ self._member
        mean = np.divide(tokens, size, out=np.full(size.shape, np.nan), where=size > 0)
        price = np.divide(cost, tokens, out=np.full(size.shape, np.nan), where=tokens > 0)
        return size / self.n, mean, price


def _parts(before: tuple[Array, Array, Array], after: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
    (p, t, c), (p2, t2, c2) = before, after
    t, t2 = np.where(np.isnan(t), t2, t), np.where(np.isnan(t2), t, t2)
    c, c2 = np.where(np.isnan(c), c2, c), np.where(np.isnan(c2), c, c2)
    t, t2, c, c2 = (np.nan_to_num(x) for x in (t, t2, c, c2))
    mix = ((p2 - p) * t * c).sum(axis=1)
    tokens = (p2 * (t2 - t) * c).sum(axis=1)
    price = (p2 * t2 * (c2 - c)).sum(axis=1)
    return mix, tokens, price
