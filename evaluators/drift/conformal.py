"""Prompts or answers unlike before: ranks of their strangeness among frozen reference scores."""

import hashlib
import math
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Self

import numpy as np

from driftline.errors import BadInput
from evaluators.drift.esr import ESR
from evaluators.drift.numbers import checked, log_mean_exp
from evaluators.drift.reading import Reading

LEAST = 40  # scores
MOST = 1000  # scores kept, so that the state stays small
TAILS = (0.9, 0.99)  # shares of the reference beyond which a score counts as strange


@dataclass(frozen=True, slots=True)
class FrozenScores:
    """Sorted nonconformity scores of a good stretch, and the edges of what ranks among them may average.

    `mean_edge` bounds the mean rank, `tail_edges` the shares of new scores above the 90 % and the 99 % score, each
    with `margin` added; the bounds hold together with `confidence`.
    """

    scores: tuple[float, ...]
    mean_edge: float
    tail_edges: tuple[float, ...]
    margin: float
    confidence: float
    content_hash: str

    def rank(self, score: float) -> float:
        """Share of the reference scores strictly below; a tie counts as not strange.

        >>> freeze_scores([float(i) for i in range(100)], confidence=0.99).rank(50.0)
        0.5
        """
        return bisect_left(self.scores, score) / len(self.scores)

    def to_json(self) -> dict[str, Any]:
        """As JSON values; `from_json` gives it back."""
        return {k: list(v) if isinstance(v, tuple) else v for k, v in asdict(self).items()}

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> Self:
        """The scores that `to_json` wrote."""
        return cls(**{**stored, "scores": tuple(stored["scores"]), "tail_edges": tuple(stored["tail_edges"])})


def freeze_scores(
    scores: Sequence[float], *, margin: float = 0.02, confidence: float, weights: Sequence[float] | None = None
) -> FrozenScores:
    """Keeps the scores (1000 of them, evenly, where there are more) and bounds what new scores of the same kind do.

    Whatever their distribution: given the reference, the mean rank of a new score is the mean of n uniform variables,
    hence at most 1/2 + z √(1 / 12 n) (the normal quantile z errs on the safe side), and the share of new scores above
    the j-th of n is Beta(n - j + 1, j).

    Args:
        scores: How strange each reference record is, larger is stranger: say, the distance of an embedded prompt to
            the nearest other one (leave-one-out). New scores must be computed alike, against the same set.
        margin: Growth of the mean rank or of a share that does not matter, 0.02 is 2 points.
        confidence: That all bounds hold, e.g. 0.995.
        weights: Per score r_min / r in (0, 1], for records sampled with unequal inclusion probability r. Ranks count
            scores alike, so a score is kept with this probability: what is left was sampled alike.

    Raises:
        BadInput: Fewer than 40 scores (that are left), or one that is not finite.
    """
    from scipy import stats

    xs, ws = checked(scores, weights, what="score")
    if weights is not None:
        drawn = np.random.default_rng(0).random(len(xs))
        xs = [x for x, w, u in zip(xs, ws, drawn, strict=True) if u < w]
    if len(xs) < LEAST:
        raise BadInput(
            f"The reference has {len(xs)} scores; at least {LEAST} are needed, and a few hundred serve better."
        )
    if not 0 <= margin < 0.4 or not 0.5 <= confidence < 1:
        raise BadInput(f"margin is {margin} and confidence {confidence}; they must be in [0, 0.4) and [0.5, 1).")
    kept = np.sort(xs if len(xs) <= MOST else np.random.default_rng(0).choice(xs, MOST, replace=False))
    n, alpha = len(kept), (1 - confidence) / (1 + len(TAILS))
    mean_edge = 0.5 + float(stats.norm.ppf(1 - alpha)) / math.sqrt(12 * n) + margin
    places = [min(n, math.ceil(q * (n + 1))) for q in TAILS]
    return FrozenScores(
        scores=tuple(kept.tolist()),
        mean_edge=min(mean_edge, 0.99),
        tail_edges=tuple(min(float(stats.beta.ppf(1 - alpha, n - j + 1, j)) + margin, 0.99) for j in places),
        margin=float(margin),
        confidence=float(confidence),
        content_hash=hashlib.sha256(f"scores|{margin!r}|{confidence!r}".encode() + kept.tobytes()).hexdigest(),
    )


class Conformal:
    """Alarms when records become stranger than the reference: on average, or a few of them by much.

    Three e-SRs watch for a rise: of the mean rank among the reference scores, and of the shares above their 90 % and
    99 %. Their mean alarms, with the promise of `Exceedance`; no assumption is made on the scores but that, while all
    is well, they are drawn like those of the reference or less strange. Unlike a conformal martingale over the whole
    past it needs no memory that grows, keeps a margin, and counts the error of the finite reference in the budget.

    Args:
        reference: `FrozenScores.to_json()`.
        log_threshold: Natural logarithm of A; see `evaluators.drift.budget`.

    Source: ranks as in Vovk, Gammerman, Shafer (2005), Algorithmic Learning in a Random World, chapter 7.

    >>> frozen = freeze_scores([i / 500 for i in range(500)], confidence=0.995)
    >>> watch = Conformal(reference=frozen, log_threshold=15.0)
    >>> [watch.update([0.1, 0.5, 0.9]).alarmed for _ in range(500)].count(True)
    0
    >>> [watch.update([0.6, 0.9, 1.5]).alarmed for _ in range(60)].index(True)
    8
    """

    VERSION = 1

    def __init__(self, *, reference: Mapping[str, Any] | FrozenScores, log_threshold: float) -> None:
        frozen = reference if isinstance(reference, FrozenScores) else FrozenScores.from_json(reference)
        self.frozen, self.log_threshold = frozen, float(log_threshold)
        edges = (frozen.mean_edge, *frozen.tail_edges)
        self._parts = [ESR(m0=edge, direction="rise", log_threshold=log_threshold) for edge in edges]
        n = len(frozen.scores)
        self._lines = [frozen.scores[min(n, math.ceil(q * (n + 1))) - 1] for q in TAILS]

    def update(self, values: Sequence[float], weights: Sequence[float] | None = None) -> Reading:
        """Judge the next block of scores; see `Detector.update`."""
        xs, ws = checked(values, weights, what="score")
        ranks = [self.frozen.rank(x) for x in xs]
        streams = [ranks, *([1.0 if x > line else 0.0 for x in xs] for line in self._lines)]
        readings = [part.update(stream, ws) for part, stream in zip(self._parts, streams, strict=True)]
        statistic = log_mean_exp([r.statistic for r in readings])
        best = max(readings, key=lambda r: r.statistic)
        return Reading(
            n=len(xs),
            value=readings[0].value,
            statistic=statistic,
            threshold=self.log_threshold,
            alarmed=bool(xs) and statistic >= self.log_threshold,
            since_blocks=best.since_blocks,
            detail={
                "mean_rank": readings[0].value,
                "shares_above": {f"p{q * 100:g}": r.value for q, r in zip(TAILS, readings[1:], strict=True)},
                "edges": [part.m0 for part in self._parts],
                "blocks": best.detail["blocks"],
            },
        )

    def rethreshold(self, log_threshold: float) -> None:
        """Go on with another threshold; see `ESR.rethreshold`."""
        for part in self._parts:
            part.rethreshold(log_threshold)
        self.log_threshold = float(log_threshold)

    def state(self) -> dict[str, Any]:
        """The reference scores, and the state of each e-SR."""
        return {
            "detector": "conformal",
            "version": self.VERSION,
            "log_threshold": self.log_threshold,
            "reference": self.frozen.to_json(),
            "parts": [part.state() for part in self._parts],
        }

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> Self:
        """The detector that wrote this state."""
        made = cls(reference=state["reference"], log_threshold=state["log_threshold"])
        if len(state["parts"]) != len(made._parts):
            raise ValueError(f"it holds {len(state['parts'])} parts for {len(made._parts)} streams")
        made._parts = [ESR.from_state(part) for part in state["parts"]]
        return made
