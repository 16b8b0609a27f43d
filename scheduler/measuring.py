"""What a variant takes and keeps, measured at its build and at every replay, and whether its benefit still holds."""

from collections.abc import Mapping
from statistics import median
from typing import Any

from sqlmodel import Session, col, select

from driftline.acts.alerts import ACTOR, end_part
from driftline.errors import DriftlineError
from driftline.protocols import Counting, Generate, Sampling
from driftline.store.engine import reading
from driftline.store.tables import Answer, Replay, Variant
from scheduler.incidents import raise_alerts
from scheduler.models import held_beside, model_of
from variants.free_memory import held_bytes
from variants.measure import measure, peak_rss
from variants.probes import QUESTIONS, TEXTS

LOCAL = ("transformers", "llama_cpp", "onnx")  # runners that show distributions: measured by texts and questions
REMOTE = ("openai", "anthropic")  # runners asked a few short questions: speed, and whether anything answers
QUALITY = ("perplexity", "kl_to_parent", "top1_agreement", "bytes_stored", "bytes_in_memory")
TIMES = ("answer_ms", "ttft_ms", "prefill_tokens_per_s", "decode_tokens_per_s")
SAVINGS = ("latency_ms", "ttft_ms", "joules_per_answer", "peak_rss_bytes", "usd_per_1000")  # less is better
WORTH = 1.1  # a saving that justifies a variant: a tenth less than its parent at least
LEFT = 0.5  # of such a saving must be left, else it no longer holds

Figures = dict[str, Any]


def at_build(variant: Variant, model: Generate) -> dict[str, float]:
    """Figures of a variant that was just built, against its parent where it has one that runs here.

    None of recorded answers and Python callables.
    """
    runner = variant.spec.get("runner")
    if runner in REMOTE:
        return _of_endpoint(model)
    if runner not in LOCAL:
        return {}
    before = held_bytes()
    parent = _parent_of(variant)
    beside = max(0, held_bytes() - before)  # not the parent's size: its weights may lie on disk until it reads them
    figures = measure(model, parent, [*TEXTS, *QUESTIONS], max_tokens=16)
    return figures | {"peak_rss_bytes": figures["peak_rss_bytes"] - beside}


def _of_endpoint(model: Generate) -> dict[str, float]:
    """Times and rates of an endpoint; where its first answer is an error, that alone: it is not waited for again.

    What this process takes (memory, energy) says nothing about a machine elsewhere and is left out.
    """
    if model.generate(QUESTIONS[:1], Sampling(max_tokens=2))[0].error is not None:
        return {"errors": 1.0}
    figures = measure(model, None, QUESTIONS, max_tokens=16)
    return {name: figures[name] for name in ("errors", *TIMES) if name in figures}


def _parent_of(variant: Variant) -> Generate | None:
    if variant.parent_id is None:
        return None
    with reading() as session:
        parent = session.get_one(Variant, variant.parent_id)
    if parent.spec.get("runner") not in LOCAL:
        return None
    try:
        return model_of(parent)
    except DriftlineError:  # a parent that cannot be opened here says nothing about its child
        return None


class Turn:
    """One worker's turn at a replay: what the model counted meanwhile, and the most memory it took.

    Memory is the whole process's, libraries included, without the weights of other models that are open in it.
    """

    def __init__(self, model: Generate) -> None:
        self._model = model
        self._before = self._counts()
        self._beside = held_beside(model)
        peak_rss(reset=True)

    def _counts(self) -> Mapping[str, float]:
        return self._model.counts() if isinstance(self._model, Counting) else {}

    def end(self, session: Session, replay: Replay, variant: Variant) -> None:
        """Adds the turn to the replay's figures and derives what all its answers so far say."""
        row = session.exec(select(Replay).where(Replay.id == replay.id).with_for_update()).one()
        counts = dict(row.measured.get("counts", {}))
        beside = max(self._beside, held_beside(self._model))  # scorers may have opened some meanwhile
        for name, total in self._counts().items():
            counts[name] = counts.get(name, 0) + total - self._before.get(name, 0)
        peak = max(float(row.measured.get("peak_rss_bytes", 0)), float(peak_rss() - beside))
        figures: Figures = {**_from_answers(session, row), **shares(counts), "peak_rss_bytes": peak, "counts": counts}
        if variant.fingerprint == row.fingerprint:  # the same content, so what was measured of it still holds
            figures |= {name: variant.measured[name] for name in QUALITY if name in variant.measured}
        row.measured = figures
        session.add(row)
        self._before = self._counts()


def _from_answers(session: Session, replay: Replay) -> Figures:
    columns = (col(Answer.latency_ms), col(Answer.ttft_ms), col(Answer.output_tokens), col(Answer.error))
    rows = session.exec(select(*columns).where(Answer.replay_id == replay.id, col(Answer.is_reused).is_(False))).all()
    good = [row for row in rows if row[3] is None]
    found: Figures = {"answers": len(rows), "errors": 1 - len(good) / len(rows) if rows else 0.0}
    latencies, firsts = [row[0] for row in good if row[0]], [row[1] for row in good if row[1]]
    rates = [
        1000 * (tokens - 1) / (latency - first)
        for latency, first, tokens, _ in good
        if latency and first and tokens and tokens > 1 and latency > first
    ]
    for name, values in (("latency_ms", latencies), ("ttft_ms", firsts), ("decode_tokens_per_s", rates)):
        if values:
            found[name] = median(values)
    if rows:
        found["joules_per_answer"] = replay.joules / len(rows)
        if replay.cost_nano:
            found["usd_per_1000"] = replay.cost_nano / 1e6 / len(rows)
    return found


RATIOS = {
    "cache_hit_rate": ("cache_hits", "cache_asked"),
    "cache_stale_share": ("cache_stale", "cache_rechecked"),
    "cache_age_mean_s": ("cache_age_s", "cache_hits"),
    "draft_accepted_share": ("draft_accepted", "draft_proposed"),
    "exit_early_share": ("exit_early", "exit_tokens"),
    "prefix_found_share": ("prefix_found", "prefix_tokens"),
    "cascade_escalated_share": ("cascade_escalated", "cascade_asked"),
    "router_large_share": ("router_large", "router_asked"),
    "constraint_broken_share": ("constraint_broken", "constraint_answers"),
}


def shares(counts: Mapping[str, float]) -> dict[str, float]:
    """What the counts of a variant's steps say as shares.

    >>> shares({"cache_asked": 4, "cache_hits": 1})
    {'cache_hit_rate': 0.25}
    """
    found = {}
    for name, (part, whole) in RATIOS.items():
        if counts.get(whole):
            found[name] = counts.get(part, 0) / counts[whole]
    return found


def watch_benefit(session: Session, replay: Replay, variant: Variant) -> list[str]:
    """Whether what justified the variant is still saved; alerts (`benefit_erosion`) where it is not, twice in a row.

    The first pair of replays of the variant and its parent on one golden version says what is saved: latency, time to
    first token, energy, memory, cost, each a tenth less at least. In later pairs half of it must be left; where it is
    in two in a row again, the alert's part ends.

    Returns:
        The savings that no longer hold in this replay.
    """
    parent = _newest(session, replay, variant.parent_id)
    if parent is None or replay.state != "done":
        return []
    base = session.get_one(Variant, parent.variant_id)
    gains = {
        name: float(parent.measured[name]) / float(replay.measured[name])
        for name in SAVINGS
        if parent.measured.get(name) and replay.measured.get(name)
    }
    justified = variant.measured.get("justified")
    if justified is None:
        saved = {name: gain for name, gain in gains.items() if gain >= WORTH}
        variant.measured = {**variant.measured, "justified": saved}
        session.add(variant)
        return []
    eroded = [
        name for name, saved in justified.items() if name in gains and gains[name] < 1 + LEFT * (float(saved) - 1)
    ]
    before = _newest(session, replay, variant.id)
    replay.measured = {**replay.measured, "gains": gains, "eroded": eroded}
    session.add(replay)
    earlier = before.measured.get("eroded", []) if before is not None else []
    twice, part = [name for name in eroded if name in earlier], f"saving:{variant.id}"
    if twice:
        said = ", ".join(f"{name} {justified[name]:.2f}× then, {gains[name]:.2f}× now" for name in twice)
        raise_alerts(
            session, variant.project_id, "benefit_erosion",
            f"benefit_erosion:variant={variant.name},baseline={base.name}",  # as `scheduler.rules` names it
            f"{variant.name} no longer saves what justified it", {"variant": variant.name, "baseline": base.name},
            {"summary": f"Against its parent: {said}.", "variant": variant.name, "gains": gains,
             "justified": justified, "replay": replay.id}, part=part,
        )  # fmt: skip
    elif not eroded and not earlier:
        end_part(session, variant.project_id, part, ACTOR, {
            "says": f"In two replays in a row {variant.name} saves what justified it.", "gains": gains,
            "replay": replay.id,
        })  # fmt: skip
    return eroded


def _newest(session: Session, replay: Replay, variant_id: int | None) -> Replay | None:
    """The newest other finished replay of a variant on the same golden version with the same sampling."""
    if variant_id is None:
        return None
    alike = select(Replay).where(
        Replay.variant_id == variant_id, Replay.golden_version_id == replay.golden_version_id,
        Replay.state == "done", Replay.id != replay.id,
    )  # fmt: skip
    rows = session.exec(alike.order_by(col(Replay.id).desc()).limit(20))
    return next((row for row in rows if row.sampling == replay.sampling and row.measured.get("answers")), None)
