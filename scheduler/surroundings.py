"""What else moved around a drift event: lengths and texts, slices of the traffic, the cost's parts, other monitors."""

from collections import Counter
from collections.abc import Sequence
from statistics import median
from typing import Any

from sqlmodel import Session, col, select

from driftline.acts.signals import SIGNALS
from driftline.errors import BadInput
from driftline.store.tables import DriftEvent, Generation, Monitor, Reading, Route, Variant
from evaluators.drift.decompose import decompose
from evaluators.drift.prompts import prompts_moved
from evaluators.drift.slices import slices_moved
from evaluators.drift.spend import cost_change
from evaluators.drift.texts import texts_moved
from scheduler.embedding import asked
from scheduler.references import frozen_lines
from scheduler.window import Window

LEAST_FOR_TESTS = 10
MOST_TEXTS = 300  # a side
MATERIAL = 0.05  # squared distance of mean features below which texts count as of the same kind
MOST_VALUES = 24  # of a tag that is a way to cut the traffic; an identity is not
MOST_SLICES = 10  # shown
OTHERS = {"judge": "anchors", "captured": "captured", "probes": "probes", "border": "probes", "answers": "probes"}


def lengths_of(before: Sequence[Generation], after: Sequence[Generation]) -> dict[str, dict[str, Any]]:
    """Whether prompts and answers changed their lengths; an empty entry where too few records say."""
    found: dict[str, dict[str, Any]] = {}
    for name, pick in (("prompts", _prompt_length), ("answers", _answer_length)):
        old, new = [pick(one) for one in before], [pick(one) for one in after]
        found[name] = {}
        if min(len(old), len(new)) >= LEAST_FOR_TESTS:
            moved = prompts_moved(old, new)
            found[name] = {
                "moved": moved.moved, "effect": moved.lengths.effect, "p_value": moved.lengths.p_value,
                "median_before": median(old), "median_after": median(new),
            }  # fmt: skip
    return found


def texts_of(before: Sequence[Generation], after: Sequence[Generation]) -> dict[str, dict[str, Any]]:
    """Whether prompts and answers changed in kind (unpaired MMD); an empty entry where too few texts are stored."""
    found: dict[str, dict[str, Any]] = {}
    for name, pick in (("prompts", _prompt), ("answers", _answer)):
        old, new = ([text for row in _spread(rows) if (text := pick(row))] for rows in (before, after))
        found[name] = {}
        if min(len(old), len(new)) >= 2 * LEAST_FOR_TESTS:
            moved = texts_moved(old, new)
            found[name] = {
                "moved": moved.moved and moved.statistic >= MATERIAL, "statistic": moved.statistic,
                "p_value": moved.p_value, "n_before": moved.n_before, "n_after": moved.n_after,
                "format": moved.format_moved,
            }  # fmt: skip
    return found


def slices_of(window: Window, records: Sequence[Generation]) -> dict[str, Any]:
    """Slices of the traffic whose mean moved, confirmed on held-out records, and how much of the change is mix.

    Latencies and costs count as whether they exceed the median line. Only tags with few values cut the traffic.
    """
    tags = {row.seq: row.tags for row in records}
    sides = []
    for rows, numbers in ((window.before, window.levels_before), (window.after, window.levels_after)):
        values = _bounded(window, numbers)
        some = [
            (f"{row.place}", tags[row.generation_seq], value)
            for row, value in zip(rows, values, strict=True)
            if row.generation_seq in tags
        ]
        sides.append(some)
    cuts = _cuts([record for side in sides for record in side])
    left_out = sorted({name for side in sides for _, own, _ in side for name in own} - set(cuts))
    kept = [[(key, {n: own[n] for n in cuts if n in own}, value) for key, own, value in side] for side in sides]
    found: dict[str, Any] = {"slices": [], "tags_left_out": left_out}
    if not cuts or not kept[0] or not kept[1]:
        return found
    margin = 0.01 if not SIGNALS[window.monitor.signal].timed else 0.05
    for change in slices_moved(kept[0], kept[1], margin=margin)[:MOST_SLICES]:
        found["slices"].append({
            "slice": change.name, "estimate": change.mean_after - change.mean_before, "n": change.n_after,
            "n_before": change.n_before, "before": change.mean_before, "after": change.mean_after,
            "e_value": change.e_value, "direction": change.direction,
        })  # fmt: skip
    try:
        parts = [
            (name, decompose(*([(own.get(name, "(none)"), x) for _, own, x in side] for side in kept))) for name in cuts
        ]
    except BadInput:  # fewer than 20 records on a side
        return found
    name, most = max(parts, key=lambda part: abs(part[1].mix.estimate))
    found["decomposition"] = {
        "tag": name,
        **{
            key: {"estimate": part.estimate, "low": part.low, "high": part.high}
            for key, part in (("change", most.change), ("mix", most.mix), ("within", most.within))
        },
    }
    return found


def cost_of(before: Sequence[Generation], after: Sequence[Generation]) -> dict[str, Any] | None:
    """The change of the mean cost as price, tokens and mix; None where too few records carry a cost."""
    sides = []
    for rows in (before, after):
        sides.append([
            (str(row.model or row.variant_id), float((row.input_tokens or 0) + (row.output_tokens or 0)),
             float(row.cost_nano))
            for row in rows if row.cost_nano is not None
        ])  # fmt: skip
    try:
        found = cost_change(*sides)
    except BadInput:
        return None
    parts = {
        name: {"estimate": part.estimate, "low": part.low, "high": part.high}
        for name, part in (("price", found.price), ("tokens", found.tokens), ("mix", found.mix))
    }
    return {"before": found.before, "after": found.after, "largest": found.largest, **parts}


def others_of(session: Session, event: DriftEvent, monitor: Monitor, began_at: int) -> dict[str, bool]:
    """What the project's other monitors say of the same time: did anchors, probes, baseline or captured share move?

    Moved: one has an open event. Not moved: one has judged a block since the change and stands quiet. Absent: none was
    there to say.
    """
    found: dict[str, bool] = {}
    route = session.exec(select(Route).where(Route.project_id == event.project_id, Route.name == monitor.route)).first()
    baseline = route.baseline_variant_id if route is not None else None
    of_project = select(Monitor).where(Monitor.project_id == event.project_id, Monitor.id != monitor.id)
    for other in session.exec(of_project.where(col(Monitor.signal).in_(list(OTHERS)))):
        if other.signal != "captured" and other.route != monitor.route:
            continue
        since = select(Reading.id).where(Reading.monitor_id == other.id, Reading.block_end >= began_at).limit(1)
        if other.status != "alarmed" and session.exec(since).first() is None:
            continue
        of_baseline = other.variant_id is not None and other.variant_id == baseline
        name = "baseline" if of_baseline and OTHERS[other.signal] == "probes" else OTHERS[other.signal]
        found[name] = found.get(name, False) or other.status == "alarmed"
    return found


def main_variant(session: Session, event: DriftEvent, names: dict[str, float]) -> Variant | None:
    """The variant that answers most after the change."""
    if not names:
        return session.get(Variant, event.variant_id) if event.variant_id else None
    of_project = select(Variant).where(Variant.project_id == event.project_id, Variant.name == next(iter(names)))
    return session.exec(of_project).first()


def _prompt_length(row: Generation) -> float:
    return float(row.input_tokens if row.input_tokens is not None else row.input_chars)


def _answer_length(row: Generation) -> float:
    return float(row.output_tokens if row.output_tokens is not None else row.output_chars)


def _prompt(row: Generation) -> str:
    return asked(row.input or "")


def _answer(row: Generation) -> str:
    return row.output or ""


def _spread(rows: Sequence[Generation]) -> list[Generation]:
    """A sample that every run agrees on, in no order that tells anything."""
    return sorted(rows, key=lambda row: row.sample_key)[:MOST_TEXTS]


def _bounded(window: Window, numbers: Sequence[float]) -> list[float]:
    if window.monitor.detector == "exceedance":
        line = frozen_lines(window.reference).lines[0]
        return [float(x > line) for x in numbers]
    return [min(1.0, max(0.0, x)) for x in numbers]


def _cuts(records: Sequence[tuple[str, dict[str, str], float]]) -> list[str]:
    values: dict[str, Counter[str]] = {}
    for _, own, _ in records:
        for name, text in own.items():
            values.setdefault(name, Counter())[text] += 1
    return sorted(name for name, seen in values.items() if 1 < len(seen) <= MOST_VALUES)
