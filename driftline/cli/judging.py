"""`driftline replay`, `cancel` and `gate`: how good a variant is."""

import traceback
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperCommand

from driftline.cli.say import Json, Project, actor, failed, out, rows

if TYPE_CHECKING:
    from sqlmodel import Session

    from driftline.store.tables import Comparison, Replay

GATE_CODES = {"better": 0, "equivalent": 0, "not_worse": 0, "worse": 1, "undecided": 2}
COULD_NOT_RUN = 3
SHOWN = ("n_to_decide", "n_if_as_seen", "costs", "stopped", "items", "errors", "judge", "bca")  # of the evidence
COLUMNS = ("evaluator", "verdict", "estimate", "low", "high", "n", "better", "worse")

Golden = Annotated[str, typer.Option("--golden", "-g", help="The golden set, NAME or NAME@VERSION.")]
Margin = Annotated[float, typer.Option(help="How much worse still counts as as good.")]
Budgets = Annotated[
    list[str],
    typer.Option("--budget", help="The most each replay may spend: calls=, tokens=, usd=, seconds= or joules=."),
]
EarlyStop = Annotated[bool, typer.Option("--early-stop", help="End the replay as soon as the evidence decides.")]
Repeats = Annotated[int, typer.Option(min=1, help="Answers per item; above 1 needs a temperature above 0.")]
Temperature = Annotated[float | None, typer.Option(min=0, help="Of the answers. Default: 0, the likeliest answer.")]
MaxTokens = Annotated[int | None, typer.Option(min=1, help="Longest answer, in tokens. Default: 24.")]


class ForCI(TyperCommand):
    """A command whose exit codes 1 and 2 are verdicts, so that a call with wrong options exits 3 as well."""

    def make_context(self, *args: Any, **kwargs: Any) -> Any:
        """As usual, with another exit code where the call cannot be understood."""
        try:
            return super().make_context(*args, **kwargs)
        except typer.TyperException as error:
            error.exit_code = COULD_NOT_RUN
            raise


def replay(
    variant: Annotated[str, typer.Argument(help="The variant to replay.")],
    golden: Golden,
    baseline: Annotated[
        str | None, typer.Option("--baseline", "-b", help="Compare with this variant's replay.")
    ] = None,
    margin: Margin = 0.02,
    scorer: Annotated[list[str], typer.Option(help="NAME or NAME:JSON; repeat it, the one that decides first.")] = [],  # noqa: B006
    budget: Budgets = [],  # noqa: B006
    early_stop: EarlyStop = False,
    repeats: Repeats = 1,
    temperature: Temperature = None,
    max_tokens: MaxTokens = None,
    fresh: Annotated[
        bool, typer.Option("--fresh", help="Answer and time every item anew, also those that an equal replay answered.")
    ] = False,
    project: Project = "default",
    json: Json = False,
) -> None:
    """Replay a golden set on a variant now, and compare (a worker does: `up` or `work` must run)."""
    plan = _plan(budget, early_stop, repeats, temperature, max_tokens)
    if fresh:
        plan["reuse"] = False
    done, judged = _replayed(project, variant, golden, baseline, margin, json, scorer, plan)
    why = f" ({done.stopped})" if done.stopped else ""
    text = f"Replay {done.id} is {done.state}{why}: {done.n_items} items."
    for silent in _silent(project, done, judged) if baseline else []:
        typer.echo(f"driftline: {silent}", err=True)
    if judged:
        rows(json, judged, COLUMNS, text)
    else:
        out(json, {"replay": done.id, "state": done.state, "stopped": done.stopped}, text)


def cancel(
    replay_id: Annotated[int, typer.Argument(help="The replay's number.")],
    project: Project = "default",
    json: Json = False,
) -> None:
    """Cancel a replay; what was answered stays, and the workers go on with other work after the batch in hand."""
    from driftline.acts.replays import cancel_replay
    from driftline.cli.opened import writing_in
    from driftline.errors import NotFound
    from driftline.store.tables import Replay

    with writing_in(project) as (session, owner):
        row = session.get(Replay, replay_id)
        if row is None or row.project_id != owner.id:
            raise NotFound("replay", replay_id)
        cancel_replay(session, row, actor())
    out(json, {"replay": replay_id, "state": "cancelled"}, f"Replay {replay_id} is cancelled.")


def gate(
    candidate: Annotated[str, typer.Argument(help="The variant that wants in.")],
    baseline: Annotated[str, typer.Option("--baseline", "-b", help="The variant it must not be worse than.")],
    golden: Golden,
    margin: Margin = 0.02,
    scorer: Annotated[
        str | None,
        typer.Option(
            help="The evaluator that decides, NAME or NAME:JSON. Default: reference_likelihood, or token_f1 for remote "
            "models."
        ),
    ] = None,
    budget: Budgets = [],  # noqa: B006
    early_stop: EarlyStop = False,
    repeats: Repeats = 1,
    temperature: Temperature = None,
    max_tokens: MaxTokens = None,
    junit: Annotated[Path | None, typer.Option(help="Write the verdict as JUnit XML to this file.")] = None,
    markdown: Annotated[Path | None, typer.Option(help="Append a summary in Markdown to this file.")] = None,
    project: Project = "default",
    json: Json = False,
) -> None:
    """For CI: exit 0 when not worse than the baseline, 1 when worse, 2 when undecided, 3 when it could not run."""
    from sqlalchemy.exc import OperationalError

    from driftline.acts.evaluators import evaluator_name
    from driftline.cli.reporting import Gated, write_junit, write_markdown
    from driftline.errors import DriftlineError
    from driftline.store.engine import explain_failure

    gated = Gated(candidate, baseline, golden, margin)
    try:
        if candidate == baseline:
            raise DriftlineError(f"{candidate} cannot be compared with itself; name another baseline.")
        plan = _plan(budget, early_stop, repeats, temperature, max_tokens)
        wanted = [scorer] if scorer is not None else []
        done, gated.judged = _replayed(project, candidate, golden, baseline, margin, json, wanted, plan)
        names = [evaluator_name(one) for one in wanted]
        gated.deciding = next((row for row in gated.judged if not names or row["evaluator"] in names), None)
        if gated.deciding is None:
            raise DriftlineError(next(iter(_silent(project, done, gated.judged)), "Nothing was scored on both sides."))
    except (DriftlineError, OperationalError) as error:
        problem = error if isinstance(error, DriftlineError) else explain_failure(error)
        gated.problem = problem.message
        failed(json, problem)
    except Exception:  # noqa: BLE001  (a defect of ours is no verdict either)
        gated.problem = "A defect of Driftline; its log has the traceback."
        traceback.print_exc()
    try:
        write_junit(gated, junit)
        write_markdown(gated, markdown)
    except OSError as error:
        failed(json, DriftlineError(f"{error.filename} cannot be written: {error.strerror}."))
        raise typer.Exit(COULD_NOT_RUN) from None
    if gated.deciding is None:
        raise typer.Exit(COULD_NOT_RUN)
    out(json, gated.deciding, gated.sentence)
    raise typer.Exit(GATE_CODES[gated.deciding["verdict"]])


def _plan(
    budget: list[str], early_stop: bool, repeats: int, temperature: float | None, max_tokens: int | None
) -> dict[str, Any]:
    from driftline.acts.budgets import spending

    sampling = {"temperature": temperature, "max_tokens": max_tokens}
    chosen = {name: value for name, value in sampling.items() if value is not None}
    return {"budget": spending(budget), "early_stop": early_stop, "repeats": repeats, "sampling": chosen}


def _replayed(
    project: str, variant: str, golden: str, baseline: str | None, margin: float, quiet: bool, wanted: list[str],
    plan: dict[str, Any],
) -> "tuple[Replay, list[dict[str, Any]]]":  # fmt: skip
    from driftline.acts.evaluators import evaluator_name
    from driftline.acts.golden import find_version
    from driftline.acts.replays import request_replay, scorers_for
    from driftline.acts.variants import find_variant
    from driftline.cli.opened import reading_in, writing_in
    from driftline.cli.waiting import wait_for_comparison, wait_for_replay
    from driftline.errors import DriftlineError

    with writing_in(project) as (session, owner):
        check_scorers(session, owner.id, wanted)
        asked = find_variant(session, owner.id, variant)
        beside = find_variant(session, owner.id, baseline) if baseline else None
        version = find_version(session, owner.id, golden)
        usual = scorers_for(asked, *filter(None, [beside]))
        row = request_replay(
            session, owner.id, asked, version, actor(), baseline=beside, margin=margin,
            scorers=[*wanted, *(name for name in usual if name not in map(evaluator_name, wanted))], **plan,
        )  # fmt: skip
    ended = wait_for_replay(row.id, f"Replaying {variant}", quiet=quiet)
    if ended.state != "done":
        raise DriftlineError(f"Replay {ended.id} {ended.state}: {ended.error}")
    if beside is None or beside.id == row.variant_id:
        return ended, []
    wait_for_comparison(row.id, f"Comparing with {baseline}", quiet=quiet)
    with reading_in(project) as (session, _):
        return ended, [_shown(one) for one in _comparisons(session, ended, margin)]


def check_scorers(session: "Session", project_id: int, wanted: list[str]) -> None:
    """Refuses, before anything is asked for, a scorer that cannot be set up, or a judge that nobody declared."""
    from driftline.acts.evaluators import read_evaluator
    from driftline.acts.golden import find_version
    from driftline.acts.variants import find_variant
    from evaluators.scorers import try_out

    for text in wanted:
        name, config = read_evaluator(text)
        judge, anchors = config.pop("variant", None), config.pop("anchors", None)
        try_out(name, config, has_judge=judge is not None)
        if judge is not None:
            find_variant(session, project_id, str(judge))
        if anchors is not None:
            find_version(session, project_id, str(anchors))


def _silent(project: str, replay: "Replay", judged: list[dict[str, Any]]) -> list[str]:
    """A sentence for every scorer of a replay that gave nothing to compare, with the first reason it had."""
    from driftline.acts.evaluators import evaluator_name
    from driftline.acts.replays import why_unscored
    from driftline.cli.opened import reading_in

    compared = {row["evaluator"] for row in judged}
    said = []
    with reading_in(project) as (session, _):
        for name in map(evaluator_name, replay.scorers):
            if name in compared or not judged:
                continue
            because = why_unscored(session, replay.id, name)
            said.append(f"Nothing was scored by {name} on both sides" + (f": {because}." if because else "."))
    return said


def _comparisons(session: "Session", replay: "Replay", margin: float) -> "list[Comparison]":
    from sqlmodel import col, select

    from driftline.store.tables import Comparison

    of_replay = select(Comparison).where(Comparison.candidate_replay_id == replay.id, Comparison.margin == margin)
    return list(session.exec(of_replay.order_by(col(Comparison.id))))


def _shown(row: "Comparison") -> dict[str, Any]:
    shown = row.model_dump(include={*COLUMNS, "ties", "unscored", "margin", "level", "method", "p_value", "id"})
    evidence = {name: row.evidence.get(name) for name in SHOWN}
    return shown | evidence | {"slices": row.slices}
