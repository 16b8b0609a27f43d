"""What surrounds a drift event: the rows before and after the estimated change, and the records behind them."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from sqlmodel import Session, col, select

from driftline.store.tables import DriftEvent, Generation, Monitor, Reading, Reference, Variant
from evaluators.drift.changepoint import ChangePoint, locate
from scheduler.references import frozen_lines
from scheduler.signals import Row, count_since, read_rows

MOST_POINTS = 4000  # rows in which the change is looked for
LEAST_BLOCKS = 30  # judged blocks to look back at


@dataclass(frozen=True, slots=True)
class Window:
    """Rows in order of `started_at`: `before` the estimated change (reference included) and `after` it."""

    monitor: Monitor
    reference: Reference
    change: ChangePoint
    before: list[Row]
    after: list[Row]
    items_since: int


def window_of(session: Session, event: DriftEvent) -> Window:
    """Dates the change behind an event and splits the stream there."""
    monitor = session.get_one(Monitor, event.monitor_id)
    alarm = session.get_one(Reading, event.reading_id)
    reference = session.get_one(Reference, alarm.reference_id)
    back = max(LEAST_BLOCKS, 3 * int(alarm.evidence.get("since_blocks", 0)))
    earlier = select(Reading).where(Reading.monitor_id == monitor.id, Reading.id <= alarm.id)
    first = session.exec(earlier.order_by(col(Reading.id).desc()).limit(back)).all()[-1]
    after, last = int(first.evidence["after"]), int(alarm.evidence["last"])
    recent = read_rows(session, monitor, after=after, up_to=last, most=MOST_POINTS)
    first_good, last_good = reference.frozen["first_place"], min(after, reference.frozen["last_place"])
    known_good = read_rows(session, monitor, after=first_good - 1, up_to=last_good, most=MOST_POINTS)
    rows = sorted(
        {row.place: row for row in [*known_good, *recent]}.values(), key=lambda row: (row.started_at, row.place)
    )
    change = locate(levels(reference, monitor, rows), [row.started_at for row in rows])
    return Window(
        monitor, reference, change, rows[: change.index], rows[change.index :],
        count_since(session, monitor, started_us=change.began_at, up_to=last),
    )  # fmt: skip


def levels(reference: Reference, monitor: Monitor, rows: Sequence[Row]) -> list[float]:
    """One number per row: the value itself, for latencies the logarithm after accounting for the lengths."""
    if monitor.detector != "exceedance":
        return [row.level for row in rows]
    values = [row.value if isinstance(row.value, tuple) else (row.value, None, None) for row in rows]
    columns = ([tokens or 0 for _, tokens, _ in values], [tokens or 0 for _, _, tokens in values])
    adjusted: list[float] = frozen_lines(reference).adjusted([ms for ms, _, _ in values], *columns).tolist()
    return adjusted


def records_of(session: Session, rows: Sequence[Row]) -> list[Generation]:
    """The generations behind rows, in no order."""
    keys = [row.generation_seq for row in rows]
    found: list[Generation] = []
    for start in range(0, len(keys), 500):
        chunk = select(Generation).where(col(Generation.seq).in_(keys[start : start + 500]))
        found.extend(session.exec(chunk))
    return found


def shares_of(session: Session, rows: Sequence[Row]) -> dict[str, float]:
    """Variant name → its share of the rows."""
    counts = Counter(row.variant_id for row in rows)
    names = dict(session.exec(select(Variant.id, Variant.name).where(col(Variant.id).in_(counts))).all())
    return {names[key]: n / len(rows) for key, n in counts.most_common()}
