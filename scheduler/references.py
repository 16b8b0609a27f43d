"""References: the frozen stretch of a stream that a monitor judges against, and what its freezing costs the budget."""

from collections.abc import Callable, Sequence
from typing import Any

from sqlmodel import Session, col, select

from driftline.acts.signals import SIGNALS
from driftline.moment import SECOND, YEAR
from driftline.store.tables import Monitor, Reference
from evaluators.drift import Detector, detector
from evaluators.drift.budget import allow
from evaluators.drift.conformal import freeze_scores
from evaluators.drift.quantiles import FrozenQuantiles
from evaluators.drift.reference import FrozenReference, freeze, freeze_quantiles
from evaluators.drift.shares import freeze_shares
from evaluators.drift.strata import freeze_strata
from scheduler.signals import Row
from scheduler.values import make, split, values_of

OURS = (
    "cap",
    "spent",
    "least_rate",
    "first_place",
    "last_place",
    "made",
    "params",
    "unusable",
)  # stored beside the frozen figures
WITH_REFERENCE = ("exceedance", "shares", "conformal", "strata")  # detectors made from a whole frozen reference
NO_REFERENCE = {"mean": None, "content_hash": "the pairs are their own reference"}


def standing_reference(session: Session, monitor: Monitor) -> Reference:
    """The reference the monitor is judged against now."""
    of_monitor = select(Reference).where(Reference.monitor_id == monitor.id, col(Reference.replaced_at).is_(None))
    return session.exec(of_monitor.order_by(col(Reference.id).desc())).one()


def freeze_rows(
    session: Session, monitor: Monitor, rows: list[Row], alpha: float, weight: float, left: float
) -> tuple[dict[str, Any], bytes | None]:
    """The figures of a new reference, as JSON values, and bytes to be kept beside them as `made["known"]`.

    Args:
        session: For what the values are made with (golden sets, stored vectors).
        monitor: Whose reference it is.
        rows: The stretch of its stream, in order of arrival.
        alpha: The project's yearly false-alarm budget.
        weight: The monitor's share of it.
        left: What other references of the last year left of the half of the budget that is for bounds.

    Raises:
        BadInput: The rows bound the stream too badly for any change to be told.
        MissingPackage: Prompts are to be embedded and the encoder is not installed.
    """
    first = rows[0]
    # What references of the last year spent is gone, so a project that keeps adding monitors stays within its promise.
    spend = min(1 - allow(blocks_per_year(monitor), alpha, weight).confidence, left / 2)
    making, bounding = split(monitor, rows)
    made = make(session, monitor, making)
    least = min(row.rate for row in bounding)
    values = values_of(session, monitor, made, bounding)
    frozen = FREEZERS[monitor.detector](monitor, bounding, values, 1 - spend, least)
    content = made.pop("content", None)
    figures = {
        **frozen,
        "cap": made.pop("cap", None),
        "made": made,
        "spent": 0.0 if monitor.detector == "paired-texts" else spend,
        "least_rate": least,
        "first_place": first.place,
        "last_place": rows[-1].place,
    }
    return figures, content


def _mean(monitor: Monitor, rows: list[Row], values: list[Any], confidence: float, least: float) -> dict[str, Any]:
    return freeze(
        values, direction=monitor.params["direction"], margin=float(monitor.params["margin"]), confidence=confidence,
        weights=weights_of(rows, least), blocks=_blocks(monitor, rows),
    ).to_json()  # fmt: skip


def _strata(monitor: Monitor, rows: list[Row], values: list[Any], confidence: float, least: float) -> dict[str, Any]:
    return freeze_strata(
        values, direction=monitor.params["direction"], margin=float(monitor.params["margin"]), confidence=confidence,
        weights=weights_of(rows, least), blocks=_blocks(monitor, rows),
    ).to_json()  # fmt: skip


def _lines(monitor: Monitor, rows: list[Row], values: list[Any], confidence: float, least: float) -> dict[str, Any]:
    read, written = ([value[k] for value in values] for k in (1, 2))
    return freeze_quantiles(
        [value[0] for value in values], margin=float(monitor.params["margin"]), confidence=confidence,
        input_tokens=[float(n) for n in read if n is not None] if None not in read else None,
        output_tokens=[float(n) for n in written if n is not None] if None not in written else None,
        weights=weights_of(rows, least), blocks=_blocks(monitor, rows),
    ).to_json()  # fmt: skip


def _shares(monitor: Monitor, rows: list[Row], values: list[Any], confidence: float, least: float) -> dict[str, Any]:
    return freeze_shares(
        values, margin=float(monitor.params["margin"]), confidence=confidence, weights=weights_of(rows, least),
        blocks=_blocks(monitor, rows),
    ).to_json()  # fmt: skip


def _scores(monitor: Monitor, rows: list[Row], values: list[Any], confidence: float, least: float) -> dict[str, Any]:
    weights = weights_of(rows, least)
    return freeze_scores(
        values, margin=float(monitor.params["margin"]), confidence=confidence, weights=weights
    ).to_json()


def _pairs(*_: Any) -> dict[str, Any]:
    return dict(NO_REFERENCE)


FREEZERS: dict[str, Callable[[Monitor, list[Row], list[Any], float, float], dict[str, Any]]] = {
    "esr": _mean,
    "strata": _strata,
    "exceedance": _lines,
    "shares": _shares,
    "conformal": _scores,
    "paired-texts": _pairs,
}


def new_detector(monitor: Monitor, frozen: dict[str, Any], log_threshold: float) -> Detector:
    """The monitor's detector, having seen nothing yet."""
    if monitor.detector == "paired-texts":
        return detector(monitor.detector, {"log_threshold": log_threshold})
    if monitor.detector in WITH_REFERENCE:
        each = {"each": bool(monitor.params.get("split_by"))} if monitor.detector == "strata" else {}
        return detector(monitor.detector, {"reference": bare(frozen), "log_threshold": log_threshold, **each})
    mean = FrozenReference.from_json(bare(frozen))
    form = {"form": SIGNALS[monitor.signal].form}
    return detector(monitor.detector, {**mean.params(), "log_threshold": log_threshold, **form})


def bare(frozen: dict[str, Any]) -> dict[str, Any]:
    """The frozen figures alone, as the freezing function wrote them."""
    return {key: value for key, value in frozen.items() if key not in OURS}


def made_of(frozen: dict[str, Any]) -> dict[str, Any]:
    """What the reference fixes beside its bounds, as `values_of` takes it."""
    return {"cap": frozen.get("cap"), **frozen.get("made", {})}


def frozen_lines(reference: Reference) -> FrozenQuantiles:
    """The frozen quantile lines of a latency reference."""
    return FrozenQuantiles.from_json(bare(reference.frozen))


def frozen_mean(reference: Reference) -> FrozenReference:
    """The frozen mean of any other reference."""
    return FrozenReference.from_json(bare(reference.frozen))


def weights_of(rows: Sequence[Row], least: float) -> list[float] | None:
    """r_min / r per row; None where every record was kept with the same probability."""
    if all(row.rate == least for row in rows):
        return None
    return [min(1.0, least / row.rate) for row in rows]


def blocks_per_year(monitor: Monitor) -> float:
    """How often a year the monitor's evidence is added to: blocks of its clock, or runs of its job where those are
    rarer. Each pair of answers is judged by itself."""
    every_s = max(float(monitor.params["block_s"]), float(monitor.params.get("every_s", 0.0)))
    each = float(monitor.params["items"]) if monitor.detector == "paired-texts" else 1.0
    return YEAR / (every_s * SECOND) * each


def _blocks(monitor: Monitor, rows: Sequence[Row]) -> list[int]:
    block_us = int(monitor.params["block_s"] * SECOND)
    return [row.arrived_at // block_us for row in rows]
