"""What jobs ask of models for their monitors: probes, border inputs, anchors of a judge, pairs of golden answers."""

from collections.abc import Callable, Sequence
from typing import Any

from sqlmodel import Session, col, select

from driftline.acts.golden import find_version
from driftline.errors import BadInput, DriftlineError
from driftline.moment import SECOND, now_us
from driftline.protocols import Answered, Generate, Sampling
from driftline.store.claims import claim
from driftline.store.engine import reading, writing
from driftline.store.tables import Answer, GoldenItem, GoldenVersion, Monitor, Observation, Replay, Route, Variant
from evaluators.drift import border
from evaluators.scorers import scorer
from scheduler.models import model_of, weigher_of
from scheduler.observations import add_run, newest
from scheduler.work import Work

Item = tuple[str, float | None, dict[str, Any]]  # name, value, detail
TOLERANCE = 0.01  # nats a token, and share of first choices: below it is the noise of arithmetic
CANDIDATES = 400  # prompts tried for the border
ONE_TOKEN = Sampling(max_tokens=1, temperature=0.0)


def observe(work: Work) -> dict[str, Any]:
    """Measures once for args["monitor_id"], where it is due; what stands in the way is told on the monitor."""
    with reading() as session:
        monitor = session.get_one(Monitor, work.args["monitor_id"])
        if not is_due(session, monitor):
            return {"measured": 0}
        last = newest(session, monitor)
        variant = _asked(session, monitor)
    try:
        run, items = MEASURES[monitor.signal](monitor, variant, last)
    except DriftlineError as problem:
        with writing() as session:
            work.hold(session)
            claim(session, Monitor, Monitor.id == monitor.id, pending={**monitor.pending, "problem": problem.message})
        return {"measured": 0, "problem": problem.message}
    with writing() as session:
        work.hold(session)
        stored = bool(items) and add_run(session, monitor, run, items, variant.id if variant else None)
    return {"measured": len(items) if stored else 0, "run": run}


def is_due(session: Session, monitor: Monitor) -> bool:
    """Whether a monitor's next run is due."""
    if monitor.status == "paused" or monitor.signal not in MEASURES:
        return False
    last = newest(session, monitor)
    return last is None or now_us() - last.created_at >= float(monitor.params["every_s"]) * SECOND


def _asked(session: Session, monitor: Monitor) -> Variant | None:
    """The variant that the monitor is about: its own, else the one in production; for a judge the baseline."""
    if monitor.variant_id is not None:
        return session.get_one(Variant, monitor.variant_id)
    of_route = select(Route).where(Route.project_id == monitor.project_id, Route.name == monitor.route)
    route = session.exec(of_route).first()
    if route is None:
        return None
    key = route.baseline_variant_id if monitor.signal == "judge" else route.production_variant_id
    return session.get(Variant, key) if key is not None else None


def _needed(monitor: Monitor, variant: Variant | None) -> Variant:
    if variant is None:
        raise BadInput(f"No variant answers the route {monitor.route}; promote one, and it will be asked.")
    return variant


def _probes(monitor: Monitor, variant: Variant | None, last: Observation | None) -> tuple[int, list[Item]]:
    """Teacher-forced: how likely given answers are to the model, and how many of their tokens it would choose first."""
    asked = _needed(monitor, variant)
    with reading() as session:
        base = base_of(session, monitor, asked)
        given = _given(session, monitor, asked)
    if not given:
        raise BadInput(f"The golden set {monitor.source} has no answers to weigh: no expected ones and no replay yet.")
    weighed = weigher_of(asked).log_probs([(messages, text) for _, messages, text in given])
    items: list[Item] = []
    for (name, _, _), one in zip(given, weighed, strict=True):
        if not one.logprobs:
            continue
        now = {"logprob": sum(one.logprobs) / len(one.logprobs), "top1": sum(one.top1) / len(one.top1)}
        then = base.get(name)
        apart = None if then is None else max(abs(now[key] - then[key]) for key in ("logprob", "top1"))
        items.append((name, None if apart is None else float(apart > TOLERANCE), now))
    return _next(last), items


def _given(session: Session, monitor: Monitor, variant: Variant) -> list[tuple[str, Any, str]]:
    """Golden items with an answer: the expected one, else what the variant answered first."""
    version = find_version(session, monitor.project_id, monitor.source)
    items = _items(session, version, int(monitor.params["items"]))
    of_variant = select(Replay.id).where(
        Replay.variant_id == variant.id, Replay.golden_version_id == version.id, Replay.state == "done"
    )
    first = session.exec(of_variant.order_by(col(Replay.id)).limit(1)).first()
    answers = dict(session.exec(select(Answer.item_id, Answer.text).where(Answer.replay_id == first)).all())
    found = []
    for item in items:
        text = item.expected[0] if item.expected else answers.get(item.id, "")
        if text:
            found.append((str(item.id), tuple(item.messages), text))
    return found


def _border(monitor: Monitor, variant: Variant | None, last: Observation | None) -> tuple[int, list[Item]]:
    """First tokens of border inputs: the first run finds the inputs and takes their reference."""
    ask = first_tokens(model_of(_needed(monitor, variant)))
    with reading() as session:
        base = base_of(session, monitor, _needed(monitor, variant))
    if not base:
        wanted = int(monitor.params["items"])
        prompts = border.discover(ask, border.candidates(CANDIDATES), wanted=wanted)
        reference = border.counts(ask, prompts, border.REFERENCE)
        return _next(last), [
            (str(place), None, {"prompt": prompt, "counts": dict(reference[prompt])})
            for place, prompt in enumerate(prompts)
        ]
    prompts = [detail["prompt"] for detail in base.values()]
    now = border.counts(ask, prompts, border.DAILY)
    return _next(last), [
        (name, border.distance(detail["counts"], now[detail["prompt"]]), {"counts": dict(now[detail["prompt"]])})
        for name, detail in base.items()
    ]


def _judge(monitor: Monitor, variant: Variant | None, last: Observation | None) -> tuple[int, list[Item]]:
    """Anchors: golden items whose expected answer people have labelled (the tag `label`, 0 to 1), judged anew."""
    evaluator, _, golden = monitor.source.partition("@")
    if not golden:
        raise BadInput(f"A judge monitor's source is EVALUATOR@GOLDEN, such as judge@anchors; got {monitor.source!r}.")
    with reading() as session:
        items = _items(session, find_version(session, monitor.project_id, golden), int(monitor.params["items"]))
    anchors = [(item, _label(item)) for item in items if item.expected and "label" in item.tags]
    if not anchors:
        raise BadInput(f"The golden set {golden} has no anchors: items with an expected answer and a tag `label`.")
    judge = scorer(evaluator, model=model_of(variant) if variant is not None else None)
    judged = judge([
        Answered(tuple(item.messages), item.expected[0], (), rubric=item.rubric, tags=item.tags) for item, _ in anchors
    ])  # fmt: skip
    found: list[Item] = []
    for (item, label), one in zip(anchors, judged, strict=True):
        if one.value is not None:
            found.append((str(item.id), abs(one.value - label), {"judge": one.value, "label": label}))
    return _next(last), found


def _label(item: GoldenItem) -> float:
    try:
        label = float(item.tags["label"])
    except ValueError:
        label = -1.0
    if not 0 <= label <= 1:
        raise BadInput(f"The label of golden item {item.id} is {item.tags['label']!r}; it is a number from 0 to 1.")
    return label


def _answers(monitor: Monitor, variant: Variant | None, last: Observation | None) -> tuple[int, list[Item]]:
    """Pairs of golden answers: those of the variant's first replay and of its newest. A replay is paired once."""
    asked = _needed(monitor, variant)
    with reading() as session:
        version = find_version(session, monitor.project_id, monitor.source)
        of_variant = select(Replay).where(
            Replay.variant_id == asked.id, Replay.golden_version_id == version.id, Replay.state == "done"
        )
        replays = session.exec(of_variant.order_by(col(Replay.id))).all()
        if len(replays) < 2 or (last is not None and replays[-1].id <= last.run):
            return 0, []
        sides = [
            dict(session.exec(select(Answer.item_id, Answer.text).where(Answer.replay_id == replay.id)).all())
            for replay in (replays[0], replays[-1])
        ]
    both = sorted(sides[0].keys() & sides[1].keys())[: int(monitor.params["items"])]
    return replays[-1].id, [
        (str(key), float(sides[0][key] != sides[1][key]), {"before": sides[0][key], "now": sides[1][key]})
        for key in both
    ]


def first_tokens(model: Generate) -> border.Ask:
    """Asks the model for the first token of each prompt.

    Raises (when asked):
        BadInput: It did not answer one of them.
    """

    def ask(prompts: Sequence[str]) -> list[str]:
        made = model.generate([({"role": "user", "content": prompt},) for prompt in prompts], ONE_TOKEN)
        failed = next((one.error for one in made if one.error), None)
        if failed is not None:
            raise BadInput(f"The endpoint did not answer a border input: {failed}")
        return [one.text for one in made]

    return ask


def base_of(session: Session, monitor: Monitor, variant: Variant) -> dict[str, dict[str, Any]]:
    """What the newest run without values measured of this variant: later ones are compared with it.

    A variant that took another's place has a base of its own: a switch is known and is no silent change.
    """
    of_variant = select(Observation).where(
        Observation.monitor_id == monitor.id, Observation.variant_id == variant.id, col(Observation.value).is_(None)
    )
    return {row.item: row.detail for row in session.exec(of_variant.order_by(col(Observation.id)))}


def _items(session: Session, version: GoldenVersion, most: int) -> Sequence[GoldenItem]:
    of_version = select(GoldenItem).where(GoldenItem.version_id == version.id).order_by(col(GoldenItem.position))
    return session.exec(of_version.limit(most)).all()


def _next(last: Observation | None) -> int:
    return last.run + 1 if last is not None else 1


Measure = Callable[[Monitor, Variant | None, Observation | None], tuple[int, list[Item]]]
MEASURES: dict[str, Measure] = {"probes": _probes, "border": _border, "judge": _judge, "answers": _answers}
