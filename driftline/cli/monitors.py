"""`driftline monitor`: what is watched, and how it judges."""

from typing import Annotated, Any

import typer

from driftline.cli.say import Json, Project, actor, out, rows

app = typer.Typer(help="Monitors: watched streams of production traffic.", no_args_is_help=True)

Name = Annotated[str, typer.Argument(help="The monitor.")]
Margin = Annotated[float | None, typer.Option(help="The change that does not matter yet.")]
BlockS = Annotated[float | None, typer.Option(help="Length of a judged block, seconds.")]
BlockItems = Annotated[int | None, typer.Option(help="Values a block needs at least; smaller ones wait for company.")]
ReferenceItems = Annotated[int | None, typer.Option(help="Values of the frozen reference.")]
ReferenceS = Annotated[float | None, typer.Option(help="Seconds the reference spans at least.")]
Tags = Annotated[list[str] | None, typer.Option("--tag", help="NAME=VALUE that a record must carry; repeatable.")]
Season = Annotated[
    str | None, typer.Option(help="hour, weekday or hour_of_week (UTC): each judged against its own; none without.")
]
SplitBy = Annotated[str | None, typer.Option(help="A tag whose values are judged each against its own.")]
EveryS = Annotated[float | None, typer.Option(help="Seconds between two runs of a signal that a job measures.")]
Items = Annotated[int | None, typer.Option(help="Items that a job measures in one run.")]
Signal = Annotated[
    str,
    typer.Option(
        help="errors, empty, invalid_json, refusals, quality, latency, ttft, token_time, cost, prompt_length, "
        "answer_length, prompt_language, prompt_clusters, prompt_embedding, coverage, answers, probes, border, judge "
        "or captured."
    ),
]
Source = Annotated[str, typer.Option(help="The evaluator or golden set that the signal reads.")]
Weight = Annotated[float | None, typer.Option(help="Share of the false-alarm budget, relative to the others.")]


def given(
    margin: float | None, block_s: float | None, min_block_items: int | None, reference_items: int | None,
    reference_s: float | None, tag: list[str] | None, season: str | None, split_by: str | None, every_s: float | None,
    items: int | None,
) -> dict[str, Any]:  # fmt: skip
    """The parameters that were told, by their names."""
    from driftline.errors import BadInput

    told: dict[str, Any] = {
        "margin": margin, "block_s": block_s, "min_block_items": min_block_items, "reference_items": reference_items,
        "reference_s": reference_s, "season": season, "split_by": split_by, "every_s": every_s, "items": items,
    }  # fmt: skip
    for one in tag or []:
        name, equals, value = one.partition("=")
        if not (name and equals and value):
            raise BadInput(f"--tag is NAME=VALUE, such as kind=prime; got {one!r}.")
        told["tags"] = {**(told.get("tags") or {}), name: value}
    return {key: value for key, value in told.items() if value is not None}


@app.command("add")
def add_monitor(
    name: Annotated[str, typer.Argument(help="A name for it.")],
    signal: Signal,
    route: Annotated[str, typer.Option(help="The route it watches.")] = "default",
    source: Source = "",
    margin: Margin = None,
    block_s: BlockS = None,
    min_block_items: BlockItems = None,
    reference_items: ReferenceItems = None,
    reference_s: ReferenceS = None,
    tag: Tags = None,
    season: Season = None,
    split_by: SplitBy = None,
    every_s: EveryS = None,
    items: Items = None,
    weight: Weight = None,
    project: Project = "default",
    json: Json = False,
) -> None:
    """Add a monitor; it collects a reference first, then judges every block."""
    from driftline.acts.monitors import add
    from driftline.cli.opened import writing_in

    params = given(
        margin, block_s, min_block_items, reference_items, reference_s, tag, season, split_by, every_s, items
    )
    with writing_in(project) as (session, owner):
        row = add(
            session, owner.id, name, signal, actor(), route=route, source=source, weight=weight or 1.0, params=params
        )
    held = row.params["reference_items"]
    out(json, row.model_dump(), f"{name} watches {signal} of {route}, from a reference of {held} values on.")


@app.command("list")
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
                    "problem": row.pending.get("problem"),
                }
            )  # fmt: skip
    columns = ("name", "signal", "route", "status", "value", "statistic", "threshold")
    rows(json, found, columns, "No monitor yet. Every route gets default ones with its first traffic.")


@app.command()
def change(
    name: Name,
    margin: Margin = None,
    block_s: BlockS = None,
    min_block_items: BlockItems = None,
    reference_items: ReferenceItems = None,
    reference_s: ReferenceS = None,
    tag: Tags = None,
    season: Season = None,
    split_by: SplitBy = None,
    every_s: EveryS = None,
    items: Items = None,
    weight: Weight = None,
    project: Project = "default",
    json: Json = False,
) -> None:
    """Change what a monitor is told. Another weight keeps its reference; anything else takes a new one. Logged."""
    from driftline.acts.monitors import change as act
    from driftline.acts.monitors import find_monitor
    from driftline.cli.opened import writing_in

    params = given(
        margin, block_s, min_block_items, reference_items, reference_s, tag, season, split_by, every_s, items
    )
    with writing_in(project) as (session, owner):
        row = find_monitor(session, owner.id, name)
        differs = act(session, row, actor(), weight=weight, params=params)
        session.flush()
        session.refresh(row)
        document = row.model_dump()
    out(json, document, f"{name} is {document['status']} with the new parameters." if differs else "Nothing differs.")


@app.command()
def rebaseline(name: Name, project: Project = "default", json: Json = False) -> None:
    """Collect a new reference from the traffic that comes now. Logged."""
    from driftline.acts.monitors import find_monitor
    from driftline.acts.monitors import rebaseline as act
    from driftline.cli.opened import writing_in

    with writing_in(project) as (session, owner):
        act(session, find_monitor(session, owner.id, name), actor())
    out(json, {"monitor": name, "status": "collecting"}, f"{name} collects a new reference.")


@app.command()
def pause(name: Name, project: Project = "default", json: Json = False) -> None:
    """Stop judging; what arrives meanwhile is passed over. Its share of the budget goes to the others."""
    from driftline.acts.monitors import find_monitor
    from driftline.acts.monitors import pause as act
    from driftline.cli.opened import writing_in

    with writing_in(project) as (session, owner):
        act(session, find_monitor(session, owner.id, name), actor())
    out(json, {"monitor": name, "status": "paused"}, f"{name} is paused.")


@app.command()
def resume(name: Name, project: Project = "default", json: Json = False) -> None:
    """Judge again from the next record on, with the evidence from before the pause."""
    from driftline.acts.monitors import find_monitor
    from driftline.acts.monitors import resume as act
    from driftline.cli.opened import writing_in

    with writing_in(project) as (session, owner):
        row = find_monitor(session, owner.id, name)
        act(session, row, actor())
        status = row.status
    out(json, {"monitor": name, "status": status}, f"{name} is {status}.")


@app.command()
def recompute(
    reading: Annotated[int, typer.Argument(help="The reading, or with --event the drift event.")],
    event: Annotated[bool, typer.Option("--event", help="The number is that of a drift event.")] = False,
    project: Project = "default",
    json: Json = False,
) -> None:
    """Compute a stored reading once more from the rows and the state it rested on. Exits 1 where it differs."""
    from driftline.cli.opened import reading_in
    from driftline.errors import NotFound
    from driftline.store.tables import DriftEvent
    from scheduler.recompute import recompute as act

    with reading_in(project) as (session, owner):
        if event:
            row = session.get(DriftEvent, reading)
            if row is None or row.project_id != owner.id:
                raise NotFound("drift event", reading)
            reading = row.reading_id
        found = act(session, owner.id, reading)
    then, now = found["stored"]["statistic"], found.get("recomputed", {}).get("statistic")
    said = f"log evidence {then:.6f} then" + (f", {now:.6f} now" if now is not None else "")
    out(
        json,
        found,
        f"Reading {reading} of {found['monitor']}: {said}, line {found['threshold']:.3f}. {found['because']}",
    )
    if found["agrees"] is False:
        raise typer.Exit(1)


@app.command()
def backtest(
    signal: Annotated[str, typer.Option(help="A signal to try; or give --monitor.")] = "",
    monitor: Annotated[str, typer.Option(help="A monitor to try with other parameters.")] = "",
    route: Annotated[str, typer.Option(help="The route.")] = "default",
    source: Source = "",
    margin: Margin = None,
    block_s: BlockS = None,
    min_block_items: BlockItems = None,
    reference_items: ReferenceItems = None,
    reference_s: ReferenceS = None,
    tag: Tags = None,
    season: Season = None,
    split_by: SplitBy = None,
    weight: Weight = None,
    since: Annotated[str, typer.Option(help="RFC 3339 moment from which history counts.")] = "",
    project: Project = "default",
    json: Json = False,
) -> None:
    """Say how often a rule would have fired on stored history, its false-alarm bound and the delay it buys."""
    from driftline.cli.opened import reading_in
    from driftline.errors import BadInput
    from driftline.moment import now_us, parse
    from scheduler.backtest import backtest as act
    from scheduler.backtest import drafted

    if bool(signal) == bool(monitor):
        raise BadInput("Name a --signal to try, or a --monitor, one of the two.")
    params = given(margin, block_s, min_block_items, reference_items, reference_s, tag, season, split_by, None, None)
    told = {"signal": signal, "monitor": monitor, "route": route, "source": source, "weight": weight, "params": params}
    try:
        moment = parse(since) if since else None
    except ValueError:
        raise BadInput(f"--since is {since!r}; it is a moment such as 2026-11-22T14:00:00Z.") from None
    with reading_in(project) as (session, owner):
        found = act(session, drafted(session, owner.id, told), until=now_us(), since=moment)
    out(json, found, _told(found))


def _told(found: dict[str, Any]) -> str:
    from driftline.moment import iso

    reference, alarms = found["reference"], found["alarms"]
    lines = [
        f"{found['signal']} of route {found['route']}, margin {found['params']['margin']:g}, "
        f"blocks of {found['block_s']:g} s, by {found['detector']}",
        f"reference: {reference['n']} values"
        + (f", mean {reference['mean']:.4g}" if reference["mean"] is not None else ""),
        f"history: {found['blocks']} blocks judged, {len(alarms)} alarms",
        *(f"  would have alarmed at {iso(alarm['at'])}" for alarm in alarms[:20]),
        f"false alarms: a chance of at most {found['false_alarm_bound']:.2%} a year",
    ]
    for one in found["delays"]:
        took = "not found" if one["median_blocks"] is None else f"{one['median_blocks']:g} blocks"
        lines.append(f"a change of {one['change']:g} would be found after {took} (median)")
    return "\n".join(lines)


@app.command("export")
def export_monitors(project: Project = "default", json: Json = False) -> None:
    """Print all monitors as YAML, as `monitor apply` reads it."""
    from driftline.acts.monitor_files import described, written
    from driftline.cli.opened import reading_in

    with reading_in(project) as (session, owner):
        found = described(session, owner.id)
    out(json, found, written(found).rstrip())


@app.command("apply")
def apply_monitors(
    file: Annotated[str, typer.Argument(help="A YAML file, - for standard input.")],
    project: Project = "default",
    json: Json = False,
) -> None:
    """Add and change monitors until they are as a YAML file says; monitors it does not name stay as they are."""
    import sys
    from pathlib import Path

    from driftline.acts.monitor_files import apply, read
    from driftline.cli.opened import writing_in
    from driftline.errors import BadInput

    try:
        text = sys.stdin.read() if file == "-" else Path(file).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as wrong:
        raise BadInput(f"{file} cannot be read: {wrong}.") from None
    with writing_in(project) as (session, owner):
        done = apply(session, owner.id, read(text), actor())
    rows(json, [{"name": name, "done": what} for name, what in done], ("name", "done"), "The file names no monitor.")
