"""Is it still the same model? What the store knows since a change, and what the model answers when it is asked again.

A drift that no switch of variants explains may come from a model that was exchanged behind its name. What was measured
since the change is read first; where that says nothing, a job asks the model some of the golden items that it answered
before the change.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from sqlmodel import Session, col, select

from driftline.acts.evaluators import evaluator_name
from driftline.acts.signals import SIGNALS
from driftline.errors import BadInput
from driftline.moment import now_us
from driftline.protocols import Answered, Generate, LogProbs, Sampling
from driftline.store.engine import reading
from driftline.store.tables import Answer, Generation, GoldenItem, Monitor, Observation, Reading, Replay, Score, Variant
from evaluators.drift import border
from evaluators.drift.cause import SWITCHED
from evaluators.drift.mmd import answers_changed
from evaluators.drift.sameness import Known, looked_at, same_model
from evaluators.scorers import scorer
from scheduler.models import model_of
from scheduler.probes import TOLERANCE, base_of, first_tokens

ITEMS = 40  # golden items asked again
LEAST_PAIRS = 8  # of answers, for the paired test to be able to say anything
BATCH = 8  # items asked together, as a replay asks them
FIXED = frozenset({"external", "recorded"})  # runners with nothing behind them that could be asked or exchanged
RARE = 0.05  # share of a model name before the change below which it is a new one
WEIGHED = "reference_likelihood"


@dataclass(frozen=True, slots=True)
class Look:
    """What is known of a model then and now, and per thing looked at a few words on what that rests on."""

    known: Known = field(default_factory=Known)
    words: Mapping[str, str] = field(default_factory=dict)

    def over(self, older: "Look") -> "Look":
        """This look, with what only the older one knows."""
        mine = {name: value for name, value in asdict(self.known).items() if value is not None}
        return Look(replace(older.known, **mine), {**older.words, **self.words})

    def to_json(self, state: str, **more: Any) -> dict[str, Any]:
        """The verdict with its evidence, as a drift event keeps it."""
        verdict = same_model(self.known)
        looked = [
            {"by": one.by, "verdict": one.verdict, "because": one.because, "rests_on": self.words.get(one.by, "")}
            for one in looked_at(self.known)
        ]
        return {
            "state": state, "verdict": verdict.verdict, "by": verdict.by, "because": verdict.because,
            "looked": looked, "at": now_us(), **more,
        }  # fmt: skip


def moved_of(check: Mapping[str, Any] | None) -> bool | None:
    """What a kept check says of the model's behaviour; None where it does not know.

    Files that are the same acquit nobody: what answers may still be something else.
    """
    if not check or check["verdict"] == "unknown" or (check["verdict"] == "same" and check["by"] == "fingerprint"):
        return None
    return bool(check["verdict"] == "changed")


def is_askable(variant: Variant | None, before: Mapping[str, float], after: Mapping[str, float]) -> bool:
    """Whether the model behind the variant may have been exchanged and can be asked: it runs, and nobody switched."""
    if variant is None or variant.spec.get("runner", "external") in FIXED:
        return False
    known = bool(before and after)  # what jobs measured for a monitor comes from no traffic
    return not known or abs(after.get(variant.name, 0.0) - before.get(variant.name, 0.0)) < SWITCHED


def stored(
    session: Session, monitor: Monitor, variant: Variant, low: int, high: int, sides: Sequence[Sequence[Generation]]
) -> Look:
    """What was measured before the moment `low` and since `high`: replays, observations, names in the records."""
    found = _named(variant, sides)
    then, now = replay_before(session, variant, low), _replay_since(session, variant, high)
    if then is not None and now is not None:
        found = _of_replays(session, then, now).over(found)
    of_route = select(Monitor).where(
        Monitor.project_id == monitor.project_id, Monitor.route == monitor.route,
        col(Monitor.signal).in_(("probes", "border")),
    )  # fmt: skip
    for other in session.exec(of_route):
        found = _of_monitor(session, other, variant, high).over(found)
    return found


def replay_before(session: Session, variant: Variant, moment: int) -> Replay | None:
    """The variant's newest replay that had ended before a moment."""
    done = select(Replay).where(Replay.variant_id == variant.id, Replay.state == "done")
    ended = done.where(col(Replay.finished_at) < moment)
    return session.exec(ended.order_by(col(Replay.id).desc()).limit(1)).first()


def ask_again(variant: Variant, then: Replay | None, watching: Sequence[Monitor]) -> Look:
    """Opens the model, lets it answer and weigh some items of the replay `then` again, and its border inputs.

    Raises:
        DriftlineError: It cannot be opened, or it answers nothing; says why.
    """
    model = model_of(variant)
    found = _bordered(model, variant, watching)
    if then is None:
        return found
    prints = Known(then.fingerprint, model.fingerprint)
    words = {"fingerprint": f"{(then.fingerprint or '')[:12]} then, {model.fingerprint[:12]} now"}
    found = Look(prints, words).over(found)
    with reading() as session:
        rows = session.exec(_answered(then.id).limit(ITEMS)).all()
        weighed = session.exec(_scored([answer.id for _, answer in rows])).all()
        scored = {key: (version, float(value)) for key, version, value in weighed}
    if len(rows) < LEAST_PAIRS:
        return found
    sampling = Sampling(**{**then.sampling, "stop": tuple(then.sampling.get("stop", ()))})
    pairs, problem, apart = [], None, []
    for start in range(0, len(rows), BATCH):
        some = rows[start : start + BATCH]
        made = model.generate([tuple(item.messages) for item, _ in some], sampling)
        problem = problem or next((one.error for one in made if one.error), None)
        pairs += [(a.text, one.text) for (_, a), one in zip(some, made, strict=True) if not one.error]
        apart += _weighed(model, some, scored)
    if len(pairs) < LEAST_PAIRS:
        raise BadInput(f"The model of {variant.name} answered {len(pairs)} of {len(rows)} items asked again: {problem}")
    found = _of_pairs(pairs, f"asked again now, against replay {then.id}").over(found)
    if apart:
        told = f"{sum(apart)} of {len(apart)} expected answers weighed otherwise than in replay {then.id}"
        found = Look(Known(probes_differ=sum(apart) / len(apart)), {"probes": told}).over(found)
    return found


def _named(variant: Variant, sides: Sequence[Sequence[Generation]]) -> Look:
    """What the records call the model: an alias that another model answers now gives itself away."""
    counts = [Counter(row.model for row in side if row.variant_id == variant.id and row.model) for side in sides]
    if not all(counts):
        return Look()
    (then, _), (now, _) = (count.most_common(1)[0] for count in counts)
    if then == now or counts[0][now] > RARE * counts[0].total():
        return Look()
    return Look(Known(then, now), {"fingerprint": f"the records say {then} before, {now} after"})


def _replay_since(session: Session, variant: Variant, moment: int) -> Replay | None:
    done = select(Replay).where(Replay.variant_id == variant.id, Replay.state == "done")
    begun = done.where(col(Replay.started_at) >= moment)
    return session.exec(begun.order_by(col(Replay.id).desc()).limit(1)).first()


def _of_replays(session: Session, then: Replay, now: Replay) -> Look:
    told = f"{(then.fingerprint or '')[:12]} in replay {then.id}, {(now.fingerprint or '')[:12]} in replay {now.id}"
    found = Look(Known(then.fingerprint, now.fingerprint), {"fingerprint": told})
    if then.golden_version_id != now.golden_version_id or then.sampling != now.sampling:
        return found
    old, new = _texts(then.id), _texts(now.id).where(~col(Answer.is_reused))
    sides = [dict(session.exec(query).all()) for query in (old, new)]
    both = sorted(sides[0].keys() & sides[1].keys())[: 10 * ITEMS]
    if len(both) < LEAST_PAIRS:
        return found
    return _of_pairs([(sides[0][key], sides[1][key]) for key in both], f"replays {then.id} and {now.id}").over(found)


def _of_pairs(pairs: Sequence[tuple[str, str]], source: str) -> Look:
    change = answers_changed(*zip(*pairs, strict=True))
    told = f"{change.pairs} pairs, {change.identical} identical, p {change.p_value:.3g}; {source}"
    return Look(Known(answers_changed=change.changed), {"answers": told})


def _of_monitor(session: Session, other: Monitor, variant: Variant, moment: int) -> Look:
    """What a monitor of probes or border inputs has measured of the variant since a moment."""
    measured = select(Observation).where(
        Observation.monitor_id == other.id, Observation.variant_id == variant.id, col(Observation.value).is_not(None),
        Observation.created_at >= moment,
    )  # fmt: skip
    rows = session.exec(measured.order_by(col(Observation.id).desc()).limit(1000)).all()
    if not rows:
        return Look()
    if other.signal == "border":
        since = select(Reading.id).where(Reading.monitor_id == other.id, Reading.block_end >= moment).limit(1)
        judged = other.status == "alarmed" or session.exec(since).first() is not None
        told = {"border": f"monitor {other.name}"}
        return Look(Known(border_moved=other.status == "alarmed"), told) if judged else Look()
    values = [row.value for row in rows if row.run == rows[0].run and row.value is not None]
    told = {"probes": f"{sum(values):.0f} of {len(values)} in run {rows[0].run} of monitor {other.name}"}
    return Look(Known(probes_differ=sum(values) / len(values)), told)


def _bordered(model: Generate, variant: Variant, watching: Sequence[Monitor]) -> Look:
    """Border inputs that a monitor has found, asked now as on any of its days."""
    for monitor in watching:
        with reading() as session:
            base = base_of(session, monitor, variant)
            measured = select(Observation.item, Observation.value).where(
                Observation.monitor_id == monitor.id, Observation.variant_id == variant.id,
                col(Observation.value).is_not(None),
            )  # fmt: skip
            days: dict[str, list[float]] = {name: [] for name in base}
            for name, value in session.exec(measured):
                days.setdefault(name, []).append(float(value or 0.0))
        if base:
            prompts = {name: detail["prompt"] for name, detail in base.items()}
            now = border.counts(first_tokens(model), list(prompts.values()), border.DAILY)
            apart = [border.distance(detail["counts"], now[prompts[name]]) for name, detail in base.items()]
            moved = border.moved([days[name] for name in base], apart, margin=SIGNALS["border"].margin)
            told = f"{len(base)} prompts of monitor {monitor.name}, asked now; {sum(apart) / len(apart):.2f} apart"
            return Look(Known(border_moved=moved), {"border": told})
    return Look()


def _weighed(model: Generate, some: Sequence[Any], scored: Mapping[int, tuple[str, float]]) -> list[bool]:
    """Per item with an expected answer that was weighed then: whether the model weighs it otherwise now."""
    if not scored or not isinstance(model, LogProbs):
        return []
    judge = scorer(WEIGHED, model=model)
    then = [scored.get(answer.id) for _, answer in some]
    now = judge([Answered(tuple(item.messages), answer.text, tuple(item.expected)) for item, answer in some])
    return [
        abs(float(one.value or 0.0) - was[1]) > TOLERANCE * max(was[1], 1e-9)
        for was, one in zip(then, now, strict=True) if was is not None and was[0] == judge.version
    ]  # fmt: skip


def _answered(replay_id: int) -> Any:
    """Items and their first answers of a replay, in the order in which they were answered."""
    return (
        select(GoldenItem, Answer)
        .join(Answer, col(Answer.item_id) == GoldenItem.id)
        .where(Answer.replay_id == replay_id, Answer.repeat == 0, col(Answer.error).is_(None))
        .order_by(col(Answer.id))
    )


def _texts(replay_id: int) -> Any:
    return select(Answer.item_id, Answer.text).where(
        Answer.replay_id == replay_id, Answer.repeat == 0, col(Answer.error).is_(None)
    )


def _scored(answers: Sequence[int]) -> Any:
    """By answer, the version and the value of the likelihood its expected answer had."""
    return select(Score.answer_id, Score.version, Score.value).where(
        Score.evaluator == evaluator_name(WEIGHED), col(Score.answer_id).in_(answers), col(Score.value).is_not(None)
    )
