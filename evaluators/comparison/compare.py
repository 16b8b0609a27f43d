"""Is the candidate as good as the baseline? Two runs of the same items, judged by their paired differences."""

from collections.abc import Collection, Mapping

from driftline.errors import BadInput
from evaluators.comparison.anytime import at_any_time, units
from evaluators.comparison.pairs import Pairs, Scores, pair
from evaluators.comparison.power import items_if_as_seen, items_to_decide
from evaluators.comparison.result import Comparison, Flip
from evaluators.comparison.sample import infer, sampled
from evaluators.comparison.verdicts import Verdict, checked_margin, verdict

FLIP_AT = 0.05


def compare(
    candidate: Scores,
    baseline: Scores,
    *,
    margin: float | None,
    level: float = 0.95,
    clusters: Mapping[str, str] | None = None,
    weights: Mapping[str, float] | None = None,
    errors: Collection[str] = (),
    baseline_errors: Collection[str] = (),
    flip_at: float = FLIP_AT,
    stopped_early: bool = False,
) -> Comparison:
    """The paired estimate, its interval, the flips and the verdict.

    The same input gives the same result to the last digit, in whatever order the items come. Yes/no scores get the
    exact McNemar p-value, graded ones that of the interval. Where items share a cluster, error and p-value are taken
    between clusters. See `interval` and `clustered` for the methods and `docs/comparison.md` for their coverage.

    Args:
        candidate: Score in [0, 1] by item id; None where the item could not be scored.
        baseline: The same for the baseline, on the same golden version.
        margin: The largest loss that does not matter, in units of the score; None where none is set.
        level: Confidence of the two-sided interval.
        clusters: Cluster by item id, such as the document a question is about; an item not named is its own cluster.
        weights: Weight above 0 by item id, 1 where not named.
        errors: Items on which the candidate gave an error; they count as score 0, and are counted.
        baseline_errors: The same for the baseline.
        flip_at: Difference from which an item counts as better or worse; yes/no scores need none.
        stopped_early: The items end here because the evidence decided, so the interval is one that holds at any time.

    Raises:
        BadInput: The two sides have no item in common, or a score, weight, margin or level is out of range; or weights
            where items ended early.

    >>> ours = {f"item {i}": float(i >= 30) for i in range(100)}
    >>> theirs = {f"item {i}": float(i >= 10) for i in range(100)}
    >>> result = compare(ours, theirs, margin=0.02)
    >>> result.estimate, result.worse, result.verdict
    (-0.2, 20, <Verdict.WORSE: 'worse'>)
    """
    tolerated = checked_margin(margin) or 0.0
    if not 0.0 < level < 1.0:
        raise BadInput(f"The level is {level}; it must lie between 0 and 1, such as 0.95.")
    pairs = pair(candidate, baseline, errors, baseline_errors)
    sample = sampled(pairs, weights, clusters)
    if stopped_early and sample.weights is not None:
        raise BadInput("Items that weigh differently cannot be judged early; compare all of them, or without weights.")
    found = infer(sample, level)
    estimate = sample.mean(sample.differences)
    if stopped_early:
        found = at_any_time(found, units(pairs, sample), level)
    word = verdict(found.low, found.high, margin)
    flips = _flips(pairs, flip_at)
    worse = sum(flip.candidate < flip.baseline for flip in flips)
    needed, as_seen = (
        plan(found.variance, estimate, margin, level, len(pairs.items), binary=pairs.binary)
        for plan in (items_to_decide, items_if_as_seen)
    )
    return Comparison(
        n=len(pairs.items),
        unscored=pairs.unscored,
        errors=len(set(errors).intersection(pairs.items)),
        baseline_errors=len(set(baseline_errors).intersection(pairs.items)),
        only_candidate=len(pairs.only_candidate),
        only_baseline=len(pairs.only_baseline),
        clusters=sample.clusters,
        candidate_mean=sample.mean(pairs.candidate),
        baseline_mean=sample.mean(pairs.baseline),
        estimate=estimate,
        low=min(found.low, estimate),
        high=max(found.high, estimate),
        level=level,
        margin=margin,
        better=len(flips) - worse,
        worse=worse,
        ties=len(pairs.items) - len(flips),
        p_value=found.p_value,
        e_value=sample.e_value(tolerated),
        verdict=word,
        method=found.method,
        flips=flips,
        n_to_decide=needed if word is Verdict.UNDECIDED else None,
        n_if_as_seen=as_seen if word is Verdict.UNDECIDED else None,
    )


def _flips(pairs: Pairs, flip_at: float) -> tuple[Flip, ...]:
    flips = [
        Flip(item, float(theirs), float(ours))
        for item, ours, theirs in zip(pairs.items, pairs.candidate, pairs.baseline, strict=True)
        if ours != theirs and abs(ours - theirs) >= flip_at
    ]
    return tuple(sorted(flips, key=lambda flip: (-abs(flip.candidate - flip.baseline), flip.candidate, flip.item)))
