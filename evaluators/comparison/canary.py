"""Is a canary worse than the production beside it? Two streams of strangers, looked at after every record.

The records of a canary answer other questions than those of production, so nothing pairs them but time. Each canary
record (or run of them) is set against the mean of the production records that arrived since the one before. Which
records meet depends on their order of arrival alone, never on their scores, and both sides live through the same hours,
so that the difference has mean at most the margin where the canary is no worse: what `PairedWorse` bets against.

Units must be assigned to the sides by chance and independently of each other. Records of one session are not
independent: give each session's first record only.
"""

from collections.abc import Iterable, Mapping
from typing import Any, Self

from evaluators.comparison.sequential import Evidence, PairedWorse


class SideBySide:
    """Evidence, record by record, that the canary is worse than production by more than a margin.

    Alarms falsely with probability at most `alpha` in all looks together.

    Args:
        margin: The largest loss that does not matter, in units of the score.
        alpha: The share of harmless canaries that may ever be called worse.

    >>> process = SideBySide(margin=0.02, alpha=0.01)
    >>> process.update([(False, 1.0), (True, 0.0)] * 30).decided
    True
    """

    def __init__(self, *, margin: float = 0.0, alpha: float = 0.01) -> None:
        self.worse = PairedWorse(margin=margin, alpha=alpha)
        self.sums = {True: 0.0, False: 0.0}  # of the scores that wait for the other side; True is the canary
        self.waiting = {True: 0, False: 0}
        self.seen = {True: 0, False: 0}
        self.totals = {True: 0.0, False: 0.0}

    def update(self, arrivals: Iterable[tuple[bool, float]]) -> Evidence:
        """Takes in records in order of arrival: whether it is the canary's, and its score in [0, 1], 1 being best."""
        differences = []
        for is_canary, score in arrivals:
            self.seen[is_canary] += 1
            self.totals[is_canary] += score
            self.sums[is_canary] += score
            self.waiting[is_canary] += 1
            if (is_canary and self.waiting[False]) or (
                not is_canary and self.waiting[True] and self.waiting[False] == 1
            ):
                means = {side: self.sums[side] / self.waiting[side] for side in (True, False)}
                differences.append(means[True] - means[False])
                self.sums, self.waiting = {True: 0.0, False: 0.0}, {True: 0, False: 0}
        return self.worse.update(differences)

    @property
    def evidence(self) -> Evidence:
        """Where it stands now."""
        return self.worse.evidence

    def mean(self, canary: bool) -> float | None:
        """The mean score of a side so far; None before its first record."""
        return self.totals[canary] / self.seen[canary] if self.seen[canary] else None

    def state(self) -> dict[str, Any]:
        """All that is needed to go on later, as JSON values."""
        kept: dict[str, dict[bool, Any]] = {
            "sums": self.sums,
            "waiting": self.waiting,
            "seen": self.seen,
            "totals": self.totals,
        }
        return {"worse": self.worse.state(), **{name: [two[True], two[False]] for name, two in kept.items()}}

    @classmethod
    def resume(cls, state: Mapping[str, Any]) -> Self:
        """The process that gave this state."""
        process = cls()
        process.worse = PairedWorse.resume(state["worse"])
        for name in ("sums", "waiting", "seen", "totals"):
            canary, production = state[name]
            setattr(process, name, {True: canary, False: production})
        return process
