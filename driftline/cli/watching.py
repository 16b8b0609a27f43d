"""`driftline schedule`: what is done when."""

from typing import Annotated

import typer

from driftline.cli.say import Json, Project, actor, out, rows

schedules = typer.Typer(help="Schedules: golden replays by cron line or interval.", no_args_is_help=True)


@schedules.command("add")
def add_schedule(
    name: Annotated[str, typer.Argument(help="A name for it.")],
    variant: Annotated[str, typer.Option(help="The variant to replay.")],
    golden: Annotated[str, typer.Option(help="The golden set, NAME or NAME@VERSION.")],
    baseline: Annotated[str | None, typer.Option(help="Compare with this variant's replay.")] = None,
    cron: Annotated[str | None, typer.Option(help="Five fields, e.g. '0 3 * * 1-5'.")] = None,
    every_s: Annotated[float | None, typer.Option(help="Or an interval in seconds.")] = None,
    timezone: Annotated[str, typer.Option(help="IANA time zone of the cron line.")] = "UTC",
    project: Project = "default",
    json: Json = False,
) -> None:
    """Replay a golden set by cron line or interval."""
    from driftline.acts.golden import find_version
    from driftline.acts.schedules import add
    from driftline.acts.variants import find_variant
    from driftline.cli.opened import writing_in

    args = {"variant": variant, "golden": golden, **({"baseline": baseline} if baseline else {})}
    with writing_in(project) as (session, owner):
        for asked in filter(None, (variant, baseline)):
            find_variant(session, owner.id, asked)
        find_version(session, owner.id, golden)
        row = add(session, owner.id, name, "replay", args, actor(), cron=cron, every_s=every_s, timezone=timezone)
    out(json, row.model_dump(), f"{name}: {cron or f'every {every_s:g} s'} ({timezone}).")


@schedules.command("list")
def list_schedules(project: Project = "default", json: Json = False) -> None:
    """List schedules."""
    from sqlmodel import select

    from driftline.cli.opened import reading_in
    from driftline.store.tables import Schedule

    with reading_in(project) as (session, owner):
        of_project = select(Schedule).where(Schedule.project_id == owner.id).order_by(Schedule.name)
        found = [row.model_dump() for row in session.exec(of_project)]
    rows(json, found, ("name", "kind", "cron", "every_s", "timezone", "enabled"), "No schedule yet.")
