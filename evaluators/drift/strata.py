"""A mean in [0, 1] judged within strata, each against its own edge: hours, weekdays, or the values of a tag."""

import hashlib
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal, Self

from driftline.errors import BadInput
from evaluators.drift.esr import ESR
from evaluators.drift.numbers import checked, log_mean_exp
from evaluators.drift.reading import Reading
from evaluators.drift.reference import LEAST, FrozenReference, freeze

ENOUGH = 60  # values that give a stratum an edge of its own
MOST = 32  # strata watched, whatever the number of values a tag takes
OTHER = "(other)"

Value = tuple[str, float]  # stratum, number in [0, 1]


@dataclass(frozen=True, slots=True)
class FrozenStrata:
    """How each stratum was while all was well. `edges[k]` is the m0 of `labels[k]`; all hold with `confidence`.

    Strata too small for an edge of their own, and those never seen, count as "(other)"; where even those together are
    too few, `labels` lacks it and their records are left out. `seen` is the number of different strata in the
    reference, so that a tag with 100 000 values is told.
    """

    direction: Literal["fall", "rise"]
    n: int
    mean: float
    labels: tuple[str, ...]
    edges: tuple[float, ...]
    means: tuple[float, ...]
    sizes: tuple[int, ...]
    seen: int
    margin: float
    confidence: float
    content_hash: str

    def to_json(self) -> dict[str, Any]:
        """As JSON values; `from_json` gives it back."""
        return {k: list(v) if isinstance(v, tuple) else v for k, v in asdict(self).items()}

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> Self:
        """The strata that `to_json` wrote."""
        lists = {key: tuple(stored[key]) for key in ("labels", "edges", "means", "sizes")}
        return cls(**{**stored, **lists})


def freeze_strata(
    values: Sequence[Value],
    *,
    direction: Literal["fall", "rise"],
    margin: float,
    confidence: float,
    weights: Sequence[float] | None = None,
    blocks: Sequence[int] | None = None,
    most: int = MOST,
) -> FrozenStrata:
    """Bounds the mean of each stratum of a good stretch, as `reference.freeze` does for one.

    The largest strata of at least 60 values get an edge each, at most `most - 1` of them; the rest is "(other)".
    The bounds share 1 - confidence evenly.

    Raises:
        BadInput: Fewer than 20 values, one outside [0, 1], or no stratum in which a change could be told.

    >>> hours = [("night", float(i % 5 > 0)) for i in range(300)] + [("day", float(i % 10 > 0)) for i in range(300)]
    >>> frozen = freeze_strata(hours, direction="fall", margin=0.01, confidence=0.995)
    >>> [(label, round(edge, 2)) for label, edge in zip(frozen.labels, frozen.edges, strict=True)]
    [('day', 0.83), ('night', 0.72)]
    """
    labels = [_label(i, value) for i, value in enumerate(values)]
    xs, _ = checked([value[1] for value in values], weights, low=0.0, high=1.0)
    if len(xs) < LEAST:
        raise BadInput(
            f"The reference has {len(xs)} values; at least {LEAST} are needed, and a few hundred serve better."
        )
    if most < 2:
        raise BadInput(f"most is {most}; at least 2 strata are needed, one of them for all others together.")
    counts = Counter(labels)
    own = sorted((la for la, n in counts.items() if n >= ENOUGH and la != OTHER), key=lambda la: (-counts[la], la))
    kept = set(own[: most - 1])
    places: dict[str, list[int]] = defaultdict(list)
    for place, label in enumerate(labels):
        places[label if label in kept else OTHER].append(place)
    level = 1 - (1 - confidence) / len(places)
    frozen: dict[str, FrozenReference] = {}
    problem = None
    for label in sorted(places, key=lambda la: (la == OTHER, la)):
        chosen = places[label]
        try:
            frozen[label] = freeze(
                [xs[i] for i in chosen], direction=direction, margin=margin, confidence=level,
                weights=None if weights is None else [weights[i] for i in chosen],
                blocks=None if blocks is None else [blocks[i] for i in chosen],
            )  # fmt: skip
        except BadInput as refused:  # too few, or no room in this one; the others are still watched
            problem = refused
    if not frozen:
        raise problem or BadInput("There is no stratum to watch.")
    digest = hashlib.sha256(f"strata|{direction}|{margin!r}|{confidence!r}|{len(counts)}".encode())
    for label, one in frozen.items():
        digest.update(f"{label}|{one.content_hash}".encode())
    return FrozenStrata(
        direction=direction,
        n=len(xs),
        mean=sum(xs) / len(xs),
        labels=tuple(frozen),
        edges=tuple(one.m0 for one in frozen.values()),
        means=tuple(one.mean for one in frozen.values()),
        sizes=tuple(one.n for one in frozen.values()),
        seen=len(counts),
        margin=float(margin),
        confidence=float(confidence),
        content_hash=digest.hexdigest(),
    )


class Strata:
    """Alarms when means leave the good side of the edges of their strata, together or in one of them.

    Together: what a value gains against its stratum's edge is measured in the most it could lose there, for a fall
    z = (m0_s - x) / (1 - m0_s) ≥ -1, for a rise z = (x - m0_s) / m0_s, and one e-SR bets on the mean of z. (It sees
    y = m - (1 - m) z with m the largest edge, or y = m + m z with m the smallest.) Where every stratum's conditional
    mean stays on its good side, the mean of z is at most 0, whatever the mix: more traffic at night, or more of the
    hard questions, is no alarm. With `each`, half of the evidence is the mean over one more e-SR per stratum, so that
    one slice that breaks among thirty good ones is found. Means of e-detectors are e-detectors: P(any alarm within N
    blocks) ≤ N / A.

    Args:
        reference: `FrozenStrata.to_json()`.
        log_threshold: Natural logarithm of A; see `evaluators.drift.budget`.
        each: Whether every stratum is watched by itself as well.

    >>> good = [("easy", float(i % 10 > 0)) for i in range(500)] + [("hard", float(i % 2)) for i in range(500)]
    >>> watch = Strata(reference=freeze_strata(good, direction="fall", margin=0.01, confidence=0.995), log_threshold=15)
    >>> [watch.update([("hard", 1.0), ("hard", 0.0)]).alarmed for _ in range(500)].count(True)
    0
    >>> readings = [watch.update([("easy", 0.0), ("easy", 1.0), ("hard", 1.0), ("hard", 0.0)]) for _ in range(60)]
    >>> [r.alarmed for r in readings].index(True), readings[-1].detail["worst"]
    (15, 'easy')
    """

    VERSION = 1

    def __init__(self, *, reference: Mapping[str, Any] | FrozenStrata, log_threshold: float, each: bool = True) -> None:
        frozen = reference if isinstance(reference, FrozenStrata) else FrozenStrata.from_json(reference)
        self.frozen, self.log_threshold, self.each = frozen, float(log_threshold), bool(each)
        self._edge = max(frozen.edges) if frozen.direction == "fall" else min(frozen.edges)
        self._together = ESR(m0=self._edge, direction=frozen.direction, log_threshold=log_threshold)
        self._parts = [
            ESR(m0=edge, direction=frozen.direction, log_threshold=log_threshold) for edge in frozen.edges if each
        ]
        self._places = {label: k for k, label in enumerate(frozen.labels)}

    def update(self, values: Sequence[Value], weights: Sequence[float] | None = None) -> Reading:
        """Judge the next block of (stratum, number); see `Detector.update`."""
        labels = [_label(i, value) for i, value in enumerate(values)]
        xs, ws = checked([value[1] for value in values], weights, low=0.0, high=1.0)
        places = [self._places.get(label, self._places.get(OTHER, -1)) for label in labels]
        known = [i for i, place in enumerate(places) if place >= 0]
        moved = [self._moved(xs[i], self.frozen.edges[places[i]]) for i in known]
        together = self._together.update(moved, [ws[i] for i in known])
        readings = []
        for k, part in enumerate(self._parts):
            own = [i for i in known if places[i] == k]
            readings.append(part.update([xs[i] for i in own], [ws[i] for i in own]))
        return self._reading(together, readings, [xs[i] for i in known], [ws[i] for i in known], len(xs) - len(known))

    def rethreshold(self, log_threshold: float) -> None:
        """Go on with another threshold; see `ESR.rethreshold`."""
        for part in (self._together, *self._parts):
            part.rethreshold(log_threshold)
        self.log_threshold = float(log_threshold)

    def state(self) -> dict[str, Any]:
        """The reference, and the state of the e-SR over all and over each stratum."""
        return {
            "detector": "strata",
            "version": self.VERSION,
            "log_threshold": self.log_threshold,
            "each": self.each,
            "reference": self.frozen.to_json(),
            "together": self._together.state(),
            "parts": [part.state() for part in self._parts],
        }

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> Self:
        """The detector that wrote this state."""
        made = cls(reference=state["reference"], log_threshold=state["log_threshold"], each=state["each"])
        if len(state["parts"]) != len(made._parts):
            raise ValueError(f"it holds {len(state['parts'])} parts for {len(made._parts)} strata")
        made._together = ESR.from_state(state["together"])
        made._parts = [ESR.from_state(part) for part in state["parts"]]
        return made

    def _moved(self, x: float, edge: float) -> float:
        if self.frozen.direction == "fall":
            y = self._edge - (1 - self._edge) * (edge - x) / (1 - edge)
        else:
            y = self._edge + self._edge * (x - edge) / edge
        return min(1.0, max(0.0, y))  # against the last bit of rounding: y lies in [0, 1]

    def _reading(
        self, together: Reading, readings: list[Reading], xs: list[float], ws: list[float], left_out: int
    ) -> Reading:
        statistic = together.statistic
        if readings:
            statistic = log_mean_exp([statistic, log_mean_exp([r.statistic for r in readings])])
        worst = max(range(len(readings)), key=lambda k: readings[k].statistic, default=None)
        named = worst is not None and readings[worst].statistic > together.statistic
        leading = readings[worst] if worst is not None and named else together
        return Reading(
            n=len(xs),
            value=sum(x * w for x, w in zip(xs, ws, strict=True)) / sum(ws) if xs else None,
            statistic=statistic,
            threshold=self.log_threshold,
            alarmed=bool(xs) and statistic >= self.log_threshold,
            since_blocks=leading.since_blocks,
            detail={
                "worst": None if worst is None else self.frozen.labels[worst],
                "alone": named,
                "strata": {la: r.value for la, r in zip(self.frozen.labels, readings, strict=False) if r.n},
                "left_out": left_out,
                "blocks": together.detail["blocks"],
            },
        )


def _label(index: int, value: Any) -> str:
    if not (isinstance(value, tuple | list) and len(value) == 2 and isinstance(value[0], str)):
        raise BadInput(f"The value at index {index} is {value!r:.60}; it must be (stratum, number).")
    if isinstance(value[1], bool) or not isinstance(value[1], int | float):
        raise BadInput(f"The value at index {index} is {value!r:.60}; its second part must be a number in [0, 1].")
    return value[0]
