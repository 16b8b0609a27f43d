"""`driftline variant`, `replay` and `gate`: what answers, and how good it is."""

import traceback
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperCommand

from driftline.cli.say import Json, Project, actor, out, rows

if TYPE_CHECKING:
    from sqlmodel import Session

    from driftline.store.tables import Comparison, Replay

app = typer.Typer(help="Variants: how answers are made, with lineage.", no_args_is_help=True)

GATE_CODES = {"better": 0, "equivalent": 0, "not_worse": 0, "worse": 1, "undecided": 2}
COULD_NOT_RUN = 3


class ForCI(TyperCommand):
    """A command whose exit codes 1 and 2 are verdicts, so that a call with wrong options exits 3 as well."""

    def make_context(self, *args: Any, **kwargs: Any) -> Any:
        """As usual, with another exit code where the call cannot be understood."""
        try:
            return super().make_context(*args, **kwargs)
        except typer.TyperException as error:
            error.exit_code = COULD_NOT_RUN
            raise


@app.command()
def add(
    name: Annotated[str, typer.Argument(help="The name apps send as `variant`.")],
    method: Annotated[
        list[str],
        typer.Option("--method", "-m", help="A step of the recipe, METHOD or METHOD:JSON; repeat it, base first."),
    ] = [],  # noqa: B006
    runner: Annotated[
        str, typer.Option(help="How it is run: transformers, openai, recorded, python.")
    ] = "transformers",
    config: Annotated[str, typer.Option(help="The runner's configuration as a JSON object.")] = "{}",
    parent: Annotated[str | None, typer.Option(help="The variant it was made from.")] = None,
    project: Project = "default",
    json: Json = False,
) -> None:
    """Declare a variant."""
    from driftline.acts.variants import declare, find_variant
    from driftline.cli.opened import writing_in
    from variants.recipe import Spec

    chain = [_step(text) for text in method]
    spec = Spec.from_json({"runner": runner, "runner_config": _object(config, "--config"), "chain": chain}).to_json()
    with writing_in(project) as (session, owner):
        above = find_variant(session, owner.id, parent) if parent else None
        variant = declare(session, owner.id, name, spec, actor(), above)
        document = {"name": name, "hash": variant.content_hash, "spec": spec}
    out(json, document, f"{name} declared (hash {variant.content_hash[:12]}). Build it: driftline variant build {name}")


@app.command()
def build(
    name: Annotated[str, typer.Argument(help="The variant.")],
    wait: Annotated[bool, typer.Option(help="Wait until a worker has built it.")] = True,
    project: Project = "default",
    json: Json = False,
) -> None:
    """Build a variant and measure it (a worker does: `driftline up` or `driftline work` must run)."""
    from driftline.acts.variants import find_variant, request_build
    from driftline.cli.opened import writing_in
    from driftline.cli.waiting import wait_for_job
    from driftline.errors import DriftlineError

    with writing_in(project) as (session, owner):
        job = request_build(session, find_variant(session, owner.id, name), actor())
    if not wait:
        out(json, {"job": job.id}, f"Job {job.id} is queued.")
        return
    ended = wait_for_job(job.id, f"Building {name}", quiet=json)
    if ended.state != "done":
        raise DriftlineError(f"{name} was not built: {ended.error}")
    out(json, {"job": job.id, "state": ended.state}, f"{name} is built.")


@app.command("list")
def list_variants(project: Project = "default", json: Json = False) -> None:
    """List variants."""
    from sqlmodel import col, select

    from driftline.cli.opened import reading_in
    from driftline.store.tables import Variant

    with reading_in(project) as (session, owner):
        names = {v.id: v.name for v in session.exec(select(Variant).where(Variant.project_id == owner.id))}
        found = [
            {
                "name": v.name, "state": v.state, "build": v.build_state, "runner": v.spec.get("runner"),
                "recipe": " → ".join(step["method"] for step in v.spec.get("chain", [])),
                "parent": names.get(v.parent_id or 0), "hash": v.content_hash[:12], "measured": v.measured,
            }
            for v in session.exec(select(Variant).where(Variant.project_id == owner.id).order_by(col(Variant.id)))
        ]  # fmt: skip
    columns = ("name", "state", "build", "runner", "recipe", "parent", "hash")
    rows(json, found, columns, "No variant yet. Add one: driftline variant add NAME --method smollm2")


@app.command()
def promote(
    name: Annotated[str, typer.Argument(help="The variant.")],
    route: Annotated[str, typer.Option(help="The route whose production it becomes.")] = "default",
    baseline: Annotated[bool, typer.Option("--baseline", help="Make it the route's baseline as well.")] = False,
    reason: Annotated[str, typer.Option(help="Why; kept in the audit.")] = "",
    project: Project = "default",
    json: Json = False,
) -> None:
    """Point a route's production at a variant."""
    from driftline.acts.variants import find_variant, set_baseline
    from driftline.acts.variants import promote as act
    from driftline.cli.opened import writing_in

    with writing_in(project) as (session, owner):
        variant = find_variant(session, owner.id, name)
        row = act(session, owner.id, route, variant, actor(), reason)
        if baseline:
            set_baseline(session, row, variant, actor())
    out(json, {"route": route, "production": name, "version": row.version}, f"{route} is answered by {name}.")


@app.command()
def rollback(
    route: Annotated[str, typer.Option(help="The route.")] = "default",
    reason: Annotated[str, typer.Option(help="Why; kept in the audit.")] = "",
    project: Project = "default",
    json: Json = False,
) -> None:
    """Point a route back at the production variant before."""
    from driftline.acts.variants import rollback as act
    from driftline.cli.opened import writing_in
    from driftline.store.tables import Variant

    with writing_in(project) as (session, owner):
        row = act(session, owner.id, route, actor(), reason)
        name = session.get_one(Variant, row.production_variant_id).name
    out(json, {"route": route, "production": name, "version": row.version}, f"{route} is answered by {name} again.")


def replay(
    variant: Annotated[str, typer.Argument(help="The variant to replay.")],
    golden: Annotated[str, typer.Option("--golden", "-g", help="The golden set, NAME or NAME@VERSION.")],
    baseline: Annotated[
        str | None, typer.Option("--baseline", "-b", help="Compare with this variant's replay.")
    ] = None,
    margin: Annotated[float, typer.Option(help="How much worse still counts as as good.")] = 0.02,
    project: Project = "default",
    json: Json = False,
) -> None:
    """Replay a golden set on a variant now, and compare (a worker does: `up` or `work` must run)."""
    done, judged = _replayed(project, variant, golden, baseline, margin, json)
    rows(json, judged, COLUMNS, f"Replay {done.id} is {done.state}: {done.n_items} items.") if judged else out(
        json, {"replay": done.id, "state": done.state}, f"Replay {done.id} is {done.state}: {done.n_items} items."
    )


def gate(
    candidate: Annotated[str, typer.Argument(help="The variant that wants in.")],
    baseline: Annotated[str, typer.Option("--baseline", "-b", help="The variant it must not be worse than.")],
    golden: Annotated[str, typer.Option("--golden", "-g", help="The golden set, NAME or NAME@VERSION.")],
    margin: Annotated[float, typer.Option(help="How much worse still counts as as good.")] = 0.02,
    scorer: Annotated[
        str | None,
        typer.Option(help="The evaluator that decides. Default: reference_likelihood, or token_f1 for remote models."),
    ] = None,
    project: Project = "default",
    json: Json = False,
) -> None:
    """For CI: exit 0 when not worse than the baseline, 1 when worse, 2 when undecided, 3 when it could not run."""
    from sqlalchemy.exc import OperationalError

    from driftline.errors import DriftlineError
    from driftline.store.engine import explain_failure

    try:
        if candidate == baseline:
            raise DriftlineError(f"{candidate} cannot be compared with itself; name another baseline.")
        _, judged = _replayed(project, candidate, golden, baseline, margin, json, scorer)
        deciding = next((row for row in judged if scorer in (None, row["evaluator"])), None)
        if deciding is None:
            raise DriftlineError(f"Nothing was scored by {scorer} on both sides.")
    except (DriftlineError, OperationalError) as error:
        problem = error if isinstance(error, DriftlineError) else explain_failure(error)
        typer.echo(f"driftline: {problem.message}", err=True)
        raise typer.Exit(COULD_NOT_RUN) from None
    except Exception:  # noqa: BLE001  (a defect of ours is no verdict either)
        traceback.print_exc()
        raise typer.Exit(COULD_NOT_RUN) from None
    needed = deciding["n_to_decide"]
    hint = f" About {needed} items would decide." if deciding["verdict"] == "undecided" and needed else ""
    text = (
        f"{candidate} against {baseline}: {deciding['verdict']}. {deciding['evaluator']} {deciding['estimate']:+.4f} "
        f"[{deciding['low']:+.4f}, {deciding['high']:+.4f}] on {deciding['n']} items, margin {margin}.{hint}"
    )
    out(json, deciding, text)
    raise typer.Exit(GATE_CODES[deciding["verdict"]])


COLUMNS = ("evaluator", "verdict", "estimate", "low", "high", "n", "better", "worse")


def _replayed(
    project: str, variant: str, golden: str, baseline: str | None, margin: float, quiet: bool, scorer: str | None = None
) -> "tuple[Replay, list[dict[str, Any]]]":
    from driftline.acts.golden import find_version
    from driftline.acts.replays import request_replay, scorers_for
    from driftline.acts.variants import find_variant
    from driftline.cli.opened import reading_in, writing_in
    from driftline.cli.waiting import wait_for_comparison, wait_for_replay
    from driftline.errors import DriftlineError

    with writing_in(project) as (session, owner):
        asked = find_variant(session, owner.id, variant)
        beside = find_variant(session, owner.id, baseline) if baseline else None
        version = find_version(session, owner.id, golden)
        usual = scorers_for(asked, *filter(None, [beside]))
        scorers = usual if scorer is None or scorer in usual else [scorer, *usual]
        row = request_replay(
            session, owner.id, asked, version, actor(), baseline=beside, margin=margin, scorers=scorers
        )
    ended = wait_for_replay(row.id, f"Replaying {variant}", quiet=quiet)
    if ended.state != "done":
        raise DriftlineError(f"Replay {ended.id} {ended.state}: {ended.error}")
    if beside is None or beside.id == row.variant_id:
        return ended, []
    wait_for_comparison(row.id, f"Comparing with {baseline}", quiet=quiet)
    with reading_in(project) as (session, _):
        return ended, [_shown(one) for one in _comparisons(session, ended, margin)]


def _comparisons(session: "Session", replay: "Replay", margin: float) -> "list[Comparison]":
    from sqlmodel import col, select

    from driftline.store.tables import Comparison

    of_replay = select(Comparison).where(Comparison.candidate_replay_id == replay.id, Comparison.margin == margin)
    return list(session.exec(of_replay.order_by(col(Comparison.id))))


def _shown(row: "Comparison") -> dict[str, Any]:
    shown = row.model_dump(include={*COLUMNS, "ties", "unscored", "margin", "level", "method", "p_value", "id"})
    return shown | {"n_to_decide": row.evidence.get("n_to_decide"), "slices": row.slices}


def _step(text: str) -> dict[str, Any]:
    method, _, config = text.partition(":")
    return {"method": method, "config": _object(config or "{}", f"--method {method}")}


def _object(text: str, option: str) -> dict[str, Any]:
    import json

    from driftline.errors import BadInput

    try:
        value = json.loads(text)
    except json.JSONDecodeError as error:
        raise BadInput(f"{option} takes a JSON object; {text!r} is none ({error.msg}).") from None
    if not isinstance(value, dict):
        raise BadInput(f"{option} takes a JSON object, not {text!r}.")
    return value
