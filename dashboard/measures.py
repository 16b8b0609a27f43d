"""What traffic did, from Rollups alone: sums are exact, quantiles rest on the sketches of a bounded number of rows."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from sqlmodel import Session, col, func, select, true

from driftline.store.tables import ClientCount, Intake, Rollup

SUMMED = (
    "n", "errors", "aborted", "input_tokens", "output_tokens", "cost_nano", "latency_n", "latency_sum_ms",
)  # fmt: skip
SKETCHES = 1000  # rows whose sketches one page merges, about; of more than that as many are drawn by their keys
_SPREAD, _RANGE = 2_654_435_761, 2**32  # Knuth's multiplicative hash: neighbouring keys end far apart


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
    where: list[Any] = [Rollup.project_id == project_id, col(Rollup.minute) >= since, col(Rollup.minute) < until]
    where += [Rollup.variant_id == variant_id] if variant_id is not None else []
    where += [Rollup.route == route] if route is not None else []
    sums = [func.sum(getattr(Rollup, name)) for name in SUMMED]
    bucket: Any = Rollup.minute - Rollup.minute % step
    query: Any = select(Rollup.variant_id, bucket.label("at"), *sums, func.count())  # type: ignore[call-overload]
    query = query.where(*where).group_by(col(Rollup.variant_id), "at").order_by("at", col(Rollup.variant_id))
    rows = session.exec(query.limit(limit)).all()
    merged = _sketches(session, where, step, sum(row[-1] for row in rows)) if rows else {}
    return [
        Traffic(key, int(at), **_numbers(values), latency=latency, ttft=ttft)
        for key, at, *values in rows
        for latency, ttft in [merged.get((key, at), (None, None))]
    ]


def _numbers(values: Sequence[Any]) -> dict[str, Any]:
    named = dict(zip(SUMMED, values, strict=False))  # PostgreSQL sums up to Decimal
    return {name: (float if name == "latency_sum_ms" else int)(value) for name, value in named.items()}


def together(points: Iterable[Traffic]) -> dict[int, Traffic]:
    """Each variant's traffic over all its spans."""
    parts: dict[int, list[Traffic]] = defaultdict(list)
    for point in points:
        parts[point.variant_id].append(point)
    return {
        key: Traffic(
            key, several[0].at, **{name: sum(getattr(one, name) for one in several) for name in SUMMED},
            latency=_merged(one.latency for one in several), ttft=_merged(one.ttft for one in several),
        )
        for key, several in parts.items()
    }  # fmt: skip


def _sketches(
    session: Session, where: Iterable[Any], step: int, count: int
) -> dict[tuple[int, int], tuple[Any, Any]]:  # fmt: skip
    """Merged (latency, ttft) sketches by (variant, span); None where nothing was recorded."""
    from datasketches import kll_floats_sketch

    place: Any = col(Rollup.id) % 1_000_000_007 * _SPREAD % _RANGE
    drawn = true() if count <= SKETCHES else place < _RANGE * SKETCHES // count
    query = select(Rollup.variant_id, Rollup.minute, Rollup.latency_sketch, Rollup.ttft_sketch).where(*where)
    gathered: dict[tuple[int, int], tuple[list[Any], list[Any]]] = defaultdict(lambda: ([], []))
    for variant_id, minute, *stored in session.exec(query.where(drawn)):
        for several, sketch in zip(gathered[variant_id, minute - minute % step], stored, strict=True):
            several += [kll_floats_sketch.deserialize(sketch)] if sketch else []
    return {key: (_merged(latencies), _merged(ttfts)) for key, (latencies, ttfts) in gathered.items()}


def _merged(sketches: Iterable[Any]) -> Any:
    from datasketches import kll_floats_sketch

    whole = kll_floats_sketch(200)
    for sketch in sketches:
        if sketch is not None:
            whole.merge(sketch)
    return None if whole.is_empty() else whole


def captured(session: Session, project_id: int) -> Captured:
    """All-time counts of a project, exact."""
    stored, weight = session.exec(
        select(func.coalesce(func.sum(Rollup.n), 0), func.coalesce(func.sum(Rollup.weight_sum), 0.0)).where(
            Rollup.project_id == project_id
        )
    ).one()
    refused = dict(
        session.exec(
            select(Intake.reason, func.sum(Intake.n)).where(Intake.project_id == project_id).group_by(Intake.reason)
        ).all()
    )
    unsent = dict(
        session.exec(
            select(ClientCount.reason, func.sum(ClientCount.n))
            .where(ClientCount.project_id == project_id)
            .group_by(ClientCount.reason)
        ).all()
    )
    sampled_out = int(unsent.pop("sampled_out", 0))
    return Captured(
        generations=int(stored), duplicates=int(refused.get("duplicates", 0)),
        rejected=int(refused.get("rejected", 0)), dropped_by_clients=int(sum(unsent.values())),
        sampled_out=sampled_out, stands_for=float(weight),
    )  # fmt: skip
