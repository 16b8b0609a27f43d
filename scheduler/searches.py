"""Searching: children of a variant tried on a golden training split, the best of them declared.

A space is a list of steps. Each is a method with its config, in which a value may be `{"low", "high"}` (with `step` or
`log`) or `{"choices": […]}`; `optional` steps may be left out. `prompt` instead of a method searches instructions and
examples: `{"prompt": {"instructions": […], "shots": [0, 2, 4], "frames": […]}}`, its examples drawn from items of the
training split that do not judge. `sampling` ranges over temperature and the like.
"""

import random
import statistics
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from sqlmodel import col, select

from driftline.acts.variants import declare
from driftline.errors import BadInput, DriftlineError
from driftline.names import name_after
from driftline.protocols import Answered, Sampling, Score
from driftline.store.engine import reading, writing
from driftline.store.tables import GoldenItem, Variant
from evaluators.scorers import scorer
from scheduler.models import cache, spec_of
from scheduler.work import Work
from variants.build import build
from variants.energy import metered
from variants.lookup import need
from variants.open import open_variant
from variants.recipe import Spec

BATCH = 8
INSTRUCTIONS = (
    "Answer the question.",
    "Answer in as few words as possible.",
    "Answer with the exact name, number or phrase that is asked for, and nothing else.",
    "Think about what is asked, then give only the answer.",
)
DIRECTIONS: dict[str, Any] = {"quality": "maximize"}  # the others are to be small
Suggest = Callable[[str, Mapping[str, Any]], Any]


def search(work: Work) -> dict[str, Any]:
    """Runs args["trials"] trials; the result has all of them, the best and the variants declared for those."""
    need("optuna", "Searching variants", "pip install 'driftline[scheduler]'")
    import optuna

    args = work.args
    with reading() as session:
        parent = session.get_one(Variant, args["variant_id"])
        of_version = select(GoldenItem).where(
            GoldenItem.version_id == args["version_id"], GoldenItem.split == "train", col(GoldenItem.expected) != []
        )
        items = [item for item in session.exec(of_version.order_by(GoldenItem.content_hash)) if item.expected]
    if len(items) < 4:
        raise BadInput(
            f"The golden version has {len(items)} items with an expected answer in its training split; a search needs "
            "at least 4. Give some items `split: train`: those that judge variants must not choose them."
        )
    random.Random(args["seed"]).shuffle(items)
    judging, drawn = items[: min(args["items"], max(2, len(items) * 3 // 4))], items
    shots = [item for item in drawn if item not in judging]
    trial_of = Trial(spec_of(parent), args["space"], judging, shots, scorer(args["scorer"]))
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(
        directions=[DIRECTIONS.get(name, "minimize") for name in args["objectives"]],
        sampler=_sampler(args["sampler"], args["seed"]),
        pruner=optuna.pruners.HyperbandPruner(1, len(judging)) if args["sampler"] == "hyperband" else None,
    )
    tried: list[dict[str, Any]] = []
    for number in range(args["trials"]):
        trial = study.ask()
        work.progress(number, args["trials"], f"trial {number + 1} of {args['trials']}")
        try:
            found = trial_of.run(trial, prune=args["sampler"] == "hyperband")
        except optuna.TrialPruned:
            study.tell(trial, state=optuna.trial.TrialState.PRUNED)
            tried.append({"trial": number, "state": "pruned", "params": trial.params})
        except DriftlineError as wrong:
            study.tell(trial, state=optuna.trial.TrialState.FAIL)
            tried.append({"trial": number, "state": "failed", "params": trial.params, "error": wrong.message})
        else:
            study.tell(trial, [found[name] for name in args["objectives"]])
            tried.append({"trial": number, "state": "done", "params": trial.params, **found})
        work.progress(number + 1, args["trials"])
    done = {one["trial"]: one for one in tried if one["state"] == "done"}
    if not done:
        raise BadInput(f"No trial came to an end. The first failed: {tried[0].get('error', 'pruned')}")
    best = sorted({trial.number for trial in study.best_trials} & done.keys())
    with writing() as session:
        work.hold(session)
        for number in best:
            one = done[number]
            name = f"{name_after(parent.name)}-search-{work.job_id}-{number}"
            above = session.get_one(Variant, parent.id)
            one["variant"] = declare(session, parent.project_id, name, one["spec"], args["actor"], above).name
    return {"trials": tried, "best": best, "judged_by": args["scorer"], "items": len(judging)}


def _sampler(name: str, seed: int) -> Any:
    import optuna

    if name == "random":
        return optuna.samplers.RandomSampler(seed=seed)
    return optuna.samplers.TPESampler(seed=seed)


class Trial:
    """What every trial of a search shares: the parent, the space, the items that judge and those that may be shown."""

    def __init__(
        self,
        parent: Spec,
        space: Mapping[str, Any],
        judging: Sequence[GoldenItem],
        shots: Sequence[GoldenItem],
        judge: Score,
    ) -> None:
        unknown = set(space) - {"steps", "sampling"}
        if unknown or not (space.get("steps") or space.get("sampling")):
            raise BadInput(f"A space has steps (a list), sampling, or both; got {', '.join(space) or 'nothing'}.")
        self.parent, self.space = parent, space
        self.judging, self.shots, self.judge = judging, shots, judge

    def run(self, trial: Any, prune: bool) -> dict[str, Any]:
        """Builds and judges one child; its figures and its spec.

        Raises:
            TrialPruned: It does worse than others did after as many items.
        """
        import optuna

        def suggest(name: str, said: Mapping[str, Any]) -> Any:
            return _suggested(trial, name, said)

        spec = self.child(suggest)
        sampling = Sampling(**{"max_tokens": 24, **_chosen("sampling", self.space.get("sampling", {}), suggest)})
        built = build(spec, cache())
        model = open_variant(spec, cache())
        scores: list[float] = []
        latencies: list[float] = []
        with metered() as spent:
            for first in range(0, len(self.judging), BATCH):
                batch = self.judging[first : first + BATCH]
                answers = model.generate([tuple(item.messages) for item in batch], sampling)
                judged = [
                    Answered(tuple(item.messages), done.text, tuple(item.expected), item.rubric, item.tags, done.error)
                    for item, done in zip(batch, answers, strict=True)
                ]
                scores += [one.value or 0.0 for one in self.judge(judged)]
                latencies += [done.latency_ms for done in answers]
                if prune:
                    trial.report(statistics.mean(scores), len(scores))
                    if trial.should_prune():
                        raise optuna.TrialPruned
        return {
            "quality": statistics.mean(scores),
            "latency_ms": statistics.median(latencies),
            "bytes_stored": float(built.measured.get("packed_bytes", built.bytes_stored)),
            "joules_per_answer": spent.joules / len(scores),
            "sampling": {"max_tokens": sampling.max_tokens, "temperature": sampling.temperature},
            "spec": spec.to_json(),
        }

    def child(self, suggest: Suggest) -> Spec:
        """The parent and the steps of one trial."""
        spec = self.parent
        for place, step in enumerate(self.space.get("steps", [])):
            if "prompt" in step:
                config = self._prompt(place, step["prompt"] or {}, suggest)
                spec = spec.then("prompt_template", **config)
                continue
            left_out = step.get("optional") and not suggest(f"{place} {step['method']}?", {"choices": [True, False]})
            if not left_out:
                config = _chosen(f"{place} {step['method']}", step.get("config", {}), suggest)
                spec = spec.then(step["method"], **config)
        return spec

    def _prompt(self, place: int, said: Mapping[str, Any], suggest: Suggest) -> dict[str, Any]:
        instructions = list(said.get("instructions", INSTRUCTIONS))
        config: dict[str, Any] = {"system": instructions[suggest(f"{place} instruction", _index(instructions))]}
        counts = [count for count in said.get("shots", [0, 2, 4]) if count <= len(self.shots)]
        count = suggest(f"{place} shots", {"choices": counts or [0]})
        if count:
            first = suggest(f"{place} first shot", {"low": 0, "high": len(self.shots) - count})
            shown = self.shots[first : first + count]
            config["shots"] = [[item.messages[-1]["content"], item.expected[0]] for item in shown]
        frames = list(said.get("frames", ["{prompt}"]))
        config["user"] = frames[suggest(f"{place} frame", _index(frames))]
        return config


def _index(among: Sequence[Any]) -> dict[str, Any]:
    return {"choices": list(range(len(among)))}


def _chosen(name: str, config: Mapping[str, Any], suggest: Suggest) -> dict[str, Any]:
    """A config with its ranges replaced by values."""
    return {
        key: suggest(f"{name} {key}", value) if isinstance(value, dict) and {*value} & {"low", "choices"} else value
        for key, value in config.items()
    }


def _suggested(trial: Any, name: str, said: Mapping[str, Any]) -> Any:
    if "choices" in said:
        return trial.suggest_categorical(name, said["choices"])
    try:
        low, high, step, log = said["low"], said["high"], said.get("step"), bool(said.get("log"))
        if isinstance(low, int) and isinstance(high, int):
            return trial.suggest_int(name, low, high, step=step or 1, log=log)
        return trial.suggest_float(name, low, high, step=step, log=log)
    except (KeyError, TypeError, ValueError) as wrong:
        raise BadInput(f"The range of {name} must have low and high: {wrong}") from wrong
