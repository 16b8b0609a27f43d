"""Which parts of a golden set moved: the comparison of every slice, and the list that may be believed."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from driftline.errors import BadInput
from evaluators.comparison.compare import compare
from evaluators.comparison.pairs import Scores, pair
from evaluators.comparison.result import Comparison
from evaluators.comparison.sample import sampled
from evaluators.comparison.verdicts import Verdict

Tags = Mapping[str, Mapping[str, str]]


@dataclass(frozen=True, slots=True)
class Slice:
    """The items with one value of one tag, compared on their own.

    `finding` is `worse` or `better` where the slice is on the list whose false discovery rate is controlled, else
    `undecided`; the comparison's own verdict does not know that many slices were looked at.
    """

    tag: str
    value: str
    comparison: Comparison
    e_worse: float
    e_better: float
    finding: Verdict

    @property
    def name(self) -> str:
        """The slice as people write it."""
        return f"{self.tag}={self.value}"

    def to_json(self) -> dict[str, Any]:
        """All of it as JSON values."""
        return {
            "tag": self.tag,
            "value": self.value,
            "e_worse": self.e_worse,
            "e_better": self.e_better,
            "finding": self.finding.value,
            "comparison": self.comparison.to_json(),
        }


def slices(
    candidate: Scores,
    baseline: Scores,
    tags: Tags,
    *,
    margin: float | None = None,
    level: float = 0.95,
    fdr: float = 0.05,
    clusters: Mapping[str, str] | None = None,
    weights: Mapping[str, float] | None = None,
    errors: Collection[str] = (),
    baseline_errors: Collection[str] = (),
) -> list[Slice]:
    """Every slice compared, found ones first, then by size of the difference.

    Each slice is tested twice, for `worse` than the margin and for `better`; the findings over all slices and both
    directions are false in at most `fdr` of the cases on average, however the slices overlap (e-BH, Wang and Ramdas
    2022, JRSS B 84:3). Slices without an item scored on both sides are left out.

    Args:
        candidate: Score by item id, as for `compare`.
        baseline: The same for the baseline.
        tags: Tags by item id, such as {"item 7": {"language": "de", "topic": "law"}}.
        margin: As for `compare`.
        level: Confidence of each slice's own interval.
        fdr: Share of false findings that is tolerated.
        clusters: As for `compare`.
        weights: As for `compare`.
        errors: As for `compare`.
        baseline_errors: As for `compare`.

    Raises:
        BadInput: As for `compare`, or `fdr` is not in (0, 1).
    """
    if not 0.0 < fdr < 1.0:
        raise BadInput(f"The false discovery rate is {fdr}; it must lie between 0 and 1, such as 0.05.")
    scored = _scored(candidate, errors) & _scored(baseline, baseline_errors)
    found: list[Slice] = []
    for (tag, value), items in sorted(_members(tags, scored).items()):
        ours, theirs = {item: candidate.get(item) for item in items}, {item: baseline.get(item) for item in items}
        failed, baseline_failed = items & set(errors), items & set(baseline_errors)
        comparison = compare(
            ours,
            theirs,
            margin=margin,
            level=level,
            clusters=clusters,
            weights=weights,
            errors=failed,
            baseline_errors=baseline_failed,
        )
        reverse = sampled(pair(theirs, ours, baseline_failed, failed), weights, clusters)
        found.append(Slice(tag, value, comparison, comparison.e_value, reverse.e_value(0.0), Verdict.UNDECIDED))
    listed = e_bh([e for one in found for e in (one.e_worse, one.e_better)], fdr)
    judged = [
        replace(one, finding=Verdict.WORSE if worse else Verdict.BETTER if better else Verdict.UNDECIDED)
        for one, worse, better in zip(found, listed[::2], listed[1::2], strict=True)
    ]
    return sorted(judged, key=lambda one: (one.finding is Verdict.UNDECIDED, -abs(one.comparison.estimate), one.name))


def e_bh(e_values: Sequence[float], fdr: float) -> list[bool]:
    """Which hypotheses to list so that on average at most `fdr` of the list is false, whatever their dependence.

    With m e-values the k largest are listed, for the largest k whose smallest e-value is at least m/(fdr·k).

    >>> e_bh([500.0, 1.0, 45.0, 0.2], fdr=0.05)
    [True, False, True, False]
    """
    ranked = sorted(range(len(e_values)), key=lambda index: -e_values[index])
    needed = len(e_values) / fdr
    size = max((k for k, index in enumerate(ranked, 1) if k * e_values[index] >= needed), default=0)
    listed = set(ranked[:size])
    return [index in listed for index in range(len(e_values))]


def _scored(scores: Scores, failed: Collection[str]) -> set[str]:
    return {item for item, score in scores.items() if score is not None}.union(failed)


def _members(tags: Tags, items: Collection[str]) -> dict[tuple[str, str], set[str]]:
    members: dict[tuple[str, str], set[str]] = {}
    for item in items:
        for tag, value in tags.get(item, {}).items():
            members.setdefault((tag, value), set()).add(item)
    return members
