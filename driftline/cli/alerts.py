"""`driftline alert`: being told."""

from typing import Annotated

import typer

from driftline.cli import telling
from driftline.cli.say import Json, Project, actor, out, rows

app = typer.Typer(help="Alerts, their channels, rules and silences.", no_args_is_help=True)


@app.command("list")
def list_alerts(
    every: Annotated[bool, typer.Option("--all", help="Resolved ones too.")] = False,
    project: Project = "default",
    json: Json = False,
) -> None:
    """List alerts."""
    from sqlmodel import col, select

    from driftline.cli.opened import reading_in
    from driftline.moment import iso
    from driftline.store.tables import Alert

    with reading_in(project) as (session, owner):
        query = select(Alert).where(Alert.project_id == owner.id).order_by(col(Alert.id).desc())
        query = query if every else query.where(Alert.state != "resolved")
        found = [
            {
                "id": a.id,
                "state": a.state,
                "severity": a.severity,
                "title": a.title,
                "fired": iso(a.fired_at),
                "body": a.body,
            }
            for a in session.exec(query)
        ]
    rows(json, found, ("id", "state", "severity", "title", "fired"), "No alert is standing.")


@app.command()
def ack(
    alert: Annotated[int, typer.Argument(help="The alert's number.")],
    project: Project = "default",
    json: Json = False,
) -> None:
    """Say that you look into an alert."""
    from driftline.acts.alerts import acknowledge
    from driftline.cli.opened import writing_in
    from driftline.errors import NotFound
    from driftline.store.tables import Alert

    with writing_in(project) as (session, owner):
        row = session.get(Alert, alert)
        if row is None or row.project_id != owner.id:
            raise NotFound("alert", alert)
        acknowledge(session, row, actor())
    out(json, {"alert": alert, "state": "acknowledged"}, f"Alert {alert} is acknowledged.")


@app.command("resolve")
def end(
    alert: Annotated[int, typer.Argument(help="The alert's number.")],
    project: Project = "default",
    json: Json = False,
) -> None:
    """End an alert by hand; the same happening later opens a new one."""
    from driftline.acts.alerts import resolve
    from driftline.cli.opened import writing_in
    from driftline.errors import NotFound
    from driftline.store.tables import Alert

    with writing_in(project) as (session, owner):
        row = session.get(Alert, alert)
        if row is None or row.project_id != owner.id:
            raise NotFound("alert", alert)
        resolve(session, row, actor())
    out(json, {"alert": alert, "state": "resolved"}, f"Alert {alert} is resolved.")


for _command in (
    telling.channel, telling.channels, telling.rule, telling.rules, telling.preview, telling.silence,
    telling.unsilence, telling.inhibit,
):  # fmt: skip
    app.command()(_command)


@app.command("test")
def try_channel(
    name: Annotated[str, typer.Argument(help="The channel.")],
    project: Project = "default",
    json: Json = False,
) -> None:
    """Send a test notice through a channel (a worker does: `up` or `work` must run)."""
    from driftline.acts.alerts import find_channel, test_channel
    from driftline.cli.opened import writing_in
    from driftline.cli.waiting import wait_for_job
    from driftline.errors import DriftlineError

    with writing_in(project) as (session, owner):
        job = test_channel(session, find_channel(session, owner.id, name), actor())
    ended = wait_for_job(job.id, f"Sending to {name}", quiet=json)
    if ended.state != "done" or ended.result is None:
        raise DriftlineError(f"{name} was not reached: {ended.error}")
    out(json, ended.result, f"{name} answered {ended.result['answer']}")
