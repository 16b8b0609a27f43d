"""What traffic did, from Rollups alone: sums are exact, quantiles rest on the sketches of a bounded number of rows."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from sqlmodel import Session, col, func, select

from driftline.store.tables import ClientCount, Intake, Rollup

SKETCHES = 3000  # rows whose sketches one page merges at most; more than that are thinned evenly by id


@dataclass(frozen=True, slots=True)
class Traffic:
    """Calls of one variant in one span. Quantiles are None where no latency was recorded.

    `cost_nano` is nano-dollars; `sketched` is how many latencies the quantiles rest on.
    """

    variant_id: int
    at: int
    n: int
    errors: int
    aborted: int
    input_tokens: int
    output_tokens: int
    cost_nano: int
    latency_mean_ms: float | None
    p50_ms: float | None = None
    p95_ms: float | None = None
    ttft_p50_ms: float | None = None
    sketched: int = 0


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
    session: Session, project_id: int, since: int, until: int, *, step: int | None = None,
    variant_id: int | None = None, route: str | None = None, limit: int | None = None,
) -> list[Traffic]:  # fmt: skip
    """Traffic per variant, and per `step` microseconds where one is given; oldest first.

    Args:
        limit: Most spans to return; the newest are left out.
    """
    where: list[Any] = [Rollup.project_id == project_id, col(Rollup.minute) >= since, col(Rollup.minute) < until]
    where += [Rollup.variant_id == variant_id] if variant_id is not None else []
    where += [Rollup.route == route] if route is not None else []
    bucket: Any = Rollup.minute - Rollup.minute % step if step else func.min(Rollup.minute)
    sums = [
        func.coalesce(func.sum(column), 0)
        for column in (
            Rollup.n, Rollup.errors, Rollup.aborted, Rollup.input_tokens, Rollup.output_tokens, Rollup.cost_nano,
            Rollup.latency_n, Rollup.latency_sum_ms,
        )
    ]  # fmt: skip
    query: Any = select(Rollup.variant_id, bucket.label("at"), *sums).where(*where)
    query = query.group_by(col(Rollup.variant_id), "at") if step else query.group_by(col(Rollup.variant_id))
    rows = session.exec(query.order_by("at", col(Rollup.variant_id)).limit(limit)).all()
    merged = _sketches(session, where, step) if rows else {}
    return [_one(row, merged.get((row[0], row[1] if step else 0))) for row in rows]


def _one(row: Sequence[Any], sketches: tuple[Any, Any] | None) -> Traffic:
    variant_id, at, n, errors, aborted, input_tokens, output_tokens, cost_nano, latency_n, latency_sum = row
    latency, ttft = sketches or (None, None)
    p50, p95 = latency.get_quantiles([0.5, 0.95]) if latency is not None else (None, None)
    return Traffic(
        variant_id=variant_id, at=int(at), n=int(n), errors=int(errors), aborted=int(aborted),
        input_tokens=int(input_tokens), output_tokens=int(output_tokens), cost_nano=int(cost_nano),
        latency_mean_ms=float(latency_sum) / int(latency_n) if latency_n else None, p50_ms=p50, p95_ms=p95,
        ttft_p50_ms=ttft.get_quantile(0.5) if ttft is not None else None, sketched=latency.n if latency else 0,
    )  # fmt: skip


def _sketches(session: Session, where: Iterable[Any], step: int | None) -> dict[tuple[int, int], tuple[Any, Any]]:
    """Merged (latency, ttft) sketches by (variant, span); None where nothing was recorded."""
    count = session.exec(select(func.count(Rollup.id)).where(*where)).one()  # type: ignore[arg-type]
    thin = max(1, -(-count // SKETCHES))
    query = select(Rollup.variant_id, Rollup.minute, Rollup.latency_sketch, Rollup.ttft_sketch).where(*where)
    gathered: dict[tuple[int, int], tuple[list[bytes], list[bytes]]] = defaultdict(lambda: ([], []))
    for variant_id, minute, latency, ttft in session.exec(query.where(Rollup.id % thin == 0)):
        latencies, ttfts = gathered[variant_id, minute - minute % step if step else 0]
        if latency:
            latencies.append(latency)
        if ttft:
            ttfts.append(ttft)
    return {key: (_merged(latencies), _merged(ttfts)) for key, (latencies, ttfts) in gathered.items()}


def _merged(serialized: list[bytes]) -> Any:
    from datasketches import kll_floats_sketch

    whole = kll_floats_sketch(200)
    for part in serialized:
        whole.merge(kll_floats_sketch.deserialize(part))
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
