"""References: the frozen stretch of a stream that a monitor judges against, and what its freezing costs the budget."""

from collections.abc import Sequence
from statistics import median
from typing import Any

from sqlmodel import Session, col, select

from driftline.moment import SECOND, YEAR
from driftline.store.tables import Monitor, Reference
from evaluators.drift.budget import allow
from evaluators.drift.quantiles import FrozenQuantiles
from evaluators.drift.reference import FrozenReference, freeze, freeze_quantiles
from scheduler.signals import Row

OURS = ("cap", "spent", "least_rate", "first_place", "last_place")  # what is stored beside the frozen figures
SCALED_BY = 5  # the first fifth of a reference sets the cap of a quality stream
LEAST_FOR_CAP = 10


def standing_reference(session: Session, monitor: Monitor) -> Reference:
    """The reference the monitor is judged against now."""
    of_monitor = select(Reference).where(Reference.monitor_id == monitor.id, col(Reference.replaced_at).is_(None))
    return session.exec(of_monitor.order_by(col(Reference.id).desc())).one()


def freeze_rows(monitor: Monitor, rows: list[Row], alpha: float, weight: float, left: float) -> dict[str, Any]:
    """The figures of a new reference, as JSON values.

    Args:
        monitor: Whose reference it is.
        rows: The stretch of its stream, in order of arrival.
        alpha: The project's yearly false-alarm budget.
        weight: The monitor's share of it.
        left: What other references of the last year left of the half of the budget that is for bounds.

    Raises:
        BadInput: The rows bound the mean too badly for any change to be told.
    """
    first = rows[0]
    allowance = allow(blocks_per_year(monitor), alpha, weight)
    # What references of the last year spent is gone, so a project that keeps adding monitors stays within its promise.
    spend = min(1 - allowance.confidence, left / 2)
    margin, confidence = float(monitor.params["margin"]), 1 - spend
    block_us = int(monitor.params["block_s"] * SECOND)
    if monitor.detector == "exceedance":
        values = [row.value if isinstance(row.value, tuple) else (row.value, None, None) for row in rows]
        whole = all(tokens is not None for _, tokens, _ in values)
        frozen = freeze_quantiles(
            [ms for ms, _, _ in values], margin=margin, confidence=confidence,
            input_tokens=[tokens or 0 for _, tokens, _ in values] if whole else None,
            output_tokens=[tokens or 0 for _, _, tokens in values] if all(v[2] is not None for v in values) else None,
            blocks=[row.arrived_at // block_us for row in rows],
        ).to_json()  # fmt: skip
    else:
        scaling = len(rows) // SCALED_BY
        cap = cap_of(monitor, rows[:scaling])
        rows = rows[scaling:] if cap is not None else rows
        frozen = {"cap": cap} | freeze(
            capped(rows, cap), direction=monitor.params["direction"], margin=margin, confidence=confidence,
            weights=weights_of(rows, _least_rate(rows)), blocks=[row.arrived_at // block_us for row in rows],
        ).to_json()  # fmt: skip
    return {
        **frozen,
        "spent": spend,
        "least_rate": _least_rate(rows),
        "first_place": first.place,
        "last_place": rows[-1].place,
    }


def cap_of(monitor: Monitor, rows: list[Row]) -> float | None:
    """Where a quality stream is cut off: the median of the first rows of its reference; None for other streams.

    A monitor of falls learns nothing from how good the good answers are, yet room for them above the mean limits how
    much it can bet on a fall. So a value counts as its share of the cap, at most 1. The rows that set the cap are not
    among those that bound the mean, so the bound stays valid.
    """
    if monitor.signal != "quality" or len(rows) < LEAST_FOR_CAP:
        return None
    middle = median(row.level for row in rows)
    return middle if middle > 0 else None


def capped(rows: Sequence[Row], cap: float | None) -> list[float]:
    """The values that the detector sees."""
    return [row.level if cap is None else min(1.0, row.level / cap) for row in rows]


def frozen_lines(reference: Reference) -> FrozenQuantiles:
    """The frozen quantile lines of a latency reference."""
    return FrozenQuantiles.from_json({key: value for key, value in reference.frozen.items() if key not in OURS})


def frozen_mean(reference: Reference) -> FrozenReference:
    """The frozen mean of any other reference."""
    return FrozenReference.from_json({key: value for key, value in reference.frozen.items() if key not in OURS})


def weights_of(rows: list[Row], least: float) -> list[float] | None:
    """r_min / r per row; None where every record was kept with the same probability."""
    if all(row.rate == least for row in rows):
        return None
    return [min(1.0, least / row.rate) for row in rows]


def _least_rate(rows: list[Row]) -> float:
    return min(row.rate for row in rows)


def blocks_per_year(monitor: Monitor) -> float:
    """How many blocks of the monitor's clock a year has."""
    return YEAR / (float(monitor.params["block_s"]) * SECOND)
