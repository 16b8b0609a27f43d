"""Before a rule is saved: how often would it have fired on stored history, what does it promise, what does it find?"""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from sqlmodel import Session, select

from driftline.acts.monitors import draft, find_monitor
from driftline.acts.signals import SIGNALS
from driftline.errors import BadInput
from driftline.moment import SECOND, now_us
from driftline.store.engine import reading as reads
from driftline.store.tables import Monitor, Project
from evaluators.drift.budget import allow
from evaluators.drift.fleet import delay, false_alarms_within
from evaluators.drift.quantiles import FrozenQuantiles
from scheduler.judging import detector_of, finite, judge
from scheduler.references import bare, blocks_per_year, freeze_rows
from scheduler.signals import first_arrival, last_place, most_of, read_rows, stretch_end
from scheduler.values import usable
from scheduler.work import Work

MOST_BLOCKS = 2000  # of the stored history that are judged
CHANGES = (0.02, 0.05, 0.10, 0.20)  # of a share or score
SLOWDOWNS = (0.2, 0.3, 0.5, 1.0)
STREAMS, MOST_DELAY = 200, 2000  # of the simulation of the delay


def backtest(session: Session, monitor: Monitor, *, until: int, since: int | None = None) -> dict[str, Any]:
    """Runs a monitor over what is stored, from its reference on, as the job would have.

    After an alarm its evidence begins anew, as when the event is closed. `false_alarm_bound` is the probability of any
    false alarm within a year, reference and detector together; `delays` says after how many blocks a change of some
    size is found, simulated with the spread of the stored blocks.

    Args:
        session: For reading.
        monitor: Stored or a draft.
        until: The moment up to which history is judged, microseconds.
        since: Where it begins; the first record without.

    Raises:
        BadInput: A draft of a signal that jobs measure has no history; or history does not fill a reference.
    """
    if SIGNALS[monitor.signal].reads == "runs" and monitor.id is None:
        raise BadInput(f"The signal {monitor.signal} is measured by jobs: add the monitor, then its runs are history.")
    after = last_place(session, monitor, after=0, before_us=since) if since is not None else 0
    params = monitor.params
    last = stretch_end(
        session, monitor, after=after, items=int(params["reference_items"]),
        span_us=int(params["reference_s"] * SECOND), before_us=until,
    )  # fmt: skip
    if last is None:
        raise BadInput(
            f"The stored history does not fill a reference of {params['reference_items']} values over "
            f"{params['reference_s']:g} seconds. Ask for a smaller one, or wait."
        )
    share = _share(session, monitor)
    most = max(int(params["reference_items"]), most_of(monitor)) if SIGNALS[monitor.signal].embeds else most_of(monitor)
    rows, _ = usable(monitor, read_rows(session, monitor, after=after, up_to=last, most=most))
    if not rows:
        raise BadInput("None of the stored values can be judged: they are not finite, or outside what the signal is.")
    frozen, content = freeze_rows(session, monitor, rows, *share)
    if content is not None:
        frozen["made"]["content"] = content
    line = allow(blocks_per_year(monitor), share[0], share[1]).log_threshold
    played = _play(session, monitor, frozen, line, last, until)
    return {
        "signal": monitor.signal, "route": monitor.route, "params": params, "detector": monitor.detector,
        "reference": {
            "n": len(rows), "mean": frozen.get("mean"), "m0": frozen.get("m0"), "since": rows[0].started_at,
            "until": rows[-1].started_at, "content_hash": frozen["content_hash"],
        },
        **played,
        "false_alarm_bound": _bound(monitor, line, 1 - share_confidence(monitor, share)),
        "log_threshold": line, "block_s": params["block_s"],
        "delays": _delays(monitor, frozen, line, played["spread"], played["items_a_block"]),
    }  # fmt: skip


def backtest_job(work: Work) -> dict[str, Any]:
    """Backtests args["monitor"] (a stored one's name) with args["params"], or a draft; the answer is the result."""
    with reads() as session:
        return backtest(session, drafted(session, work.project, work.args), until=now_us())


def drafted(session: Session, project_id: int, told: Mapping[str, Any]) -> Monitor:
    """The monitor that a backtest tries: a stored one, told otherwise, or one that does not exist yet."""
    params = dict(told.get("params") or {})
    if not told.get("monitor"):
        return draft(
            project_id, "draft", str(told["signal"]), route=str(told.get("route") or "default"),
            source=str(told.get("source") or ""), weight=float(told.get("weight") or 1.0), params=params,
        )  # fmt: skip
    known = find_monitor(session, project_id, str(told["monitor"]))
    made = draft(
        project_id, known.name, known.signal, route=known.route, source=known.source,
        weight=float(told.get("weight") or known.weight), params={**known.params, **params},
    )  # fmt: skip
    made.id, made.variant_id = known.id, known.variant_id
    return made


def share_confidence(monitor: Monitor, share: tuple[float, float, float]) -> float:
    """The confidence that the reference's bound has."""
    return allow(blocks_per_year(monitor), share[0], share[1]).confidence


def _share(session: Session, monitor: Monitor) -> tuple[float, float, float]:
    project = session.get_one(Project, monitor.project_id)
    of_project = select(Monitor.weight, Monitor.name).where(
        Monitor.project_id == project.id, Monitor.status != "paused"
    )
    others = sum(weight for weight, name in session.exec(of_project) if name != monitor.name)
    alpha = project.false_alarms_per_year
    return alpha, monitor.weight / (others + monitor.weight), alpha / 2


def _play(
    session: Session, monitor: Monitor, frozen: dict[str, Any], line: float, after: int, until: int
) -> dict[str, Any]:
    block_us = int(monitor.params["block_s"] * SECOND)
    least = int(monitor.params["min_block_items"])
    watch = detector_of(monitor, frozen, None, line)
    alarms: list[dict[str, Any]] = []
    means: list[float] = []
    sizes: list[int] = []
    highest, blocks, end = -math.inf, 0, None
    while blocks < MOST_BLOCKS:
        first = first_arrival(session, monitor, after=after)
        enough = first_arrival(session, monitor, after=after, skip=least - 1)
        if first is None or enough is None:
            break
        end = (max(first, enough) // block_us + 1) * block_us
        last = last_place(session, monitor, after=after, before_us=end)
        if end > until or last == after:
            break
        rows = read_rows(session, monitor, after=after, up_to=last, most=most_of(monitor))
        judged, good, _ = judge(session, monitor, frozen, watch, rows)
        after, blocks = last, blocks + 1
        highest = max(highest, finite(judged.statistic))
        if judged.value is not None:
            means.append(judged.value)
            sizes.append(judged.n)
        if judged.alarmed:
            alarms.append({"at": end, "statistic": judged.statistic, "value": judged.value, "n": len(good)})
            watch = detector_of(monitor, frozen, None, line)
    years = blocks / blocks_per_year(monitor)
    return {
        "blocks": blocks, "alarms": alarms, "alarms_a_year": len(alarms) / years if years else None, "years": years,
        "highest": finite(highest), "until": end, "spread": float(np.std(means)) if len(means) > 1 else None,
        "items_a_block": float(np.median(sizes)) if sizes else None, "cut_short": blocks >= MOST_BLOCKS,
    }  # fmt: skip


def _bound(monitor: Monitor, line: float, reference: float) -> float:
    """Any false alarm within a year: the detector's part, and the reference's where there is one."""
    return false_alarms_within(round(blocks_per_year(monitor)), line) + (
        0.0 if monitor.detector == "paired-texts" else reference
    )


def _delays(
    monitor: Monitor, frozen: dict[str, Any], line: float, spread: float | None, items: float | None
) -> list[dict[str, Any]]:
    """Median and 90 % delay in blocks for changes of some sizes; empty where the signal cannot be simulated simply."""
    if not items or monitor.detector in ("conformal", "paired-texts"):
        return []
    found = []
    for change, before, now, m0, direction, extra in _cases(monitor, frozen):
        inside = math.sqrt(max(before * (1 - before), 1e-6) / items)
        own = inside if monitor.detector in ("exceedance", "shares") or spread is None else max(spread, 1e-4)
        if not 0 < now < 1 or not 0 < m0 < 1:
            continue
        took = delay(m0, now, own, line + extra, before=before, direction=direction, streams=STREAMS, most=MOST_DELAY)
        median = took["median"] if math.isfinite(took["median"]) else None
        found.append({
            "change": change, "median_blocks": median, "found": took["found"],
            "p90_blocks": took["p90"] if math.isfinite(took["p90"]) else None,
            "median_s": None if median is None else median * float(monitor.params["block_s"]),
        })  # fmt: skip
    return found


def _cases(monitor: Monitor, frozen: dict[str, Any]) -> list[tuple[float, float, float, float, Any, float]]:
    """(change, mean before, mean now, m0, direction, how much more evidence it takes as one of several)."""
    if monitor.detector == "exceedance":
        lines = FrozenQuantiles.from_json(bare(frozen))
        return [(x, 0.5, _above(lines, x), lines.bounds[0], "rise", math.log(len(lines.bounds))) for x in SLOWDOWNS]
    direction = monitor.params["direction"]
    sign = -1 if direction == "fall" else 1
    if monitor.detector == "shares":
        k = min(range(len(frozen["edges"])), key=lambda i: frozen["edges"][i])
        before, m0, extra = max(frozen["shares"][k], 1e-3), frozen["edges"][k], math.log(len(frozen["edges"]))
        return [(x, before, before + x, m0, "rise", extra) for x in CHANGES]
    scale = frozen.get("cap") or 1.0
    mean = min(max(float(frozen["mean"]), 1e-3), 1 - 1e-3)
    if monitor.detector == "strata":
        edges = np.average(frozen["edges"], weights=frozen["sizes"])
        return [(x, mean, mean + sign * x / scale, float(edges), direction, math.log(2)) for x in CHANGES]
    return [(x, mean, mean + sign * x / scale, float(frozen["m0"]), direction, 0.0) for x in CHANGES]


def _above(lines: FrozenQuantiles, slower: float) -> float:
    """Share of answers above the median line with its margin when all take so much longer, by the frozen lines.

    Between two quantiles of the reference the logarithm of the latency is taken as spread evenly.
    """
    needed = lines.lines[0] + math.log1p(lines.margin) - math.log1p(slower)
    spread = (lines.lines[-1] - lines.lines[0]) / (lines.quantiles[-1] - lines.quantiles[0])
    below = lines.quantiles[0] + (needed - lines.lines[0]) / max(spread, 1e-6)
    return min(0.999, max(0.001, 1 - below))
