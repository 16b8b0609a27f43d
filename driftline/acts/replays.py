"""Asking for a replay of a golden version on a variant, and for comparisons of replays."""

import math
from collections.abc import Mapping
from typing import Any

from sqlmodel import Session, col, func, select

from driftline.acts.budgets import Budget
from driftline.acts.evaluators import evaluator_name, read_evaluator
from driftline.acts.prices import model_name, price_of
from driftline.errors import BadInput, Conflict
from driftline.moment import now_us
from driftline.queue import request
from driftline.store.claims import claim
from driftline.store.projects import audit
from driftline.store.tables import Answer, GoldenItem, GoldenVersion, Job, Replay, Score, Variant

DEFAULT_SCORERS = ("reference_likelihood", "token_f1", "contains")
WEIGHING = ("transformers", "llama_cpp", "onnx")  # runners whose models say how likely a given answer is
UNWEIGHED = ("cascade",)  # steps after which nothing says so: who answers depends on what the small one drew
DEFAULT_SAMPLING: dict[str, Any] = {"max_tokens": 24, "temperature": 0.0, "seed": 0}
DEFAULT_MARGIN = 0.02
STOP_ALPHA = 0.001  # an early verdict of either kind is false with this probability at most
BATCH = 8  # items answered together, and stored in one transaction: so many at least,
LARGEST_BATCH = 64  # and at most, where the variant's runner answers more in one batch
REMOTE = ("openai", "anthropic")  # runners that wait for somebody else's machine: several workers are faster
SHARDS = 8
CANARY = 40  # items of a standing baseline that are answered again
PLANNED = ("scorers", "sampling", "margin", "repeats", "budget", "early_stop", "shards", "reuse")  # what may be chosen
WHOLE = ("transformers", "llama_cpp", "onnx", "recorded")  # runners whose fingerprint covers all that answers


def request_replay(
    session: Session,
    project_id: int,
    variant: Variant,
    version: GoldenVersion,
    actor: str,
    *,
    scorers: list[str] | None = None,
    sampling: dict[str, Any] | None = None,
    baseline: Variant | None = None,
    margin: float = DEFAULT_MARGIN,
    repeats: int = 1,
    budget: Mapping[str, Any] | None = None,
    early_stop: bool = False,
    shards: int | None = None,
    reuse: bool | None = None,
    not_before: int | None = None,
) -> Replay:
    """A queued replay; with a baseline it is compared with that variant's replay of the same version when done.

    The baseline's newest finished replay with the same sampling and scorers is used, else one is asked for as well.
    Where that replay is of a remote model, which can change behind its name, a few of its items are asked for again.
    Items marked "train" are left out: nothing is judged on what it was optimized on.

    Args:
        scorers: Names, each perhaps with a configuration (`read_evaluator`); the first decides.
        sampling: Fields of `Sampling` that differ from the default.
        baseline: Whom it is compared with.
        margin: The largest loss that does not matter.
        repeats: Answers drawn per item; above 1 needs a temperature above 0.
        budget: As `Budget` takes it; each replay may spend so much.
        early_stop: Ends the replay when the first scorer's evidence decides; needs a baseline.
        shards: Parts that different workers may answer at once; by default several where the model is remote.
        reuse: Takes answers over from an earlier replay of the same fingerprint; by default where temperature is 0 and
            the fingerprint covers the weights, which that of a remote model does not.
        not_before: The moment at which it begins, microseconds; at once without.

    Raises:
        BadInput: A variant that Driftline cannot run, because traffic registered its name without a recipe; repeats of
            what cannot differ; an early stop without a baseline; a budget or margin that is none; no item that judges.
    """
    chosen_sampling = DEFAULT_SAMPLING | (sampling or {})
    chosen_scorers = list(scorers or scorers_for(variant, *filter(None, [baseline])))
    chosen_scorers = list(dict.fromkeys(chosen_scorers))
    for name in chosen_scorers:
        read_evaluator(name)
    names = [evaluator_name(name) for name in chosen_scorers]
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise BadInput(
            f"Scorer {twice} is named twice with different configurations, and scores are kept under its name. Replay "
            "once for each; answers that are known are not asked for again."
        )
    greedy = float(chosen_sampling["temperature"]) == 0.0
    if repeats < 1 or (repeats > 1 and greedy):
        raise BadInput(
            f"{repeats} repeats at temperature {chosen_sampling['temperature']}: the same prompt gives the same answer "
            "there, so a repeat adds nothing. Ask for 1, or sample at a temperature above 0."
        )
    if early_stop and (baseline is None or baseline.id == variant.id):
        raise BadInput("A replay can stop early only where it is compared with a baseline; name one.")
    if early_stop and _weighs_differently(session, version.id):
        raise BadInput("The items of this version weigh differently, so no early verdict can be had; replay all of it.")
    if not 0.0 <= margin < 1.0:
        raise BadInput(f"The margin is {margin}; it must be at least 0 and below 1, such as 0.02 for 2 points of 100.")
    Budget.of(budget or {})
    plan: dict[str, Any] = {"budget": dict(budget or {}), "sampling": chosen_sampling, "scorers": chosen_scorers}
    plan |= {"repeats": repeats, "shards": shards, "reuse": reuse, "not_before": not_before}
    beside = None
    if baseline is not None and baseline.id != variant.id:
        beside = _standing(session, baseline, version, plan) or _queue(
            session, project_id, baseline, version, actor, plan
        )
    stop = {"baseline_replay_id": beside.id, "margin": margin, "alpha": STOP_ALPHA} if early_stop and beside else None
    replay = _queue(session, project_id, variant, version, actor, plan, stop)
    if beside is not None:
        canary = _canary(session, baseline, version, actor, beside, plan) if baseline is not None else None
        request_comparison(session, replay, beside, margin, canary)
    return replay


def scorers_for(*variants: Variant) -> list[str]:
    """The default scorers by which all of these variants can be judged, the one that decides first."""
    weigh = all(_weighs(variant.spec) for variant in variants)
    return [name for name in DEFAULT_SCORERS if weigh or name != "reference_likelihood"]


def _weighs(spec: dict[str, Any]) -> bool:
    steps = {step["method"] for step in spec.get("chain", [])}
    if spec.get("runner") == "recorded":
        return bool(spec.get("runner_config", {}).get("logprobs"))
    return spec.get("runner") in WEIGHING and not steps.intersection(UNWEIGHED)


def request_comparison(
    session: Session, candidate: Replay, baseline: Replay, margin: float, canary: Replay | None = None
) -> Job:
    """A job that compares two replays with each scorer once both are done.

    A `canary` is some of the baseline's items answered again now: where it differs, the baseline is replayed anew.

    Raises:
        Conflict: They ran on different golden versions; says what to do.
    """
    if candidate.golden_version_id != baseline.golden_version_id:
        raise Conflict(
            f"Replay {candidate.id} ran on golden version {candidate.golden_version_id}, replay {baseline.id} on "
            f"{baseline.golden_version_id}: only answers to the same items can "
            "be compared. Replay one of them again on the version of the other."
        )
    return request(
        session, "comparison.make", "drift",
        {"candidate_replay_id": candidate.id, "baseline_replay_id": baseline.id, "margin": margin,
         "canary_replay_id": canary.id if canary is not None else None},
        project_id=candidate.project_id, subject=f"replay:{candidate.id}",
        dedup_key=f"compare:{candidate.id}:{baseline.id}:{margin}", max_attempts=1000,
    )  # fmt: skip


def shared_scorers(candidate: Replay, baseline: Replay) -> list[str]:
    """The evaluators that judged both, by name: what a comparison of the two compares."""
    return [evaluator_name(name) for name in candidate.scorers if name in baseline.scorers]


def newest_scores(session: Session, variant: Variant, version: GoldenVersion, evaluator: str) -> dict[int, float]:
    """By item, what the evaluator made of the variant's newest finished replay of the version.

    Raises:
        BadInput: There is no such replay, or the evaluator scored nothing of it.
    """
    done = select(Replay).where(
        Replay.variant_id == variant.id, Replay.golden_version_id == version.id, Replay.state == "done"
    )
    replay = session.exec(done.order_by(col(Replay.id).desc()).limit(1)).first()
    scored = select(Answer.item_id, Score.value).join(Score, col(Score.answer_id) == col(Answer.id))
    of_replay = scored.where(Answer.replay_id == (replay.id if replay else -1), Score.evaluator == evaluator)
    found = {item: value for item, value in session.exec(of_replay) if value is not None}
    if not found:
        raise BadInput(
            f"No replay of {variant.name} on this golden version was scored by {evaluator}. Replay it first."
        )
    return found


def cancel_replay(session: Session, replay: Replay, actor: str) -> None:
    """Stops a replay that has not finished; what was answered stays.

    Raises:
        Conflict: It has finished.
    """
    unfinished = (Replay.id == replay.id, col(Replay.state).in_(("queued", "running")))
    taken = claim(session, Replay, *unfinished, state="cancelled", finished_at=now_us())
    session.refresh(replay)
    if not taken:
        raise Conflict(f"Replay {replay.id} is {replay.state} and cannot be cancelled.")
    audit(session, replay.project_id, actor, "replay.cancelled", f"replay:{replay.id}", {})


def standing_replay(
    session: Session, variant: Variant, version: GoldenVersion, sampling: dict[str, Any] | None, scorers: list[str]
) -> Replay | None:
    """The newest replay of the version on the variant that was asked the same way and judged by these scorers."""
    plan = {"sampling": DEFAULT_SAMPLING | (sampling or {}), "scorers": scorers, "repeats": 1, "budget": {}}
    return _standing(session, variant, version, plan)


def judging_items(session: Session, version_id: int) -> int:
    """How many items of a version judge: all that are not marked for training."""
    of_version = select(func.count(col(GoldenItem.id))).where(
        GoldenItem.version_id == version_id, GoldenItem.split == "test"
    )
    return session.exec(of_version).one()


def replay_again(session: Session, replay: Replay, actor: str) -> Replay:
    """The same replay asked for once more."""
    variant, version = (
        session.get_one(Variant, replay.variant_id),
        session.get_one(GoldenVersion, replay.golden_version_id),
    )
    return _queue(session, replay.project_id, variant, version, actor, _plan_of(replay))


def _plan_of(replay: Replay) -> dict[str, Any]:
    return {
        "budget": replay.plan.get("budget", {}), "sampling": replay.sampling, "scorers": replay.scorers,
        "repeats": replay.repeats, "shards": None, "reuse": False, "not_before": None,
    }  # fmt: skip


def _canary(
    session: Session, baseline: Variant, version: GoldenVersion, actor: str, standing: Replay, plan: dict[str, Any]
) -> Replay | None:
    """Some of a finished replay's items answered again, where its model may have changed since; None elsewhere."""
    remote = baseline.spec.get("runner") in REMOTE
    if not remote or standing.state != "done" or float(plan["sampling"]["temperature"]) > 0.0:
        return None
    told = _plan_of(standing) | {"budget": {"calls": CANARY}, "shards": 1, "not_before": plan["not_before"]}
    return _queue(session, standing.project_id, baseline, version, actor, told)


def _weighs_differently(session: Session, version_id: int) -> bool:
    extremes = select(func.min(col(GoldenItem.weight)), func.max(col(GoldenItem.weight)))
    low, high = session.exec(extremes.where(GoldenItem.version_id == version_id, GoldenItem.split == "test")).one()
    return bool(low != high)


def _standing(session: Session, variant: Variant, version: GoldenVersion, plan: dict[str, Any]) -> Replay | None:
    of_both = select(Replay).where(Replay.variant_id == variant.id, Replay.golden_version_id == version.id)
    usable = of_both.where(col(Replay.state).in_(["done", "queued", "running"]), col(Replay.stopped).is_(None))
    for replay in session.exec(usable.order_by(col(Replay.id).desc())):
        alike = replay.sampling == plan["sampling"] and replay.repeats == plan["repeats"]
        bounded = replay.state != "done" and replay.plan.get("budget", {}) != plan["budget"]
        if alike and not bounded and set(plan["scorers"]) <= set(replay.scorers):
            return replay
    return None


def batch_size(variant: Variant) -> int:
    """How many items of a replay the variant answers together: what its runner batches, within bounds."""
    runs: Mapping[str, Any] = variant.spec.get("runner_config") or {}
    return min(max(BATCH, int(runs.get("batch_size", BATCH))), LARGEST_BATCH)


def _queue(
    session: Session, project_id: int, variant: Variant, version: GoldenVersion, actor: str, plan: dict[str, Any],
    early_stop: dict[str, Any] | None = None,
) -> Replay:  # fmt: skip
    runner = variant.spec.get("runner", "external")
    if runner == "external":
        raise BadInput(
            f"The variant {variant.name} is known from traffic only; Driftline cannot run it. "
            f"Say how with `driftline variant add {variant.name} …`."
        )
    n_items = judging_items(session, version.id)
    if not n_items:
        raise BadInput("All items of this golden version are marked for training; none is left to judge by.")
    size = batch_size(variant)
    batches = math.ceil(n_items / size)
    shards = plan["shards"] or (SHARDS if runner in REMOTE else 1)
    reuse = plan["reuse"]
    if reuse is None:
        reuse = runner in WHOLE and float(plan["sampling"]["temperature"]) == 0.0
    if "usd" in plan["budget"] and price_of(session, project_id, variant) is None:
        raise BadInput(
            f"Nobody knows what {model_name(variant)} costs, so a budget in usd cannot be kept. "
            f"Say it with `driftline price set {model_name(variant)} --input USD --output USD` (per million tokens)."
        )
    replay = Replay(
        project_id=project_id, variant_id=variant.id, golden_version_id=version.id, sampling=plan["sampling"],
        scorers=plan["scorers"], n_items=n_items, repeats=plan["repeats"], requested_by=actor, created_at=now_us(),
        plan={
            "budget": plan["budget"], "shards": min(shards, batches), "reuse": reuse, "batch": size,
            **({"early_stop": early_stop} if early_stop else {}),
        },
    )  # fmt: skip
    session.add(replay)
    session.flush()
    for shard in range(replay.plan["shards"]):
        request(
            session, "replay.run", "replay", {"replay_id": replay.id, "shard": shard}, project_id=project_id,
            subject=f"replay:{replay.id}", dedup_key=f"replay:{replay.id}:{shard}", max_attempts=20,
            due_at=plan["not_before"],
            total=len(range(shard, batches, replay.plan["shards"])) * size if replay.plan["shards"] > 1 else n_items,
        )  # fmt: skip
    audit(session, project_id, actor, "replay.requested", f"replay:{replay.id}", {"variant": variant.name})
    return replay


def why_unscored(session: Session, replay_id: int, evaluator: str | None = None) -> str | None:
    """The first reason why an answer of a replay has no score, of one scorer or of any; None where all have one."""
    of_replay = select(Score.because).join(Answer, col(Score.answer_id) == col(Answer.id))
    unscored = of_replay.where(Answer.replay_id == replay_id, col(Score.value).is_(None))
    if evaluator is not None:
        unscored = unscored.where(Score.evaluator == evaluator)
    return session.exec(unscored.limit(1)).first()
