"""Where did it change? Slices of traffic found on one half of the records and confirmed on the other."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Literal

import numpy as np

from driftline.errors import BadInput
from evaluators.comparison.evidence import betting_e_value, favourable
from evaluators.comparison.slices import e_bh
from evaluators.drift.bounds import Array
from evaluators.drift.numbers import checked

TRIED = 40  # slices at most that go from the first half to the second

Record = tuple[str, Mapping[str, str], float]  # id, tags, value in [0, 1]
Half = Mapping[frozenset[tuple[str, str]], tuple[list[float], list[float]]]


@dataclass(frozen=True, slots=True)
class SliceChange:
    """A slice whose mean changed, as seen on the half of the records that did not choose it."""

    tags: tuple[tuple[str, str], ...]
    direction: Literal["fall", "rise"]
    n_before: int
    n_after: int
    mean_before: float
    mean_after: float
    e_value: float

    @property
    def name(self) -> str:
        """As people write it."""
        return ", ".join(f"{tag}={value}" for tag, value in self.tags)


def slices_moved(
    before: Sequence[Record],
    after: Sequence[Record],
    *,
    margin: float = 0.01,
    fdr: float = 0.05,
    depth: int = 2,
    least: int = 20,
) -> list[SliceChange]:
    """The slices whose mean moved by more than the margin; on average at most `fdr` of the list is wrong.

    Records fall into two halves by a hash of their id. On the first half every combination of up to `depth` tags is
    measured, and the 40 farthest from no change go on. On the second half each gets an e-value for "moved by no more
    than the margin" (after - before, groups of equal size at random, betting), and e-BH makes the list, whatever the
    overlap of the slices. Live records, unpaired; for the same items on both sides use `evaluators.comparison.slices`.

    Args:
        before: (id, tags, value in [0, 1]) per record.
        after: Likewise.
        margin: Change of a mean that does not matter.
        fdr: False discovery rate of the list.
        depth: Tags in a slice, at most.
        least: Records a slice needs in each half, before and after.

    Raises:
        BadInput: No records on a side, or a value outside [0, 1].

    >>> old = [(f"a{i}", {"kind": "prime" if i % 2 else "composite"}, float(i % 10 < 8)) for i in range(800)]
    >>> new = [(f"b{i}", {"kind": "prime" if i % 2 else "composite"}, float(i % 2 == 0)) for i in range(800)]
    >>> [(found.name, found.direction) for found in slices_moved(old, new)]
    [('kind=prime', 'fall'), ('kind=composite', 'rise')]
    """
    if not before or not after:
        raise BadInput(f"There are {len(before)} records before and {len(after)} records after; each side needs some.")
    halves: list[dict[frozenset[tuple[str, str]], tuple[list[float], list[float]]]] = [{}, {}]
    for side, records in enumerate((before, after)):
        checked([value for _, _, value in records], low=0.0, high=1.0)
        for record, tags, value in sorted(records, key=lambda r: hashlib.sha256(r[0].encode()).digest()):
            half = halves[hashlib.sha256(record.encode()).digest()[0] & 1]
            for size in range(1, depth + 1):
                for chosen in combinations(sorted(tags.items()), size):
                    half.setdefault(frozenset(chosen), ([], []))[side].append(float(value))
    candidates = _farthest(halves[0], least, margin)
    found = [_confirm(tags, *halves[1].get(tags, ([], [])), sign, margin) for tags, sign in candidates]
    whole = [change for change in found if min(change.n_before, change.n_after) >= least]
    listed = e_bh([change.e_value for change in whole], fdr) if whole else []
    chosen_ones = [change for change, stays in zip(whole, listed, strict=True) if stays]
    return sorted(chosen_ones, key=lambda c: (-abs(c.mean_after - c.mean_before), len(c.tags), c.name))


def _farthest(half: Half, least: int, margin: float) -> list[tuple[frozenset[tuple[str, str]], float]]:
    """Slices and the sign of their change, by how many standard errors it lies beyond the margin."""
    ranked = []
    for tags, (old, new) in half.items():
        if min(len(old), len(new)) < least:
            continue
        change = float(np.mean(new) - np.mean(old))
        error = float(np.sqrt((np.var(old) + 0.25 / len(old)) / len(old) + (np.var(new) + 0.25 / len(new)) / len(new)))
        ranked.append(((abs(change) - margin) / error, tags, 1.0 if change > 0 else -1.0))
    ranked.sort(key=lambda entry: (-entry[0], sorted(entry[1])))
    return [(tags, sign) for beyond, tags, sign in ranked[:TRIED] if beyond > 0]


def _confirm(
    tags: frozenset[tuple[str, str]], old: Sequence[float], new: Sequence[float], sign: float, margin: float
) -> SliceChange:
    e_value = 0.0
    if old and new:
        groups = min(len(old), len(new))
        gained = sign * (_group_means(new, groups) - _group_means(old, groups))
        e_value = betting_e_value(favourable(gained, -margin))
    return SliceChange(
        tags=tuple(sorted(tags)),
        direction="rise" if sign > 0 else "fall",
        n_before=len(old),
        n_after=len(new),
        mean_before=float(np.mean(old)) if old else float("nan"),
        mean_after=float(np.mean(new)) if new else float("nan"),
        e_value=e_value,
    )


def _group_means(values: Sequence[float], groups: int) -> Array:
    """Means of equally many groups; the values come in the order of a hash of their ids, which is no order at all."""
    means: Array = np.array([float(part.mean()) for part in np.array_split(np.array(values), groups)])
    return means
