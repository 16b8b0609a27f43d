"""What a paired comparison found, with all that is needed to say what it rests on."""

from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

from evaluators.comparison.verdicts import Verdict


class Flip(NamedTuple):
    """An item on which the two sides disagree, with both scores."""

    item: str
    baseline: float
    candidate: float


@dataclass(frozen=True, slots=True)
class Comparison:
    """Candidate against baseline on the same items; differences are candidate minus baseline, in units of the score.

    Attributes:
        n: Items scored on both sides.
        unscored: Common items that at least one side could not score; they take no part.
        errors: Paired items on which the candidate gave an error, counted as score 0.
        baseline_errors: The same for the baseline.
        only_candidate: How many items the candidate alone was given; they take no part.
        only_baseline: How many items the baseline alone was given.
        clusters: Number of clusters, None where items count as independent.
        candidate_mean: Mean score, weighted where there are weights.
        baseline_mean: The same for the baseline.
        estimate: Mean difference.
        low: Lower end of the interval of `level`.
        high: Upper end.
        level: Confidence of the interval, such as 0.95.
        margin: The largest loss that does not matter, None where none is set.
        better: Items on which the candidate scores higher, by at least the step that counts as a flip.
        worse: Items on which it scores lower by that step.
        ties: All others.
        p_value: Two-sided, of "no difference".
        e_value: Evidence for "worse than the margin"; valid at any stopping time. 1000 is false with chance 1/1000 at
            most.
        verdict: The word for the interval and the margin.
        method: How interval and p-value were computed.
        flips: Items that are better or worse, the largest difference first, losses before gains.
        n_to_decide: Where undecided, how many such items would decide with probability 0.9; None where decided, or
            where no number would.
        n_if_as_seen: The same, were the estimate the truth: fewer where it lies far from the margin.
    """

    n: int
    unscored: int
    errors: int
    baseline_errors: int
    only_candidate: int
    only_baseline: int
    clusters: int | None
    candidate_mean: float
    baseline_mean: float
    estimate: float
    low: float
    high: float
    level: float
    margin: float | None
    better: int
    worse: int
    ties: int
    p_value: float
    e_value: float
    verdict: Verdict
    method: str
    flips: tuple[Flip, ...]
    n_to_decide: int | None
    n_if_as_seen: int | None = None

    def to_json(self, max_flips: int = 200) -> dict[str, Any]:
        """All of it as JSON values; of the flips the first `max_flips`, `better + worse` says how many there are."""
        values = asdict(self)
        values["verdict"] = self.verdict.value
        values["flips"] = [
            {"item": flip.item, "baseline": flip.baseline, "candidate": flip.candidate}
            for flip in self.flips[:max_flips]
        ]
        return values
