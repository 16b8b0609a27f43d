"""Which of several candidates may replace the baseline, on held-out items that may have judged before.

Two things make a gate err more often than each of its comparisons: it looks at several candidates and keeps the best,
and the same items judge again and again, so that candidates come to be chosen for what these items happen to be. Both
are paid for. The n-th decision on a held-out set may err with alpha/(n(n+1)), which adds up to alpha over all decisions
there will ever be (the spending of Foster and Stine 2008 and of online testing in general), and its candidates share
that equally. What a decision may err with, it errs with on one side: to call a candidate not worse that is worse by
more than the margin.
"""

from collections.abc import Collection, Mapping

from driftline.errors import BadInput
from evaluators.comparison.compare import compare
from evaluators.comparison.pairs import Scores
from evaluators.comparison.result import Comparison

ALPHA = 0.05


def alpha_of_use(use: int, alpha: float = ALPHA) -> float:
    """What the `use`-th decision on a held-out set may err with, the first being 1.

    >>> round(sum(alpha_of_use(use) for use in range(1, 10_000)), 3)
    0.05
    """
    if use < 1 or not 0.0 < alpha < 1.0:
        raise BadInput(f"Uses count from 1 and alpha lies between 0 and 1; got use {use}, alpha {alpha}.")
    return alpha / (use * (use + 1))


def gate(
    candidates: Mapping[str, Scores],
    baseline: Scores,
    *,
    margin: float,
    use: int = 1,
    alpha: float = ALPHA,
    clusters: Mapping[str, str] | None = None,
    weights: Mapping[str, float] | None = None,
    errors: Mapping[str, Collection[str]] | None = None,
    baseline_errors: Collection[str] = (),
) -> dict[str, Comparison]:
    """Each candidate's comparison with the baseline, at the level that all of them together can afford.

    A truly worse candidate passes (`verdict.passes`) any of the decisions on this set with probability at most `alpha`
    in all, whichever of those that pass is taken.

    Args:
        candidates: By name, score in [0, 1] by item id; None where the item could not be scored.
        baseline: The same of the baseline.
        margin: The largest loss that does not matter, in units of the score.
        use: How many decisions these items have taken part in, this one counted.
        alpha: Share of held-out sets that may ever let a worse candidate pass.
        clusters: As for `compare`.
        weights: As for `compare`.
        errors: By candidate, the items on which it gave an error.
        baseline_errors: The same of the baseline.

    Raises:
        BadInput: There is no candidate, or scores or margin are out of range.

    >>> right = {f"item {n}": 1.0 for n in range(400)}
    >>> half = {item: float(place % 2) for place, item in enumerate(right)}
    >>> {name: one.verdict.value for name, one in gate({"same": right, "half": half}, right, margin=0.02).items()}
    {'same': 'equivalent', 'half': 'worse'}
    """
    if not candidates:
        raise BadInput("There is no candidate to judge.")
    level = 1.0 - 2.0 * alpha_of_use(use, alpha) / len(candidates)
    return {
        name: compare(
            scores, baseline, margin=margin, level=level, clusters=clusters, weights=weights,
            errors=(errors or {}).get(name, ()), baseline_errors=baseline_errors,
        )
        for name, scores in candidates.items()
    }  # fmt: skip
