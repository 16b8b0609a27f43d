"""What surrounds a drift event: the rows before and after the estimated change, and the records behind them."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlmodel import Session, col, select

from driftline.acts.signals import SIGNALS
from driftline.errors import BadInput
from driftline.store.tables import DriftEvent, Generation, Monitor, Reading, Reference, Variant
from evaluators.drift.changepoint import ChangePoint, locate
from scheduler.references import frozen_lines, made_of
from scheduler.signals import Row, count_since, read_rows
from scheduler.values import usable, values_of

MOST_POINTS = 4000  # rows in which the change is looked for
MOST_EMBEDDED = 600  # where each has to be embedded
LEAST_BLOCKS = 30  # judged blocks to look back at


@dataclass(frozen=True, slots=True)
class Window:
    """Rows in order of `started_at`: `before` the estimated change (reference included) and `after` it.

    `levels_before` and `levels_after` are the numbers in which the change was dated, one per row; `what` says what they
    are where the signal alone does not.
    """

    monitor: Monitor
    reference: Reference
    change: ChangePoint
    before: list[Row]
    after: list[Row]
    items_since: int
    levels_before: list[float]
    levels_after: list[float]
    what: str


def window_of(session: Session, event: DriftEvent) -> Window:
    """Dates the change behind an event and splits the stream there.

    Raises:
        BadInput: The rows behind it are gone.
    """
    monitor = session.get_one(Monitor, event.monitor_id)
    alarm = session.get_one(Reading, event.reading_id)
    reference = session.get_one(Reference, alarm.reference_id)
    back = max(LEAST_BLOCKS, 3 * int(alarm.evidence.get("since_blocks", 0)))
    earlier = select(Reading).where(
        Reading.monitor_id == monitor.id, Reading.reference_id == reference.id, Reading.id <= alarm.id
    )
    first = session.exec(earlier.order_by(col(Reading.id).desc()).limit(back)).all()[-1]
    after, last = int(first.evidence["after"]), int(alarm.evidence["last"])
    most = MOST_EMBEDDED if SIGNALS[monitor.signal].embeds else MOST_POINTS
    recent = read_rows(session, monitor, after=after, up_to=last, most=most)
    first_good, last_good = reference.frozen["first_place"], min(after, reference.frozen["last_place"])
    known_good = read_rows(session, monitor, after=first_good - 1, up_to=last_good, most=most)
    found, _ = usable(monitor, list({row.place: row for row in [*known_good, *recent]}.values()))
    rows = sorted(found, key=lambda row: (row.started_at, row.place))
    if len(rows) < 2:
        raise BadInput(f"The records behind drift event {event.id} are gone; it can no longer be explained.")
    numbers, what = levels(session, reference, monitor, rows, alarm.evidence.get("detail", {}))
    change = locate(numbers, [row.started_at for row in rows])
    return Window(
        monitor, reference, change, rows[: change.index], rows[change.index :],
        count_since(session, monitor, started_us=change.began_at, up_to=last),
        numbers[: change.index], numbers[change.index :], what,
    )  # fmt: skip


def levels(
    session: Session, reference: Reference, monitor: Monitor, rows: Sequence[Row], detail: dict[str, Any]
) -> tuple[list[float], str]:
    """One number per row, and what it is: the value itself; for latencies the logarithm after accounting for the
    lengths; for shares whether the row carries the label that grew; for pairs whether the answers differ."""
    if monitor.detector == "exceedance":
        values = values_of(session, monitor, made_of(reference.frozen), rows)
        columns = ([tokens or 0 for _, tokens, _ in values], [tokens or 0 for _, _, tokens in values])
        adjusted: list[float] = frozen_lines(reference).adjusted([ms for ms, _, _ in values], *columns).tolist()
        return adjusted, ""
    if monitor.detector == "shares":
        labels = values_of(session, monitor, made_of(reference.frozen), rows)
        grown, known = (
            str(detail.get("grown", "")),
            set(reference.frozen["labels"]) | set(reference.frozen["everywhere"]),
        )
        return [float(label == grown or (grown == "(other)" and label not in known)) for label in labels], grown
    if monitor.detector == "paired-texts":
        return [float(before != now) for before, now in (pair_of(row) for row in rows)], "answers that differ"
    if SIGNALS[monitor.signal].embeds:
        return [float(x) for x in values_of(session, monitor, made_of(reference.frozen), rows)], ""
    return [row.level for row in rows], ""


def pair_of(row: Row) -> tuple[str, str]:
    """The two answers of a row of pairs."""
    assert isinstance(row.value, tuple), row.value
    return str(row.value[0]), str(row.value[1])


def records_of(session: Session, rows: Sequence[Row]) -> list[Generation]:
    """The generations behind rows, in no order."""
    keys = [row.generation_seq for row in rows if row.generation_seq]
    found: list[Generation] = []
    for start in range(0, len(keys), 500):
        chunk = select(Generation).where(col(Generation.seq).in_(keys[start : start + 500]))
        found.extend(session.exec(chunk))
    return found


def shares_of(session: Session, rows: Sequence[Row]) -> dict[str, float]:
    """Variant name → its share of the rows; empty where they come from no variant."""
    counts = Counter(row.variant_id for row in rows if row.variant_id)
    names = dict(session.exec(select(Variant.id, Variant.name).where(col(Variant.id).in_(counts))).all())
    return {names[key]: n / len(rows) for key, n in counts.most_common()}
