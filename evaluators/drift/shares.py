"""Shares that grow: languages, clusters, kinds of prompts, lengths in bins, statuses."""

import hashlib
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Self

import numpy as np

from driftline.errors import BadInput
from evaluators.drift.bounds import block_means, lower_of_blocks, upper_mean
from evaluators.drift.esr import ESR, Form
from evaluators.drift.numbers import checked, log_mean_exp
from evaluators.drift.reading import Reading

LEAST = 40  # records
LEAST_BLOCKS = 30  # for the approximation of the clustered bounds
OTHER = "(other)"

Labels = str | Sequence[str]  # what one record is; a record may be several things at once


@dataclass(frozen=True, slots=True)
class FrozenShares:
    """How often each label was seen while all was well, and the edge of what is tolerated.

    `edges[k]` is an upper confidence bound of the share of `labels[k]`, plus `margin`. All bounds hold together with
    `confidence`. Labels too rare to be watched alone, and those never seen, count as "(other)"; those in `everywhere`
    are on so many records already that they have no room to grow, and are not watched.
    """

    n: int
    labels: tuple[str, ...]
    shares: tuple[float, ...]
    edges: tuple[float, ...]
    everywhere: tuple[str, ...]
    margin: float
    confidence: float
    content_hash: str

    def to_json(self) -> dict[str, Any]:
        """As JSON values; `from_json` gives it back."""
        return {k: list(v) if isinstance(v, tuple) else v for k, v in asdict(self).items()}

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> Self:
        """The shares that `to_json` wrote."""
        lists = {key: tuple(stored[key]) for key in ("labels", "shares", "edges", "everywhere")}
        return cls(**{**stored, **lists})


def freeze_shares(
    records: Sequence[Labels],
    *,
    margin: float = 0.02,
    confidence: float,
    most: int = 32,
    weights: Sequence[float] | None = None,
    blocks: Sequence[int] | None = None,
) -> FrozenShares:
    """Counts the labels of a good stretch and bounds their shares (Clopper-Pearson; with weights by betting).

    Args:
        records: One label, or several that hold at once, per record.
        margin: Growth of a share that does not matter, 0.02 is 2 points.
        confidence: That all bounds hold, e.g. 0.995.
        most: Labels watched alone; the rarer ones are merged.
        weights: Per record r_min / r in (0, 1], for records sampled with unequal inclusion probability r.
        blocks: Per record the block it belongs to; from 30 blocks on the bounds then also cover what the records of
            one block share, as in `reference.freeze`.

    Raises:
        BadInput: Fewer than 40 records, or every label is so common that none can grow.

    >>> frozen = freeze_shares(["en"] * 180 + ["de"] * 20, confidence=0.995)
    >>> frozen.labels, frozen.shares, [round(edge, 2) for edge in frozen.edges]
    (('en', 'de', '(other)'), (0.9, 0.1, 0.0), [0.97, 0.2, 0.05])
    """
    sets = [_labels(i, record) for i, record in enumerate(records)]
    n = len(sets)
    if n < LEAST:
        raise BadInput(f"The reference has {n} records; at least {LEAST} are needed, and a few hundred serve better.")
    if not 0 <= margin < 1 or not 0.5 <= confidence < 1 or most < 1:
        raise BadInput(
            f"margin is {margin}, confidence {confidence}, most {most}; they must be in [0, 1), in [0.5, 1) and ≥ 1."
        )
    _, ws = checked([0.0] * n, weights)
    w = np.array(ws)
    seen: dict[str, float] = {}
    for labels, weight in zip(sets, ws, strict=True):
        for label in labels:
            seen[label] = seen.get(label, 0.0) + weight
    common = sorted(seen, key=lambda label: (-seen[label], label))[:most]
    carried = [np.array([float(label in labels) for labels in sets]) for label in common]
    carried.append(np.array([float(any(la not in common for la in labels)) for labels in sets]))
    alpha = (1 - confidence) / len(carried)
    uneven = None if weights is None else w
    bounds = [upper_mean(of_label, alpha, uneven) + margin for of_label in carried]
    if blocks is not None:
        if len(blocks) != n:
            raise BadInput(f"There are {len(blocks)} block numbers for {n} records; each record needs one.")
        if len(set(blocks)) >= LEAST_BLOCKS:
            means = [block_means(of_label, w, blocks) for of_label in carried]
            bounds = [
                max(bound, 1 - lower_of_blocks(1 - of_blocks, alpha) + margin)
                for bound, of_blocks in zip(bounds, means, strict=True)
            ]
    watched = [k for k, edge in enumerate(bounds) if edge < 1]
    if not watched:
        raise BadInput(
            f"All {len(carried)} labels are on nearly every record; none has room to grow. Use other labels."
        )
    names = [*common, OTHER]
    told = sorted((label, round(total, 9)) for label, total in seen.items())
    digest = hashlib.sha256(f"shares|{margin!r}|{confidence!r}|{n}|{told}".encode()).hexdigest()
    return FrozenShares(
        n=n,
        labels=tuple(names[k] for k in watched),
        shares=tuple(float(np.average(carried[k], weights=w)) for k in watched),
        edges=tuple(bounds[k] for k in watched),
        everywhere=tuple(label for k, label in enumerate(common) if k not in watched),
        margin=float(margin),
        confidence=float(confidence),
        content_hash=digest,
    )


def bins(reference: Sequence[float], name: str, quantiles: Sequence[float] = (0.02, 0.1, 0.5, 0.9, 0.98)) -> "Bins":
    """Turns a number (a length in tokens, a distance) into labels, by quantiles of a reference.

    >>> lengths = bins(range(1, 101), "prompt tokens")
    >>> lengths.label(7), lengths.label(500)
    ('prompt tokens in (2, 10]', 'prompt tokens > 98')
    """
    xs, _ = checked(reference, what=name)
    if not xs:
        raise BadInput(f"There is no {name} to take quantiles of.")
    edges = np.quantile(np.array(xs), quantiles, method="inverted_cdf")
    return Bins(name, tuple(sorted({float(edge) for edge in edges})))


@dataclass(frozen=True, slots=True)
class Bins:
    """Labels for a number, by edges; a value on an edge belongs below it."""

    name: str
    edges: tuple[float, ...]

    def label(self, x: float) -> str:
        """The bin of one value."""
        k = bisect_left(self.edges, x)
        if k == len(self.edges):
            return f"{self.name} > {self.edges[-1]:g}"
        return (
            f"{self.name} ≤ {self.edges[0]:g}"
            if k == 0
            else f"{self.name} in ({self.edges[k - 1]:g}, {self.edges[k]:g}]"
        )


class Shares:
    """Alarms when a share grows: one e-SR per watched label, over the indicator of that label; their mean alarms.

    Shares that fall need no watching of their own, for others then grow. The promise is that of `Exceedance`.

    Args:
        reference: `FrozenShares.to_json()`.
        log_threshold: Natural logarithm of A; see `evaluators.drift.budget`.
        form: "block", or "item" where the records of a block are independent given the past.

    >>> frozen = freeze_shares(["en"] * 180 + ["de"] * 20, confidence=0.995)
    >>> watch = Shares(reference=frozen, log_threshold=15.0)
    >>> [watch.update(["en"] * 18 + ["de"] * 2).alarmed for _ in range(500)].count(True)
    0
    >>> readings = [watch.update(["en"] * 10 + ["fr"] * 10) for _ in range(20)]
    >>> [r.alarmed for r in readings].index(True), readings[-1].detail["grown"]
    (7, '(other)')
    """

    VERSION = 1

    def __init__(
        self, *, reference: Mapping[str, Any] | FrozenShares, log_threshold: float, form: Form = "block"
    ) -> None:
        frozen = reference if isinstance(reference, FrozenShares) else FrozenShares.from_json(reference)
        self.frozen, self.log_threshold, self.form = frozen, float(log_threshold), form
        self._places = dict.fromkeys(frozen.everywhere, -1) | {label: k for k, label in enumerate(frozen.labels)}
        self._parts = [ESR(m0=m0, direction="rise", log_threshold=log_threshold, form=form) for m0 in frozen.edges]

    def update(self, values: Sequence[Labels], weights: Sequence[float] | None = None) -> Reading:
        """Judge the next block of labels; see `Detector.update`."""
        sets = [_labels(i, record) for i, record in enumerate(values)]
        _, ws = checked([0.0] * len(sets), weights)
        shown = [{self._places.get(label, self._places.get(OTHER, -1)) for label in labels} for labels in sets]
        readings = [
            part.update([1.0 if k in places else 0.0 for places in shown], ws) for k, part in enumerate(self._parts)
        ]
        best = max(range(len(readings)), key=lambda k: readings[k].statistic)
        statistic = log_mean_exp([r.statistic for r in readings])
        return Reading(
            n=len(sets),
            value=readings[best].value,
            statistic=statistic,
            threshold=self.log_threshold,
            alarmed=bool(sets) and statistic >= self.log_threshold,
            since_blocks=readings[best].since_blocks,
            detail={
                "grown": self.frozen.labels[best],
                "was": self.frozen.shares[best],
                "edge": self.frozen.edges[best],
                "shares": {label: r.value for label, r in zip(self.frozen.labels, readings, strict=True)},
                "blocks": readings[best].detail["blocks"],
            },
        )

    def rethreshold(self, log_threshold: float) -> None:
        """Go on with another threshold; see `ESR.rethreshold`."""
        for part in self._parts:
            part.rethreshold(log_threshold)
        self.log_threshold = float(log_threshold)

    def state(self) -> dict[str, Any]:
        """The reference, and the state of the e-SR over each label."""
        return {
            "detector": "shares",
            "version": self.VERSION,
            "log_threshold": self.log_threshold,
            "form": self.form,
            "reference": self.frozen.to_json(),
            "parts": [part.state() for part in self._parts],
        }

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> Self:
        """The detector that wrote this state."""
        made = cls(reference=state["reference"], log_threshold=state["log_threshold"], form=state["form"])
        if len(state["parts"]) != len(made._parts):
            raise ValueError(f"it holds {len(state['parts'])} parts for {len(made._parts)} labels")
        made._parts = [ESR.from_state(part) for part in state["parts"]]
        return made


def _labels(index: int, record: Labels) -> frozenset[str]:
    labels = frozenset([record] if isinstance(record, str) else record) if not _is_number(record) else frozenset[str]()
    if not labels or not all(isinstance(label, str) for label in labels):
        raise BadInput(f"The record at index {index} is {record!r}; it must be a label (a string) or several.")
    return labels


def _is_number(record: Any) -> bool:
    return record is None or isinstance(record, int | float)
