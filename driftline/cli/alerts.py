"""`driftline alert` and `driftline reoptimize`: being told, and what is done about it."""

from typing import Annotated

import typer

from driftline.cli.say import Json, Project, actor, out, rows

app = typer.Typer(help="Alerts, their channels, rules and silences.", no_args_is_help=True)
reoptimizations = typer.Typer(help="Proposed repairs: approve, reject, undo.", no_args_is_help=True)


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


@app.command()
def silence(
    matcher: Annotated[list[str], typer.Argument(help="LABEL=VALUE, e.g. route=default; all must match.")],
    hours: Annotated[float, typer.Option(min=0.01, max=24 * 366, help="For how long.")] = 2.0,
    comment: Annotated[str, typer.Option(help="Why.")] = "",
    project: Project = "default",
    json: Json = False,
) -> None:
    """Mute matching alerts for a while."""
    from driftline.acts.alerts import silence as act
    from driftline.cli.opened import writing_in
    from driftline.errors import BadInput
    from driftline.moment import HOUR, iso, now_us

    if any("=" not in text for text in matcher):
        raise BadInput("A matcher is LABEL=VALUE, e.g. route=default.")
    matchers = dict(text.split("=", 1) for text in matcher)
    with writing_in(project) as (session, owner):
        row = act(session, owner.id, matchers, now_us() + int(hours * HOUR), actor(), comment)
    out(json, row.model_dump(), f"Silenced until {iso(row.until)}.")


@app.command()
def channel(
    name: Annotated[str, typer.Argument(help="A name for it.")],
    kind: Annotated[str, typer.Option(help="slack or webhook.")],
    url: Annotated[str, typer.Option(prompt=True, hide_input=True, help="Its address; encrypted, never shown again.")],
    secret: Annotated[str | None, typer.Option(help="For webhook: the secret that signs what is sent.")] = None,
    project: Project = "default",
    json: Json = False,
) -> None:
    """Set a channel and tell it of every drift."""
    from driftline.acts.alerts import add_channel, add_rule
    from driftline.cli.opened import writing_in

    address = {"url": url, **({"secret": secret} if secret else {})}
    with writing_in(project) as (session, owner):
        row = add_channel(session, owner.id, name, kind, address, actor())
        add_rule(session, owner.id, f"drift to {name}", "drift", actor(), channels=[name])
    out(
        json, {"channel": name, "kind": row.kind}, f"{name} is told of every drift. Try it: driftline alert test {name}"
    )


@app.command("test")
def try_channel(
    name: Annotated[str, typer.Argument(help="The channel.")],
    project: Project = "default",
    json: Json = False,
) -> None:
    """Send a test notice through a channel (a worker does: `up` or `work` must run)."""
    from sqlmodel import select

    from driftline.acts.alerts import test_channel
    from driftline.cli.opened import writing_in
    from driftline.cli.waiting import wait_for_job
    from driftline.errors import DriftlineError, NotFound
    from driftline.store.tables import Channel

    with writing_in(project) as (session, owner):
        known = {row.name: row for row in session.exec(select(Channel).where(Channel.project_id == owner.id))}
        if name not in known:
            raise NotFound("channel", name, known)
        job = test_channel(session, known[name], actor())
    ended = wait_for_job(job.id, f"Sending to {name}", quiet=json)
    if ended.state != "done" or ended.result is None:
        raise DriftlineError(f"{name} was not reached: {ended.error}")
    out(json, ended.result, f"{name} answered {ended.result['answer']}")


@reoptimizations.command("list")
def list_reoptimizations(project: Project = "default", json: Json = False) -> None:
    """List proposed and decided repairs."""
    from sqlmodel import col, select

    from driftline.cli.opened import reading_in
    from driftline.moment import iso
    from driftline.store.tables import Reoptimization

    with reading_in(project) as (session, owner):
        query = select(Reoptimization).where(Reoptimization.project_id == owner.id)
        found = [
            {
                "id": row.id, "state": row.state, "route": row.route, "because": row.plan.get("because"),
                "reason": row.reason, "decided_by": row.decided_by, "updated": iso(row.updated_at),
                "evidence": row.evidence,
            }
            for row in session.exec(query.order_by(col(Reoptimization.id).desc()))
        ]  # fmt: skip
    rows(json, found, ("id", "state", "route", "because", "decided_by", "updated"), "No repair was proposed yet.")


def _decide(number: int, project: str, json: bool, decision: str, reason: str = "") -> None:
    from driftline.acts import reoptimizations as acts
    from driftline.cli.opened import writing_in
    from driftline.errors import NotFound
    from driftline.store.tables import Reoptimization

    with writing_in(project) as (session, owner):
        row = session.get(Reoptimization, number)
        if row is None or row.project_id != owner.id:
            raise NotFound("re-optimization", number)
        if decision == "approve":
            acts.approve(session, row, actor())
        else:
            {"reject": acts.reject, "cancel": acts.cancel, "undo": acts.undo}[decision](session, row, actor(), reason)
    out(json, {"reoptimization": number, "state": row.state}, f"Re-optimization {number} is {row.state}.")


Number = Annotated[int, typer.Argument(help="Its number.")]
Reason = Annotated[str, typer.Option(help="Why; kept in the audit.")]


@reoptimizations.command()
def approve(number: Number, project: Project = "default", json: Json = False) -> None:
    """Approve: candidates are built, replayed and gated; the best is promoted, or none."""
    _decide(number, project, json, "approve")


@reoptimizations.command()
def reject(
    number: Number,
    reason: Reason = "",
    project: Project = "default",
    json: Json = False,
) -> None:
    """Reject a proposal."""
    _decide(number, project, json, "reject", reason)


@reoptimizations.command()
def cancel(
    number: Number,
    reason: Reason = "",
    project: Project = "default",
    json: Json = False,
) -> None:
    """Stop a repair under way."""
    _decide(number, project, json, "cancel", reason)


@reoptimizations.command()
def undo(
    number: Number,
    reason: Reason = "",
    project: Project = "default",
    json: Json = False,
) -> None:
    """Take a promotion back."""
    _decide(number, project, json, "undo", reason)
