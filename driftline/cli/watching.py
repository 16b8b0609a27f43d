"""`driftline monitor` and `driftline schedule`: what is watched, and what is done when."""

from typing import Annotated, Any

import typer

from driftline.cli.say import Json, Project, actor, out, rows

monitors = typer.Typer(help="Monitors: watched streams of production traffic.", no_args_is_help=True)
schedules = typer.Typer(help="Schedules: golden replays by cron line or interval.", no_args_is_help=True)


@monitors.command("add")
def add_monitor(
    name: Annotated[str, typer.Argument(help="A name for it.")],
    signal: Annotated[str, typer.Option(help="errors, empty, quality, latency or ttft.")],
    route: Annotated[str, typer.Option(help="The route it watches.")] = "default",
    source: Annotated[str, typer.Option(help="For quality: the evaluator whose scores it reads.")] = "",
    margin: Annotated[float | None, typer.Option(help="The change that matters.")] = None,
    block_s: Annotated[float | None, typer.Option(help="Length of a judged block, seconds.")] = None,
    reference_items: Annotated[int | None, typer.Option(help="Records of the frozen reference.")] = None,
    reference_s: Annotated[float | None, typer.Option(help="Seconds the reference spans at least.")] = None,
    weight: Annotated[float, typer.Option(help="Share of the false-alarm budget, relative to the others.")] = 1.0,
    project: Project = "default",
    json: Json = False,
) -> None:
    """Add a monitor; it collects a reference first, then judges every block."""
    from driftline.acts.monitors import add
    from driftline.cli.opened import writing_in

    given: dict[str, Any] = {
        "margin": margin,
        "block_s": block_s,
        "reference_items": reference_items,
        "reference_s": reference_s,
    }
    params = {key: value for key, value in given.items() if value is not None}
    with writing_in(project) as (session, owner):
        row = add(session, owner.id, name, signal, actor(), route=route, source=source, weight=weight, params=params)
    items = row.params["reference_items"]
    out(json, row.model_dump(), f"{name} watches {signal} of {route}, from a reference of {items} records on.")


@monitors.command("list")
def list_monitors(project: Project = "default", json: Json = False) -> None:
    """List monitors, their state and evidence."""
    from sqlmodel import col, select

    from driftline.cli.opened import reading_in
    from driftline.store.tables import Monitor, Reading

    with reading_in(project) as (session, owner):
        found = []
        for row in session.exec(select(Monitor).where(Monitor.project_id == owner.id).order_by(Monitor.name)):
            newest = select(Reading).where(Reading.monitor_id == row.id).order_by(col(Reading.id).desc())
            last = session.exec(newest).first()
            found.append(
                {
                    "name": row.name, "signal": row.signal, "route": row.route, "status": row.status,
                    "value": last.value if last else None, "statistic": last.statistic if last else None,
                    "threshold": last.threshold if last else None, "params": row.params,
                }
            )  # fmt: skip
    columns = ("name", "signal", "route", "status", "value", "statistic", "threshold")
    rows(json, found, columns, "No monitor yet. Every route gets default ones with its first traffic.")


@monitors.command()
def rebaseline(
    name: Annotated[str, typer.Argument(help="The monitor.")],
    project: Project = "default",
    json: Json = False,
) -> None:
    """Collect a new reference from the traffic that comes now. Logged."""
    from driftline.acts.monitors import find_monitor
    from driftline.acts.monitors import rebaseline as act
    from driftline.cli.opened import writing_in

    with writing_in(project) as (session, owner):
        act(session, find_monitor(session, owner.id, name), actor())
    out(json, {"monitor": name, "status": "collecting"}, f"{name} collects a new reference.")


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
