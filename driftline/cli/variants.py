"""`driftline variant`: what answers."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from driftline.cli import variant_work
from driftline.cli.say import Json, Project, actor, out, rows
from driftline.cli.variant_steps import SETTINGS, WithSettings, object_of, steps_of

if TYPE_CHECKING:
    from variants.recipe import Spec

app = typer.Typer(help="Variants: how answers are made, with lineage.", no_args_is_help=True)
for command in (variant_work.show, variant_work.cancel, variant_work.search, variant_work.frontier, variant_work.clean):
    app.command()(command)
app.command("router-examples")(variant_work.router_examples)


@app.command(cls=WithSettings)
def add(
    context: typer.Context,
    name: Annotated[
        str | None, typer.Argument(help="The name apps send as `variant`; made of parent and method where not given.")
    ] = None,
    method: Annotated[
        list[str],
        typer.Option(
            "--method",
            "-m",
            help="A step of the recipe, METHOD or METHOD:JSON; repeat it, base first. Settings of the last may follow "
            "as --key value; a value @NAME is another variant.",
        ),
    ] = [],  # noqa: B006
    parent: Annotated[
        str | None, typer.Option("--from", help="The variant whose recipe the steps are added to.")
    ] = None,
    runner: Annotated[
        str | None,
        typer.Option(
            help="How it is run: transformers (default), llama_cpp, onnx, openai, anthropic, recorded, python."
        ),
    ] = None,
    config: Annotated[str | None, typer.Option(help="The runner's configuration as a JSON object.")] = None,
    made_from: Annotated[
        str | None, typer.Option("--parent", help="The variant it was made from, where the recipe is given whole.")
    ] = None,
    project: Project = "default",
    json: Json = False,
) -> None:
    """Declare a variant: a recipe of its own, or `--from PARENT --method quantize --bits 8`."""
    from driftline.acts.variants import declare, find_variant
    from driftline.cli.opened import writing_in
    from driftline.errors import BadInput
    from variants.families import child, made
    from variants.recipe import Recipe, Spec

    with writing_in(project) as (session, owner):

        def named(other: str) -> dict[str, Any]:
            return find_variant(session, owner.id, other).spec

        steps = steps_of(method, context.meta[SETTINGS], named)
        if not name and not parent:
            raise BadInput("A variant needs a name, or --from, of which one can be made.")
        above = find_variant(session, owner.id, parent or made_from or "") if parent or made_from else None
        told = object_of(config, "--config") if config else {}
        if parent is not None and above is not None:
            spec = Spec.from_json(above.spec)
            for step, options in steps:
                spec = child(spec, step, options)
            if runner is not None or config is not None:
                spec = Spec(runner or spec.runner, told or spec.runner_config, spec.chain)
            short = "-".join(f"{step}{options.get('bits', '')}" for step, options in steps)
            name = name or f"{parent}-{short}"
        else:
            chain = tuple(Recipe(step, options) for step, options in steps)
            spec = Spec(runner, told, chain) if runner else made("transformers", told, chain)
        assert name is not None
        variant = declare(session, owner.id, name, spec.to_json(), actor(), above)
        _check_at_hand(spec)
        document = {"name": name, "hash": variant.content_hash, "spec": spec.to_json()}
    out(json, document, f"{name} declared (hash {variant.content_hash[:12]}). Build it: driftline variant build {name}")


def _check_at_hand(spec: "Spec") -> None:
    """Refuses a variant that names what is not here, and warns where it may be there, where workers run."""
    import sys
    from pathlib import Path

    from driftline.errors import BadInput
    from driftline.settings import settings
    from variants.at_hand import absent

    sys.path.append(str(Path.cwd()))  # where the workers of `driftline up` find functions, too
    found = list(absent(spec))
    lacking = [one.sentence for one in found if not one.is_fetched]
    if lacking and settings().embedded_broker:
        raise BadInput(" ".join([*lacking, "Nothing was declared."]))
    for one in found:
        where = "" if one.is_fetched else " It must be there where the workers run."
        typer.echo(f"driftline: {one.sentence}{where}", err=True)


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

    from driftline.acts.frontier import standings
    from driftline.acts.variants import lineage
    from driftline.cli.opened import reading_in
    from driftline.store.tables import Replay, Variant

    with reading_in(project) as (session, owner):
        names = {v.id: v.name for v in session.exec(select(Variant).where(Variant.project_id == owner.id))}
        replayed = {
            replay.variant_id: replay.measured
            for replay in session.exec(
                select(Replay).where(Replay.project_id == owner.id, Replay.state == "done").order_by(col(Replay.id))
            )
        }
        best = {one.variant for one in standings(session, owner.id) if one.is_best}
        found = [
            {
                "name": v.name, "state": v.state, "build": v.build_state, "runner": v.spec.get("runner"),
                "recipe": " → ".join(step["method"] for step in v.spec.get("chain", [])),
                "parent": names.get(v.parent_id or 0), "hash": v.content_hash[:12], "measured": v.measured,
                "replayed": replayed.get(v.id, {}), "frontier": v.name in best,
                "lineage": lineage(session, v),
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
