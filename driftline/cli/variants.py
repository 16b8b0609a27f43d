"""`driftline variant`: what answers."""

from typing import Annotated, Any

import typer

from driftline.cli.say import Json, Project, actor, out, rows

app = typer.Typer(help="Variants: how answers are made, with lineage.", no_args_is_help=True)


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
