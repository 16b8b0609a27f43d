"""`driftline schedule`: what is done when."""

from typing import Annotated, Any

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
    jitter_s: Annotated[float, typer.Option(min=0, help="Begin up to so many seconds later.")] = 0.0,
    catch_up: Annotated[
        str, typer.Option(help="Moments that came while no clock ran: once (the latest), skip or each.")
    ] = "once",
    catch_up_s: Annotated[float, typer.Option(min=1, help="How old a missed moment may be, seconds.")] = 3600.0,
    margin: Annotated[float | None, typer.Option(help="How much worse still counts as as good. Default: 0.02.")] = None,
    scorer: Annotated[
        list[str], typer.Option(help="NAME or NAME:JSON; repeat it, the one that decides first. Default: the usual.")
    ] = [],  # noqa: B006
    early_stop: Annotated[bool, typer.Option("--early-stop", help="End as soon as the evidence decides.")] = False,
    budget: Annotated[
        list[str], typer.Option("--budget", help="The most a replay may spend, such as calls=500 or usd=2.")
    ] = [],  # noqa: B006
    project: Project = "default",
    json: Json = False,
) -> None:
    """Replay a golden set by cron line or interval."""
    from driftline.acts.budgets import spending
    from driftline.acts.golden import find_version
    from driftline.acts.schedules import add
    from driftline.acts.variants import find_variant
    from driftline.cli.judging import check_scorers
    from driftline.cli.opened import writing_in

    args: dict[str, Any] = {"variant": variant, "golden": golden, **({"baseline": baseline} if baseline else {})}
    args |= {"early_stop": True} if early_stop else {}
    args |= {"budget": spending(budget)} if budget else {}
    args |= ({"margin": margin} if margin is not None else {}) | ({"scorers": scorer} if scorer else {})
    with writing_in(project) as (session, owner):
        for asked in filter(None, (variant, baseline)):
            find_variant(session, owner.id, asked)
        find_version(session, owner.id, golden)
        check_scorers(session, owner.id, scorer)
        row = add(
            session, owner.id, name, "replay", args, actor(), cron=cron, every_s=every_s, timezone=timezone,
            jitter_s=jitter_s, catch_up=catch_up, catch_up_s=catch_up_s,
        )  # fmt: skip
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


@schedules.command("pause")
def pause_schedule(
    name: Annotated[str, typer.Argument(help="The schedule.")], project: Project = "default", json: Json = False
) -> None:
    """Let a schedule fire no more, until it is resumed."""
    _enable(name, project, json, enabled=False)


@schedules.command("resume")
def resume_schedule(
    name: Annotated[str, typer.Argument(help="The schedule.")], project: Project = "default", json: Json = False
) -> None:
    """Let a paused schedule fire again."""
    _enable(name, project, json, enabled=True)


def _enable(name: str, project: str, json: bool, *, enabled: bool) -> None:
    from driftline.acts.schedules import find_schedule, set_enabled
    from driftline.cli.opened import writing_in

    with writing_in(project) as (session, owner):
        set_enabled(session, find_schedule(session, owner.id, name), enabled, actor())
    out(json, {"name": name, "enabled": enabled}, f"{name} {'fires again' if enabled else 'is paused'}.")
