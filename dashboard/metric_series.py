"""Series of the metrics that apps export: what was added in each span, from growing sums as from differences."""

from dataclasses import dataclass

from sqlmodel import Session, col, select

from driftline.moment import HOUR
from driftline.store.tables import MetricPoint

LOOK_BACK = HOUR  # a growing stream says less often than this only when it is over
MOST_POINTS = 50_000  # read for one series; the oldest are left out beyond


@dataclass(slots=True)
class MetricSpan:
    """What the streams of these labels added in a span that begins at `at` (microseconds)."""

    labels: dict[str, str]
    at: int
    n: int = 0
    total: float = 0.0

    @property
    def mean(self) -> float | None:
        """Mean of the measurements, None of a plain sum."""
        return self.total / self.n if self.n else None


def metric_names(session: Session, project_id: int) -> dict[str, str]:
    """Name → unit of the metrics that came in."""
    asked = select(MetricPoint.name, MetricPoint.unit).where(MetricPoint.project_id == project_id)
    return dict(session.exec(asked.group_by(MetricPoint.name, MetricPoint.unit).order_by(MetricPoint.name)).all())


def metric_series(session: Session, project_id: int, name: str, since: int, until: int, step: int) -> list[MetricSpan]:
    """What was added per labels and span, oldest first; all in microseconds.

    Of a growing stream each point counts what it is above the point before. Its first point counts whole where the
    stream began within the time asked for; else it only says from where to count.
    """
    asked = select(MetricPoint).where(
        MetricPoint.project_id == project_id, MetricPoint.name == name, MetricPoint.at >= since - LOOK_BACK,
        MetricPoint.at < until,
    )  # fmt: skip
    points = session.exec(asked.order_by(col(MetricPoint.at).desc()).limit(MOST_POINTS)).all()
    before: dict[str, MetricPoint] = {}
    spans: dict[tuple[tuple[tuple[str, str], ...], int], MetricSpan] = {}
    for point in reversed(points):
        n, total = point.n, point.total
        if point.is_cumulative:
            last = before.get(point.stream)
            before[point.stream] = point
            if last is not None:
                n, total = n - last.n, total - last.total
            elif point.start_at < since:
                continue
        if point.at < since or n < 0:
            continue
        key = (tuple(sorted(point.labels.items())), point.at - point.at % step)
        span = spans.setdefault(key, MetricSpan(point.labels, key[1]))
        span.n += n
        span.total += total
    return sorted(spans.values(), key=lambda span: (span.at, sorted(span.labels.items())))
