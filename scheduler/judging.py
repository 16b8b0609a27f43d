"""Judging one block: restore the detector, show it the rows, and say what it rests on. The same for the job, for
recomputing a stored reading, and for a backtest."""

import hashlib
import math
from collections.abc import Mapping, Sequence
from typing import Any

from sqlmodel import Session

from driftline import __version__
from driftline.acts.signals import SIGNALS
from driftline.store.tables import Monitor
from evaluators.drift import Detector, Reading, restore
from scheduler.references import WITH_REFERENCE, bare, made_of, new_detector, weights_of
from scheduler.signals import Row
from scheduler.values import usable, values_of

CHECKPOINT = 64  # readings between two that keep the state from before them, so that any can be recomputed from near
BEGAN, SINCE = "began_threshold", "since_checkpoint"  # kept beside the detector's state


def detector_of(monitor: Monitor, frozen: Mapping[str, Any], state: Mapping[str, Any] | None, line: float) -> Detector:
    """The monitor's detector as it was left, or anew where `state` is None, with its share of the budget as it is now.

    Raises:
        BadInput: The state is of a newer version or damaged.
    """
    if state is None:
        return new_detector(monitor, dict(frozen), line)
    if monitor.detector in WITH_REFERENCE:
        state = {**state, "reference": bare(dict(frozen))}
    watch = restore(monitor.detector, state)
    if state.get("log_threshold") != line:
        watch.rethreshold(line)  # monitors came or went, so the budget is split anew
    return watch


def judge(
    session: Session, monitor: Monitor, frozen: Mapping[str, Any], watch: Detector, rows: Sequence[Row]
) -> tuple[Reading, list[Row], int]:
    """What the detector says of the rows, the rows that could be judged, and how many could not."""
    good, unusable = usable(monitor, rows)
    values = values_of(session, monitor, made_of(dict(frozen)), good)
    return watch.update(values, weights_of(good, frozen["least_rate"])), good, unusable


def slim(watch: Detector) -> dict[str, Any]:
    """The detector's state without the reference, which has a row of its own."""
    return {key: value for key, value in watch.state().items() if key != "reference"}


def kept_state(watch: Detector, before: Mapping[str, Any] | None, line: float, checkpoint: bool) -> dict[str, Any]:
    """What the monitor remembers until its next block."""
    began = before.get(BEGAN, line) if before is not None else line
    since = 0 if checkpoint or before is None else int(before.get(SINCE, 0)) + 1
    return {**slim(watch), BEGAN: began, SINCE: since}


def is_checkpoint(state: Mapping[str, Any] | None, alarmed: bool) -> bool:
    """Whether the state from before this reading is to be kept with it."""
    return state is None or alarmed or SINCE not in state or int(state[SINCE]) + 1 >= CHECKPOINT


def log_e(judged: Reading, state: Mapping[str, Any]) -> float:
    """Logarithm of the e-value M_t / t: at a time fixed beforehand its mean is at most 1 where nothing has changed.

    A threshold that changed meanwhile shifted the evidence with it; that is taken back.
    """
    steps = judged.detail.get("blocks", judged.detail.get("pairs", 1)) or 1
    return finite(judged.statistic) - (judged.threshold - float(state[BEGAN])) - math.log(steps)


def evidence_of(
    monitor: Monitor, judged: Reading, rows: Sequence[Row], unusable: int, names: Mapping[int, str],
    state: Mapping[str, Any],
) -> dict[str, Any]:  # fmt: skip
    """What a reading rests on, as JSON values."""
    levels = [row.level for row in rows if math.isfinite(row.level)]
    seen: dict[str, int] = {}
    for row in rows:
        name = names.get(row.variant_id, "")
        seen[name] = seen.get(name, 0) + 1
    found: dict[str, Any] = {
        "variants": {name: n for name, n in seen.items() if name},
        "sample_hash": sample_hash(rows),
        "level_mean": sum(levels) / len(levels) if levels else None,
        "since_blocks": judged.since_blocks,
        "detail": judged.detail,
        "log_e": log_e(judged, state),
        "code": __version__,
        "signal": SIGNALS[monitor.signal].about,
    }
    if unusable:
        found["unusable"] = unusable
    return found


def sample_hash(rows: Sequence[Row]) -> str:
    """Names the rows that were looked at, so that a reading can be recomputed and checked."""
    return hashlib.sha256(",".join(str(row.place) for row in rows).encode()).hexdigest()


def finite(log: float) -> float:
    """Minus infinity (no evidence at all) as a number every database stores."""
    return max(log, -1e9)
