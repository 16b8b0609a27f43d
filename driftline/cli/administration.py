"""`driftline key`, `user`, `db`, `doctor`, `version`."""

from typing import Annotated, Any

import typer

from driftline.cli.say import Json, Project, actor, out, rows

keys = typer.Typer(help="API keys.", no_args_is_help=True)
users = typer.Typer(help="People who sign in to the dashboard.", no_args_is_help=True)
database = typer.Typer(help="The database.", no_args_is_help=True)

ROLES = ("viewer", "operator", "admin")


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
    from argon2 import PasswordHasher
    from sqlmodel import select

    from driftline.cli.opened import writing_in
    from driftline.errors import BadInput
    from driftline.moment import now_us
    from driftline.store.projects import audit
    from driftline.store.tables import User

    if role not in ROLES:
        raise BadInput(f"A role is one of {', '.join(ROLES)}; got {role!r}.")
    if len(password) < 10:
        raise BadInput("A password has at least 10 characters.")
    with writing_in("default") as (session, _):
        row = session.exec(select(User).where(User.name == name)).first()
        row = row or User(name=name, password_hash="", created_at=now_us())
        row.password_hash, row.role = PasswordHasher().hash(password), role
        session.add(row)
        session.flush()
        audit(session, None, actor(), "user.set", f"user:{row.id}", {"name": name, "role": role})
    out(json, {"name": name, "role": role}, f"{name} may sign in as {role}.")


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
