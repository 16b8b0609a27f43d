"""What traffic did, from Rollups alone: sums are exact, quantiles rest on the sketches of a bounded number of rows."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from sqlalchemy import literal_column, text, true
from sqlmodel import Session, col, func, or_, select

from dashboard.kept_spans import KeptSpans, marks
from driftline.moment import MINUTE
from driftline.store.tables import Rollup

SUMMED = (
    "n", "errors", "aborted", "input_tokens", "output_tokens", "cost_nano", "latency_n", "latency_sum_ms",
)  # fmt: skip
SKETCHES = 1000  # rows whose sketches one page merges, about; of more so many are drawn, of every span at least one
_SPREAD, _RANGE = 2_654_435_761, 2**32  # Knuth's multiplicative hash: neighbouring keys end far apart
_PLACE: Any = col(Rollup.id) % 1_000_000_007 * _SPREAD % _RANGE
_KEYS = 2**43  # a place's upper 20 bits and a key make one number, so that the smallest names a row drawn at random


@dataclass(frozen=True, slots=True)
class Traffic:
    """Calls of one variant in one span that begins at `at`. `cost_nano` is nano-dollars.

    Quantiles are milliseconds and None where no latency was recorded; `sketched` is how many latencies they rest on.
    """

    variant_id: int
    at: int
    n: int
    errors: int
    aborted: int
    input_tokens: int
    output_tokens: int
    cost_nano: int
    latency_n: int
    latency_sum_ms: float
    latency: Any = None  # KLL sketches
    ttft: Any = None

    @property
    def latency_mean_ms(self) -> float | None:
        """Exact mean latency."""
        return self.latency_sum_ms / self.latency_n if self.latency_n else None

    @property
    def p50_ms(self) -> float | None:
        """Median latency."""
        return None if self.latency is None else self.latency.get_quantile(0.5)

    @property
    def p95_ms(self) -> float | None:
        """95th percentile of latency."""
        return None if self.latency is None else self.latency.get_quantile(0.95)

    @property
    def ttft_p50_ms(self) -> float | None:
        """Median time to the first token."""
        return None if self.ttft is None else self.ttft.get_quantile(0.5)

    @property
    def sketched(self) -> int:
        """How many latencies the quantiles rest on."""
        return 0 if self.latency is None else int(self.latency.n)


_KEPT: KeptSpans[Traffic] = KeptSpans()
FINE = 15 * MINUTE
CROWDED = 500  # rows of a long span from which on it is put together from fine ones, of which most are kept
_MOST_RANGES = 8  # of spans that are read together; what lies between more of them is read with them


@dataclass(frozen=True, slots=True)
class Captured:
    """What the collector has and what it knows it lacks. `share` is None before the first call."""

    generations: int
    duplicates: int
    rejected: int
    dropped_by_clients: int
    sampled_out: int
    stands_for: float

    @property
    def share(self) -> float | None:
        """Stored calls among all that are known to have been made."""
        known = self.generations + self.rejected + self.dropped_by_clients + self.sampled_out
        return self.generations / known if known else None


def traffic(
    session: Session, project_id: int, since: int, until: int, step: int, *,
    variant_id: int | None = None, route: str | None = None, limit: int | None = None,
) -> list[Traffic]:  # fmt: skip
    """Traffic per variant and `step` microseconds, oldest first.

    Args:
        limit: Most spans to return; the newest are left out.
    """
    mine = Rollup.project_id == project_id
    chosen: list[Any] = [mine]
    chosen += [Rollup.variant_id == variant_id] if variant_id is not None else []
    chosen += [Rollup.route == route] if route is not None else []
    question = project_id, variant_id, route, step
    now = marks(session, project_id, since, until, step)
    whole = {at: mark for at, mark in now.items() if since <= at and at + step <= until}
    points = _KEPT.find(session, question, whole)
    missing = [at for at in now if at not in points]
    is_long = step > FINE and step % FINE == 0
    crowded = [at for at in missing if now[at][0] > CROWDED][-2:] if is_long else []  # the newest: they grow
    ranges = _ranges([at for at in missing if at not in crowded], step, since, until)
    minute = col(Rollup.minute)
    read = _read(session, [*chosen, or_(*(minute.between(*one) for one in ranges))], step, limit) if ranges else []
    if limit is not None and len(read) >= limit:  # it may have left out some that lie before those that are kept
        return _read(session, [*chosen, minute >= since, minute < until], step, limit)
    fresh: dict[int, list[Traffic]] = {at: [] for at in whole if at not in points}
    for point in read:
        fresh.setdefault(point.at, []).append(point)
    for at in crowded:
        parts = traffic(
            session, project_id, max(at, since), min(at + step, until), FINE, variant_id=variant_id, route=route
        )
        fresh[at] = [replace(one, at=at) for _, one in sorted(together(parts).items())]
    _KEPT.keep(session, question, whole, fresh)
    points |= fresh
    return [point for at in sorted(points) for point in points[at]][:limit]


def _ranges(starts: Sequence[int], step: int, since: int, until: int) -> list[tuple[int, int]]:
    """First and last microsecond of what is to be read for spans (starts, oldest first); neighbours are one range."""
    found: list[tuple[int, int]] = []
    for at in starts:
        first, last = max(at, since), min(at + step, until) - 1
        joins = found and (found[-1][1] + 1 >= first or len(found) == _MOST_RANGES)
        found[-1:] = [(found[-1][0], last)] if joins else [*found[-1:], (first, last)]
    return found


def _read(session: Session, where: Sequence[Any], step: int, limit: int | None) -> list[Traffic]:
    """Traffic of the chosen Rollups per variant and step, oldest first."""
    sums = [func.sum(getattr(Rollup, name)) for name in SUMMED]
    bucket: Any = Rollup.minute - Rollup.minute % step
    drawn = func.min(_PLACE // (_RANGE >> 20) * _KEYS + col(Rollup.id))
    query: Any = select(Rollup.variant_id, bucket.label("at"), *sums, func.count(), drawn)  # type: ignore[call-overload]
    query = query.where(*where).group_by(col(Rollup.variant_id), "at").order_by("at", col(Rollup.variant_id))
    rows = session.connection().execute(query.limit(limit)).all()
    count = sum(row[-2] for row in rows)
    merged = _sketches(session, where, step, count, [row[-1] % _KEYS for row in rows]) if rows else {}
    return [_traffic(row, *merged.get((row[0], row[1]), (None, None))) for row in rows]


def _traffic(row: Sequence[Any], latency: Any, ttft: Any) -> Traffic:
    variant_id, at, n, errors, aborted, read, written, cost_nano, latency_n, latency_sum_ms, *_ = row
    return Traffic(
        variant_id, int(at), int(n), int(errors), int(aborted), int(read), int(written), int(cost_nano), int(latency_n),
        float(latency_sum_ms), latency, ttft,
    )  # fmt: skip


def together(points: Iterable[Traffic], *, with_ttft: bool = True) -> dict[int, Traffic]:
    """Each variant's traffic over all its spans; without times to the first token where nobody asks for them."""
    parts: dict[int, list[Traffic]] = defaultdict(list)
    for point in points:
        parts[point.variant_id].append(point)
    return {
        key: Traffic(
            key, several[0].at, **{name: sum(getattr(one, name) for one in several) for name in SUMMED},
            latency=_merged(one.latency for one in several),
            ttft=_merged(one.ttft for one in several) if with_ttft else None,
        )
        for key, several in parts.items()
    }  # fmt: skip


def _sketches(
    session: Session, where: Iterable[Any], step: int, count: int, drawn: list[int]
) -> dict[tuple[int, int], tuple[Any, Any]]:  # fmt: skip
    """Merged (latency, ttft) sketches by (variant, span); None where nothing was recorded.

    All `count` rows where they are few, else a sample of them with the `drawn` ones, which are one of each span.
    """
    from datasketches import kll_floats_sketch

    query: Any = select(Rollup.variant_id, Rollup.minute, Rollup.latency_sketch, Rollup.ttft_sketch)
    listed: Any = literal_column(f"rollup.id IN ({','.join(map(str, drawn))})")  # as parameters they would cost more
    if len(drawn) > SKETCHES // 2:
        query = query.where(listed)
    else:
        query = query.where(*where, or_(_RANGE * SKETCHES // count > _PLACE, listed) if count > SKETCHES else true())
    gathered: dict[tuple[int, int], tuple[list[Any], list[Any]]] = defaultdict(lambda: ([], []))
    for variant_id, minute, latency, ttft in session.connection().execute(query).all():
        latencies, ttfts = gathered[variant_id, minute - minute % step]
        if latency:
            latencies.append(kll_floats_sketch.deserialize(latency))
        if ttft:
            ttfts.append(kll_floats_sketch.deserialize(ttft))
    return {key: (_merged(latencies), _merged(ttfts)) for key, (latencies, ttfts) in gathered.items()}


def _merged(sketches: Iterable[Any]) -> Any:
    """All of them in one; one alone is answered as it is."""
    several = [sketch for sketch in sketches if sketch is not None and not sketch.is_empty()]
    if len(several) > 1:
        whole = type(several[0])(200)
        for sketch in several:
            whole.merge(sketch)
        return whole
    return several[0] if several else None


_CAPTURED = text(
    "WITH stored AS (SELECT sum(n) AS n, sum(weight_sum) AS weight FROM rollup WHERE project_id = :project) "
    "SELECT 'stored', 'n', coalesce(n, 0) FROM stored UNION ALL "
    "SELECT 'stored', 'weight', coalesce(weight, 0) FROM stored UNION ALL "
    "SELECT 'refused', reason, sum(n) FROM intake WHERE project_id = :project GROUP BY reason UNION ALL "
    "SELECT 'unsent', reason, sum(n) FROM client_count WHERE project_id = :project GROUP BY reason"
)  # asked together, as it is asked often


def captured(session: Session, project_id: int) -> Captured:
    """All-time counts of a project, exact."""
    counted: dict[str, dict[str, Any]] = {"stored": {}, "refused": {}, "unsent": {}}
    for source, reason, n in session.connection().execute(_CAPTURED, {"project": project_id}):
        counted[source][reason] = n
    stored, refused, unsent = counted.values()
    sampled_out = int(unsent.pop("sampled_out", 0))
    refused["rejected"] = max(refused.get("rejected", 0), unsent.pop("rejected", 0))  # the same, told by both sides
    return Captured(
        generations=int(stored["n"]), duplicates=int(refused.get("duplicates", 0)),
        rejected=int(refused.get("rejected", 0)), dropped_by_clients=int(sum(unsent.values())),
        sampled_out=sampled_out, stands_for=float(stored["weight"]),
    )  # fmt: skip
