"""`driftline key`, `user`, `db`, `doctor`, `version`."""

from typing import Annotated, Any

import typer

from driftline.cli.say import Json, Project, actor, out, rows

keys = typer.Typer(help="API keys.", no_args_is_help=True)
users = typer.Typer(help="People who sign in to the dashboard.", no_args_is_help=True)
database = typer.Typer(help="The database.", no_args_is_help=True)


@keys.command("create")
def create_key(
    name: Annotated[str, typer.Argument(help="Whom it is for.")],
    scopes: Annotated[str, typer.Option(help="Comma-separated: ingest, read, operate, admin.")] = "ingest",
    calls_per_minute: Annotated[
        int | None, typer.Option(help="Most calls a minute that a collector takes of it. Default: no limit.")
    ] = None,
    first: Annotated[
        bool, typer.Option("--first", help="Only when nobody has a key yet; otherwise say so and change nothing.")
    ] = False,
    project: Project = "default",
    json: Json = False,
) -> None:
    """Make a key; it is shown this once."""
    from driftline.cli.opened import writing_in
    from driftline.store.projects import any_key, ensure_project
    from driftline.store.projects import create_key as act

    with writing_in("default") as (session, default):
        if first and any_key(session):
            out(json, {"project": project, "name": name, "key": None}, "There is a key already; none was made.")
            return
        owner = default if project == "default" else ensure_project(session, project)
        chosen = [scope.strip() for scope in scopes.split(",") if scope.strip()]
        key = act(session, owner, name, chosen, actor(), calls_per_minute)
    out(
        json,
        {"project": project, "name": name, "key": key},
        f"{key}\nKeep it: it is stored as a hash and cannot be shown again.",
    )


@keys.command("rotate")
def rotate_key(
    name: Annotated[str, typer.Argument(help="The key's name.")],
    overlap_hours: Annotated[float, typer.Option(min=0, help="How long the old key works beside the new one.")] = 24.0,
    project: Project = "default",
    json: Json = False,
) -> None:
    """Make a new key in the place of one; both work until the overlap is over, so nothing stops meanwhile."""
    from driftline.cli.opened import writing_in
    from driftline.moment import HOUR
    from driftline.store.projects import rotate_key as act

    with writing_in(project) as (session, owner):
        key = act(session, owner, name, round(overlap_hours * HOUR), actor())
    out(
        json,
        {"project": project, "name": name, "key": key, "overlap_hours": overlap_hours},
        f"{key}\nKeep it: it cannot be shown again. The old key works for {overlap_hours:g} hours more.",
    )


@keys.command("revoke")
def revoke_key(
    name: Annotated[str, typer.Argument(help="The key's name.")],
    project: Project = "default",
    json: Json = False,
) -> None:
    """Revoke a key; servers refuse it within seconds."""
    from driftline.cli.opened import writing_in
    from driftline.store.projects import revoke_key as act

    with writing_in(project) as (session, owner):
        act(session, owner, name, actor())
    out(json, {"project": project, "name": name, "revoked": True}, f"The key {name} is revoked.")


@users.command("add")
def add_user(
    name: Annotated[str, typer.Argument(help="The name to sign in with.")],
    password: Annotated[
        str, typer.Option(prompt=True, hide_input=True, confirmation_prompt=True, help="At least 10 characters.")
    ],
    role: Annotated[str, typer.Option(help="viewer, operator or admin.")] = "viewer",
    json: Json = False,
) -> None:
    """Add a person, or set their password and role anew."""
    from driftline.acts.people import set_person
    from driftline.cli.opened import writing_in

    with writing_in("default") as (session, _):
        set_person(session, name, password, role, actor())
    out(json, {"name": name, "role": role}, f"{name} may sign in as {role}.")


@users.command("list")
def list_users(json: Json = False) -> None:
    """List people and what they may do."""
    from driftline.acts.people import people
    from driftline.cli.opened import reading_in
    from driftline.moment import iso

    with reading_in("default") as (session, _):
        found = [
            {
                "name": row.name, "role": row.role, "email": row.email, "slack": row.slack_id,
                "since": iso(row.created_at), "signs in": "at the provider" if row.subject else "with a password",
            }
            for row in people(session)
        ]  # fmt: skip
    rows(json, found, ("name", "role", "email", "slack", "signs in", "since"), "Nobody yet: driftline user add NAME")


@users.command("role")
def set_user_role(
    name: Annotated[str, typer.Argument(help="The person.")],
    role: Annotated[str, typer.Argument(help="viewer, operator or admin.")],
    json: Json = False,
) -> None:
    """Say what a person may do: viewers look, operators act, admins decide on people and policies too."""
    from driftline.acts.people import find_person, set_role
    from driftline.cli.opened import writing_in

    with writing_in("default") as (session, _):
        set_role(session, find_person(session, name), role, actor())
    out(json, {"name": name, "role": role}, f"{name} is {role} now.")


@users.command("slack")
def set_user_slack(
    name: Annotated[str, typer.Argument(help="The person.")],
    member: Annotated[
        str, typer.Argument(help="Their member id in Slack, e.g. U024BE7LH. Default: none any more.")
    ] = "",
    json: Json = False,
) -> None:
    """Say who a person is in Slack: their clicks on buttons there do what their role may do here."""
    from driftline.acts.people import find_person, set_slack
    from driftline.cli.opened import writing_in

    with writing_in("default") as (session, _):
        set_slack(session, find_person(session, name), member or None, actor())
    out(json, {"name": name, "slack": member or None}, f"{name} is {member or 'nobody'} in Slack now.")


@users.command("remove")
def remove_user(
    name: Annotated[str, typer.Argument(help="The person.")],
    json: Json = False,
) -> None:
    """Take a person's access; what they did stays on record."""
    from driftline.acts.people import find_person, remove_person
    from driftline.cli.opened import writing_in

    with writing_in("default") as (session, _):
        remove_person(session, find_person(session, name), actor())
    out(json, {"name": name, "removed": True}, f"{name} may not sign in any more.")


@database.command()
def upgrade(json: Json = False) -> None:
    """Bring the database to this version's tables. Every process does so when it starts."""
    from driftline.store.upgrade import upgrade as act

    head = act()
    out(json, {"revision": head}, f"The database is at revision {head}.")


@database.command("revision")
def show_revision(json: Json = False) -> None:
    """Show the revision the database is at."""
    from driftline.store.engine import engine
    from driftline.store.upgrade import revision

    at = revision(engine())
    out(json, {"revision": at}, at or "The database is empty.")


def doctor(json: Json = False) -> None:
    """Check settings, store, broker, disk and optional packages; exit 1 when something must be mended."""
    from driftline.cli.checks import run_checks

    found: list[dict[str, Any]] = run_checks()
    rows(json, found, ("check", "state", "detail"), "")
    raise typer.Exit(1 if any(row["state"] == "broken" for row in found) else 0)


def version(json: Json = False) -> None:
    """Show the version."""
    from driftline import __version__

    out(json, {"version": __version__}, __version__)
