"""Commands of `driftline alert` that say who is told of what: channels, rules, silences."""

from typing import Annotated, Any

import typer

from driftline.cli.say import Json, Project, actor, out, rows

UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
Set = Annotated[list[str] | None, typer.Option("--set", help="FIELD=VALUE; FIELD alone asks for it, hidden.")]
Match = Annotated[list[str] | None, typer.Option("--match", help="route=chat, variant!=base, signal=~quality|errors.")]
On = Annotated[str, typer.Option("--on", help="drift, comparison, error_rate, no_data, cost, …, self.")]
Numbers = Annotated[
    list[str] | None, typer.Option("--set", help="A number of the condition, e.g. threshold=0.05, window_s=3600.")
]
For = Annotated[str, typer.Option("--for", help="How long it must hold, e.g. 90s, 15m, 2h.")]
GroupBy = Annotated[list[str] | None, typer.Option(help="Labels that name an incident, e.g. route.")]


def seconds(text: str) -> float:
    """Seconds of `90`, `90s`, `15m`, `2h` or `1d`.

    Raises:
        BadInput: It is no length of time.

    >>> seconds("15m"), seconds("90")
    (900.0, 90.0)
    """
    from driftline.errors import BadInput

    number, unit = (text[:-1], text[-1]) if text[-1:] in UNITS else (text, "s")
    try:
        return float(number) * UNITS[unit]
    except ValueError:
        raise BadInput(f"{text!r} is no length of time; write e.g. 90s, 15m, 2h or 1d.") from None


def channel(
    name: Annotated[str, typer.Argument(help="A name for it.")],
    kind: Annotated[
        str, typer.Option(help="slack, slack-bot, webhook, pagerduty, email, teams, discord, github or apprise.")
    ],
    url: Annotated[str | None, typer.Option(help="Its address; encrypted, never shown again. Asked for.")] = None,
    secret: Annotated[str | None, typer.Option(help="For webhook: the secret that signs what is sent.")] = None,
    fields: Set = None,
    project: Project = "default",
    json: Json = False,
) -> None:
    """Set a channel and tell it of every drift and of Driftline's own trouble."""
    from driftline.acts.alerts import add_channel, add_rule
    from driftline.acts.channels import KINDS
    from driftline.cli.opened import writing_in

    address = {"url": url, "secret": secret}
    for text in fields or []:
        field, given, value = text.partition("=")
        address[field] = value if given else typer.prompt(field, hide_input=True)
    for field in KINDS[kind].needs if kind in KINDS else ():
        if not address.get(field):
            address[field] = typer.prompt(field, hide_input=True)
    with writing_in(project) as (session, owner):
        row = add_channel(session, owner.id, name, kind, {k: v for k, v in address.items() if v}, actor())
        for on in ("drift", "self"):
            add_rule(session, owner.id, f"{on} to {name}", on, actor(), channels=[name])
    said = f"{name} is told of every drift. Try it: driftline alert test {name}"
    out(json, {"channel": name, "kind": row.kind}, said)


def channels(project: Project = "default", json: Json = False) -> None:
    """List channels and whether they work; addresses are never shown."""
    from sqlmodel import select

    from driftline.cli.opened import reading_in
    from driftline.moment import iso
    from driftline.store.tables import Channel

    with reading_in(project) as (session, owner):
        found = [
            {"name": row.name, "kind": row.kind, "failing_since": iso(row.failing_since) if row.failing_since else None,
             "last_error": row.last_error}
            for row in session.exec(select(Channel).where(Channel.project_id == owner.id).order_by(Channel.name))
        ]  # fmt: skip
    rows(json, found, ("name", "kind", "failing_since", "last_error"), "No channel yet: driftline alert channel --help")


def rule(
    name: Annotated[str, typer.Argument(help="A name for it; the same name again replaces the rule.")],
    on: On,
    channel: Annotated[list[str], typer.Option(help="Who is told; several may be.")],
    severity: Annotated[str, typer.Option(help="info, warning or page.")] = "page",
    match: Match = None,
    condition: Numbers = None,
    for_: For = "0s",
    group_by: GroupBy = None,
    renotify: Annotated[str | None, typer.Option(help="Remind while nobody has acknowledged, e.g. 4h.")] = None,
    escalate: Annotated[list[str] | None, typer.Option(help="AFTER:CHANNEL,CHANNEL, e.g. 15m:pager.")] = None,
    project: Project = "default",
    json: Json = False,
) -> None:
    """Say which happenings become alerts, how severe, after how long, and who is told."""
    from driftline.acts.alerts import add_rule
    from driftline.cli.opened import writing_in

    steps = [step.partition(":") for step in escalate or []]
    with writing_in(project) as (session, owner):
        row = add_rule(
            session, owner.id, name, on, actor(), channels=channel, severity=severity, **_wish(match, condition),
            for_s=seconds(for_), group_by=group_by, renotify_s=seconds(renotify) if renotify else None,
            escalation=[{"after_s": seconds(after), "channels": told.split(",")} for after, _, told in steps],
        )  # fmt: skip
    out(json, row.model_dump(), f"{name}: {', '.join(channel)} told of {on}.")


def _wish(match: list[str] | None, condition: list[str] | None) -> dict[str, Any]:
    from driftline.acts.matching import read_matchers
    from driftline.errors import BadInput

    numbers = {}
    for text in condition or []:
        field, _, value = text.partition("=")
        try:
            numbers[field] = float(value)
        except ValueError:
            raise BadInput(f"{text!r} is no number of a condition; write e.g. threshold=0.05.") from None
    return {"matchers": read_matchers(match or []), "condition": numbers}


def rules(project: Project = "default", json: Json = False) -> None:
    """List alert rules."""
    from sqlmodel import select

    from driftline.cli.opened import reading_in
    from driftline.store.tables import AlertRule

    with reading_in(project) as (session, owner):
        of_project = select(AlertRule).where(AlertRule.project_id == owner.id).order_by(AlertRule.name)
        found = [row.model_dump() for row in session.exec(of_project)]
    columns = ("name", "on", "severity", "matchers", "condition", "channels", "enabled", "problem")
    rows(json, found, columns, "No rule yet: driftline alert rule --help")


def preview(
    on: On,
    match: Match = None,
    condition: Numbers = None,
    for_: For = "0s",
    group_by: GroupBy = None,
    days: Annotated[float, typer.Option(min=0.01, max=366, help="How far to look back.")] = 30.0,
    project: Project = "default",
    json: Json = False,
) -> None:
    """Say how often a rule would have fired on stored history, before it is saved (a worker must run)."""
    from driftline.acts.rules import request_preview
    from driftline.cli.opened import writing_in
    from driftline.cli.waiting import wait_for_job
    from driftline.errors import DriftlineError

    wish = {"on": on, **_wish(match, condition), "for_s": seconds(for_), "group_by": group_by or []}
    with writing_in(project) as (session, owner):
        job = request_preview(session, owner.id, wish, days)
    ended = wait_for_job(job.id, "Looking back", quiet=json)
    if ended.state != "done" or ended.result is None:
        raise DriftlineError(f"The preview failed: {ended.error}")
    out(json, ended.result, str(ended.result["says"]))


def silence(
    matcher: Annotated[list[str], typer.Argument(help="route=chat, variant!=base, signal=~q.*; all must match.")],
    hours: Annotated[float, typer.Option(min=0.01, max=24 * 366, help="For how long.")] = 2.0,
    begins: Annotated[str | None, typer.Option("--from", help="When it begins, RFC 3339. Default: now.")] = None,
    cron: Annotated[str | None, typer.Option(help="A maintenance window: five fields, e.g. '0 2 * * 0'.")] = None,
    lasts: Annotated[str | None, typer.Option(help="How long each window lasts, e.g. 90m.")] = None,
    timezone: Annotated[str, typer.Option(help="IANA time zone of the cron line.")] = "UTC",
    comment: Annotated[str, typer.Option(help="Why.")] = "",
    project: Project = "default",
    json: Json = False,
) -> None:
    """Mute matching alerts for a while, or in recurring maintenance windows."""
    from driftline.acts.alerts import silence as act
    from driftline.acts.matching import read_matchers
    from driftline.cli.opened import writing_in
    from driftline.errors import BadInput
    from driftline.moment import HOUR, iso, now_us, parse

    try:
        since = now_us() if begins is None else parse(begins)
    except ValueError:
        raise BadInput(f"{begins!r} is no moment; write e.g. 2026-11-22T14:00:00Z.") from None
    with writing_in(project) as (session, owner):
        row = act(
            session, owner.id, read_matchers(matcher), since + int(hours * HOUR), actor(), comment, since_us=since,
            cron=cron, lasts_s=seconds(lasts) if lasts else None, timezone=timezone,
        )  # fmt: skip
    out(json, row.model_dump(), f"Silence {row.id} is set until {iso(row.until)}.")


def unsilence(
    number: Annotated[int, typer.Argument(help="The silence's number.")],
    project: Project = "default",
    json: Json = False,
) -> None:
    """End a silence now; what it muted and still fires is told."""
    from driftline.acts.alerts import end_silence
    from driftline.cli.opened import writing_in
    from driftline.errors import NotFound
    from driftline.store.tables import Silence

    with writing_in(project) as (session, owner):
        row = session.get(Silence, number)
        if row is None or row.project_id != owner.id:
            raise NotFound("silence", number)
        end_silence(session, row, actor())
    out(json, {"silence": number}, f"Silence {number} has ended.")


def inhibit(
    name: Annotated[str, typer.Argument(help="A name for it; the same name again replaces it.")],
    while_: Annotated[list[str], typer.Option("--while", help="Matchers of the alert that speaks for others.")],
    mute: Annotated[list[str], typer.Option(help="Matchers of the alerts that are mute while it stands.")],
    equal: Annotated[list[str] | None, typer.Option(help="Labels that both must share, e.g. route.")] = None,
    project: Project = "default",
    json: Json = False,
) -> None:
    """Let one alert speak for others: while it stands, they are not told."""
    from driftline.acts.alerts import inhibit as act
    from driftline.acts.matching import read_matchers
    from driftline.cli.opened import writing_in

    with writing_in(project) as (session, owner):
        row = act(session, owner.id, name, read_matchers(while_), read_matchers(mute), equal or [], actor())
    out(json, row.model_dump(), f"{name} is set.")
