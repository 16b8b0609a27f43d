"""A reading computed once more from what was stored: the rows, the reference, the state from before."""

from typing import Any

from sqlmodel import Session, col, select

from driftline import __version__
from driftline.acts.trials import find_reading
from driftline.store.engine import reading as reads
from driftline.store.tables import Monitor, Reading, Reference
from evaluators.drift import Reading as Judged
from scheduler.judging import detector_of, finite, judge, sample_hash
from scheduler.signals import most_of, read_rows
from scheduler.work import Work

CLOSE = 1e-9  # relative; another machine may round the last bit otherwise
MOST_STEPS = 200  # readings between a checkpoint and the one asked for


def recompute(session: Session, project_id: int, reading_id: int) -> dict[str, Any]:
    """What the stored rows say now of a stored reading, beside what it said then.

    The detector is restored from the newest reading at or before this one that kept the state from before it, and is
    shown the rows of every reading from there on. `agrees`: the same rows are there (by their hash) and lead to the
    same statistic. Where rows were deleted since, or the reading is of a version that kept no state, `because` says so.

    Raises:
        NotFound: No such reading in this project.
    """
    row, monitor = find_reading(session, project_id, reading_id)
    reference = session.get_one(Reference, row.reference_id)
    told = _as_it_was(monitor, reference)
    found: dict[str, Any] = {
        "reading": row.id, "monitor": monitor.name, "block_start": row.block_start, "block_end": row.block_end,
        "reference_hash": reference.content_hash, "threshold": row.threshold, "alarmed": row.alarmed,
        "stored": {
            "statistic": row.statistic, "value": row.value, "n": row.n, "sample_hash": row.evidence["sample_hash"],
        },
        "code": {"then": row.evidence.get("code"), "now": __version__}, "params": told.params,
    }  # fmt: skip
    steps = _steps(session, row)
    if steps is None:
        return {**found, "agrees": None, "because": "No state from before it was kept, so it cannot be computed again."}
    state = steps[0].evidence["state"]
    watch = detector_of(told, reference.frozen, state, steps[0].threshold)
    judged: Judged | None = None
    for step in steps:
        if step.threshold != judged_line(watch):
            watch.rethreshold(step.threshold)
        rows = read_rows(
            session, told, after=int(step.evidence["after"]), up_to=int(step.evidence["last"]), most=most_of(told)
        )
        judged, good, _ = judge(session, told, reference.frozen, watch, rows)
        if sample_hash(good) != step.evidence["sample_hash"]:
            gone = f"{step.n} rows were judged in reading {step.id} and {len(good)} are found now"
            return {**found, "agrees": False, "because": f"{gone}: records were deleted or changed since."}
    assert judged is not None
    statistic = finite(judged.statistic)
    agrees = abs(statistic - row.statistic) <= CLOSE * max(1.0, abs(row.statistic))
    again = {"statistic": statistic, "value": judged.value, "n": judged.n, "sample_hash": row.evidence["sample_hash"]}
    because = "The same rows lead to the same statistic." if agrees else "The same rows lead to another statistic now."
    return {**found, "recomputed": again, "agrees": agrees, "because": because, "readings_replayed": len(steps)}


def judged_line(watch: Any) -> float:
    """The threshold a detector stands at."""
    return float(watch.log_threshold)


def recompute_job(work: Work) -> dict[str, Any]:
    """Recomputes args["reading_id"]; the answer is the job's result."""
    with reads() as session:
        return recompute(session, work.project, int(work.args["reading_id"]))


def _as_it_was(monitor: Monitor, reference: Reference) -> Monitor:
    """The monitor with the parameters that its reference was frozen with; another row, so nothing is stored."""
    params = reference.frozen.get("params", monitor.params)
    split = params.get("season", "none") != "none" or params.get("split_by")
    mean = monitor.detector in ("esr", "strata")
    return Monitor(
        id=monitor.id, project_id=monitor.project_id, name=monitor.name, signal=monitor.signal, source=monitor.source,
        route=monitor.route, variant_id=monitor.variant_id, weight=monitor.weight, params=params,
        detector=("strata" if split else "esr") if mean else monitor.detector, created_at=monitor.created_at,
    )  # fmt: skip


def _steps(session: Session, row: Reading) -> list[Reading] | None:
    """The readings from the newest that kept a state up to this one; None where none did."""
    earlier = select(Reading).where(
        Reading.monitor_id == row.monitor_id, Reading.reference_id == row.reference_id, Reading.id <= row.id
    )
    back: list[Reading] = []
    for one in session.exec(earlier.order_by(col(Reading.id).desc()).limit(MOST_STEPS)):
        back.append(one)
        if "state" in one.evidence:
            return back[::-1]
    return None
