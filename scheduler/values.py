"""From the rows of a stream to what its detector takes, by what was made of its reference.

`made` holds what a reference fixes beside its bounds: edges of length bins, offsets of seasons, centres of clusters,
known prompts. Whatever rows it is made from are not among those that bound anything, so the bounds stay valid.
"""

import math
from collections import defaultdict
from collections.abc import Sequence
from statistics import median
from typing import Any

import numpy as np
from sqlmodel import Session

from driftline.acts.golden import find_version
from driftline.store.tables import Monitor
from evaluators.drift.prompts import coverage_gap
from evaluators.drift.shares import Bins, bins
from evaluators.scorers.languages import detect
from scheduler import embedding
from scheduler.signals import Row, Timed

SCALED_BY = 5  # the first fifth of a reference makes what the rest is measured in
LEAST_FOR_CAP = 10
LEAST_IN_SEASON = 20  # rows from which a season's offset is taken
CLUSTERS, PER_CLUSTER = 12, 20
KNOWN = 200  # prompts that others are compared with
ENDS = (0.1, 0.9)  # of lengths
TELLING = {"prompt_length": "prompt", "answer_length": "answer"}


def split(monitor: Monitor, rows: Sequence[Row]) -> tuple[list[Row], list[Row]]:
    """Rows of a reference that make, and rows that bound."""
    if monitor.detector == "exceedance":
        if monitor.params.get("season", "none") == "none":
            return [], list(rows)
        return list(rows[::2]), list(rows[1::2])  # alternately, so that every season is on both sides
    if monitor.signal in ("prompt_clusters", "prompt_embedding"):
        return list(rows[::2]), list(rows[1::2])
    if (monitor.signal == "quality" or monitor.signal in TELLING) and len(rows) >= SCALED_BY * LEAST_FOR_CAP:
        return list(rows[: len(rows) // SCALED_BY]), list(rows[len(rows) // SCALED_BY :])
    return [], list(rows)


def make(session: Session, monitor: Monitor, rows: Sequence[Row]) -> dict[str, Any]:
    """What the making rows of a reference fix, as JSON values; "content" are bytes that are to be kept as "known".

    Raises:
        MissingPackage: Prompts are to be embedded and the encoder is not installed.
        NotFound: The golden set of a coverage monitor is gone.
        BadInput: It is too small.
    """
    if monitor.signal == "quality" and rows:
        middle = median(row.level for row in rows)
        return {"cap": middle if middle > 0 else None}
    if monitor.signal in TELLING:
        lengths = [row.level for row in rows]
        return {"edges": list(bins(lengths, TELLING[monitor.signal], ENDS).edges)} if lengths else {"edges": [0.0]}
    if monitor.detector == "exceedance" and rows:
        return {"offsets": _offsets(rows)}
    if monitor.signal == "coverage":
        version = find_version(session, monitor.project_id, monitor.source)
        golden = embedding.golden_vectors(session, version.id)
        radius, _ = coverage_gap(golden, golden[:1])
        return {"golden_version": version.id, "radius": radius}
    if monitor.signal == "prompt_clusters":
        return _clusters(_vectors(rows), rows)
    if monitor.signal == "prompt_embedding":
        known = _vectors(rows[:KNOWN])
        return {"content": embedding.packed(known), "dimensions": int(known.shape[1])}
    return {}


def values_of(session: Session, monitor: Monitor, made: dict[str, Any], rows: Sequence[Row]) -> list[Any]:
    """What the detector sees of the rows, in order."""
    if not rows:
        return []
    if monitor.detector == "exceedance":
        return _shifted(made.get("offsets", {}), rows)
    if monitor.signal == "coverage":
        golden = embedding.golden_vectors(session, made["golden_version"])
        _, outside = coverage_gap(golden, _vectors(rows))
        return list(outside)
    if monitor.signal == "prompt_clusters":
        return _nearest(made, _vectors(rows))
    if monitor.signal == "prompt_embedding":
        if "content" in made:  # not kept yet
            known = embedding.unpacked(made["content"], made["dimensions"])
        else:
            known = embedding.kept_vectors(session, monitor.project_id, made["known"], made["dimensions"])
        return list((1 - (_vectors(rows) @ known.T).max(axis=1)).tolist())
    if monitor.signal in TELLING:
        ends = Bins(TELLING[monitor.signal], tuple(made["edges"]))
        return [ends.label(row.level) for row in rows]
    if monitor.signal == "prompt_language":
        return [detect(embedding.asked(str(row.value))) or "(cannot be told)" for row in rows]
    if monitor.signal == "answers":
        return [row.value for row in rows]
    levels = capped(rows, made.get("cap"))
    if monitor.detector == "strata":
        return [(row.stratum, level) for row, level in zip(rows, levels, strict=True)]
    return levels


def capped(rows: Sequence[Row], cap: float | None) -> list[float]:
    """The values of a bounded stream as its detector sees them.

    A monitor of falls learns nothing from how good the good answers are, yet room for them above the mean limits how
    much it can bet on a fall. So a quality value counts as its share of the cap, at most 1.
    """
    return [row.level if cap is None else min(1.0, row.level / cap) for row in rows]


def timed(row: Row) -> Timed:
    """The value of a stream of latencies or costs: the amount, input tokens, output tokens."""
    if isinstance(row.value, tuple) and len(row.value) == 3:
        return row.value
    return row.level, None, None


def usable(monitor: Monitor, rows: Sequence[Row]) -> tuple[list[Row], int]:
    """The rows whose value can be judged, and how many cannot: not finite, or outside what the signal is made of."""
    good = [row for row in rows if _is_usable(monitor, row)]
    return good, len(rows) - len(good)


def _is_usable(monitor: Monitor, row: Row) -> bool:
    if isinstance(row.value, str) or monitor.signal == "answers":
        return True
    if not math.isfinite(row.level) or row.level < 0:
        return False
    if isinstance(row.value, tuple):
        counts = [x for x in row.value[1:] if isinstance(x, int | float)]
        return all(math.isfinite(x) and x >= 0 for x in counts)
    return monitor.detector not in ("esr", "strata") or row.level <= 1


def _offsets(rows: Sequence[Row]) -> dict[str, float]:
    """How much longer answers take in each season, in logarithms against all of them."""
    logs: dict[str, list[float]] = defaultdict(list)
    for row in rows:
        logs[row.stratum].append(math.log(max(row.level, 1e-3)))
    whole = median(x for some in logs.values() for x in some)
    return {season: median(some) - whole for season, some in logs.items() if len(some) >= LEAST_IN_SEASON}


def _shifted(offsets: dict[str, float], rows: Sequence[Row]) -> list[Any]:
    found: list[Any] = []
    for row in rows:
        _, read, written = timed(row)
        found.append((row.level * math.exp(-offsets.get(row.stratum, 0.0)), read, written))
    return found


def _vectors(rows: Sequence[Row]) -> embedding.Vectors:
    return embedding.embedded([embedding.asked(str(row.value)) for row in rows])


def _clusters(vectors: embedding.Vectors, rows: Sequence[Row]) -> dict[str, Any]:
    """Centres of the kinds of prompt, the radius within which 99 % of them lie, and the record nearest to each."""
    from sklearn.cluster import KMeans

    k = max(1, min(CLUSTERS, len(vectors) // PER_CLUSTER))
    centres = KMeans(k, n_init=4, random_state=0).fit(vectors).cluster_centers_
    apart = 1 - vectors @ (centres / np.linalg.norm(centres, axis=1, keepdims=True)).T
    return {
        "centres": np.round(centres, 4).tolist(),
        "radius": float(np.quantile(apart.min(axis=1), 0.99, method="higher")),
        "exemplars": [rows[int(place)].generation_seq for place in apart.argmin(axis=0)],
    }


def _nearest(made: dict[str, Any], vectors: embedding.Vectors) -> list[str]:
    centres = np.array(made["centres"])
    apart = 1 - vectors @ (centres / np.linalg.norm(centres, axis=1, keepdims=True)).T
    nearest, distance = apart.argmin(axis=1), apart.min(axis=1)
    return [
        f"like record {made['exemplars'][k]}" if d <= made["radius"] else "like none before"
        for k, d in zip(nearest.tolist(), distance.tolist(), strict=True)
    ]
