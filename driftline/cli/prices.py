"""`driftline price`: what models cost."""

from typing import Annotated

import typer

from driftline.cli.say import Json, Project, actor, out, rows

app = typer.Typer(help="Prices of models, for budgets and comparisons in money.", no_args_is_help=True)


@app.command("set")
def set_price(
    model: Annotated[str, typer.Argument(help="The model's name at its endpoint, or a variant's name.")],
    input_usd: Annotated[float, typer.Option("--input", min=0, help="Dollars for a million tokens of prompts.")],
    output_usd: Annotated[float, typer.Option("--output", min=0, help="Dollars for a million tokens of answers.")],
    project: Project = "default",
    json: Json = False,
) -> None:
    """Say what a model costs, from now on; what was counted before keeps its price."""
    from driftline.acts.prices import set_price as act
    from driftline.cli.opened import writing_in

    with writing_in(project) as (session, owner):
        version = act(session, owner.id, model, input_usd, output_usd, actor()).version
    out(json, {"model": model, "version": version}, f"{model} costs {input_usd:g} and {output_usd:g} USD a million.")


@app.command("list")
def list_prices(project: Project = "default", json: Json = False) -> None:
    """List what models cost, in dollars for a million tokens."""
    from driftline.acts.prices import NANO_PER_MILLION, prices
    from driftline.cli.opened import reading_in

    with reading_in(project) as (session, owner):
        found = [
            {"model": model, "input": price.input / NANO_PER_MILLION, "output": price.output / NANO_PER_MILLION}
            for model, price in prices(session, owner.id).items()
        ]
    rows(json, found, ("model", "input", "output"), "No price yet. Say one: driftline price set MODEL --input 1 …")
