"""`driftline reoptimize` and `driftline route`: what is done about a drift, and how it comes to serve."""

from typing import Annotated, Any

import typer

from driftline.cli.say import Json, Project, actor, out, rows

reoptimizations = typer.Typer(help="Repairs: propose, approve, release, reject, undo.", no_args_is_help=True)
routes = typer.Typer(help="Routes: what answers, who approves repairs, how they come to serve.", no_args_is_help=True)

Number = Annotated[int, typer.Argument(help="Its number.")]
Reason = Annotated[str, typer.Option(help="Why; kept in the audit.")]
RouteName = Annotated[str, typer.Option(help="The route.")]
Cause = Annotated[str, typer.Option(help="What the plan answers: variant, input, latency, cost or third_party.")]


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


@reoptimizations.command()
def propose(
    route: RouteName = "default",
    cause: Cause = "variant",
    because: Annotated[str, typer.Option(help="Why, in words.")] = "",
    golden: Annotated[str | None, typer.Option("--golden", "-g", help="NAME or NAME@VERSION that judges.")] = None,
    candidates: Annotated[int | None, typer.Option(min=1, max=20, help="How many are tried at most.")] = None,
    hours: Annotated[float | None, typer.Option(min=0.01, help="In which they must be built and replayed.")] = None,
    documents: Annotated[str | None, typer.Option(help="A folder of fresh documents, for retrieval.")] = None,
    project: Project = "default",
    json: Json = False,
) -> None:
    """Ask for a repair of what answers a route; a worker plans it, then it waits for a yes."""
    from driftline.acts.golden import find_version
    from driftline.acts.reoptimizations import ask
    from driftline.cli.opened import writing_in

    with writing_in(project) as (session, owner):
        version = find_version(session, owner.id, golden).id if golden else None
        row = ask(
            session, owner.id, route, actor(), cause=cause, because=because, golden_version_id=version,
            max_candidates=candidates, budget_hours=hours, documents=documents,
        )  # fmt: skip
    out(json, {"reoptimization": row.id, "state": row.state}, f"Re-optimization {row.id} is {row.state}.")


@reoptimizations.command()
def schedule(
    name: Annotated[str, typer.Argument(help="A name for the schedule.")],
    route: RouteName = "default",
    cause: Cause = "variant",
    cron: Annotated[str | None, typer.Option(help="Five fields, e.g. '0 3 * * 1'.")] = None,
    every_s: Annotated[float | None, typer.Option(help="Or an interval in seconds.")] = None,
    timezone: Annotated[str, typer.Option(help="IANA time zone of the cron line.")] = "UTC",
    project: Project = "default",
    json: Json = False,
) -> None:
    """Ask for a repair by cron line or interval, unless one stands already."""
    from driftline.acts.schedules import add
    from driftline.cli.opened import writing_in

    with writing_in(project) as (session, owner):
        args = {"route": route, "cause": cause}
        row = add(session, owner.id, name, "reoptimize", args, actor(), cron=cron, every_s=every_s, timezone=timezone)
    out(json, row.model_dump(), f"{name}: {cron or f'every {every_s:g} s'} ({timezone}).")


def _decide(number: int, project: str, json: bool, decision: str, **given: Any) -> None:
    from driftline.acts import reoptimizations as acts
    from driftline.cli.opened import writing_in
    from driftline.errors import NotFound
    from driftline.store.tables import Reoptimization

    with writing_in(project) as (session, owner):
        row = session.get(Reoptimization, number)
        if row is None or row.project_id != owner.id:
            raise NotFound("re-optimization", number)
        getattr(acts, decision)(session, row, actor(), **given)
    out(json, {"reoptimization": number, "state": row.state}, f"Re-optimization {number} is {row.state}.")


@reoptimizations.command()
def approve(
    number: Number,
    hold: Annotated[bool, typer.Option("--hold", help="Build and prove only; the best waits for `release`.")] = False,
    project: Project = "default",
    json: Json = False,
) -> None:
    """Approve: candidates are built, replayed and gated; the best is rolled out, or none."""
    _decide(number, project, json, "approve", hold=hold)


@reoptimizations.command()
def release(number: Number, reason: Reason = "", project: Project = "default", json: Json = False) -> None:
    """Say yes to the candidate that passed: its roll-out begins."""
    _decide(number, project, json, "release", reason=reason)


@reoptimizations.command()
def reject(number: Number, reason: Reason = "", project: Project = "default", json: Json = False) -> None:
    """Reject a proposal, or the candidate that passed."""
    _decide(number, project, json, "reject", reason=reason)


@reoptimizations.command()
def cancel(number: Number, reason: Reason = "", project: Project = "default", json: Json = False) -> None:
    """Stop a repair under way; a canary is taken off."""
    _decide(number, project, json, "cancel", reason=reason)


@reoptimizations.command()
def undo(number: Number, reason: Reason = "", project: Project = "default", json: Json = False) -> None:
    """Take a promotion, a canary or a shadow back."""
    _decide(number, project, json, "undo", reason=reason)


@reoptimizations.command()
def evidence(number: Number, project: Project = "default", json: Json = False) -> None:
    """Print the evidence, one JSON document a line (`--json`: all in one): what failed, before and after."""
    import json as reader
    import sys

    from driftline.cli.opened import reading_in
    from driftline.errors import NotFound
    from driftline.store.artifacts import content
    from driftline.store.tables import Reoptimization

    with reading_in(project) as (session, owner):
        row = session.get(Reoptimization, number)
        if row is None or row.project_id != owner.id or row.bundle_sha256 is None:
            raise NotFound("evidence of re-optimization", number)
        _, raw = content(session, owner.id, row.bundle_sha256)
    if json:
        out(True, [reader.loads(line) for line in raw.decode().splitlines()], "")
    else:
        sys.stdout.write(raw.decode())


@routes.command("list")
def list_routes(project: Project = "default", json: Json = False) -> None:
    """List routes: what answers them, and their policy."""
    from sqlmodel import select

    from driftline.acts.routes import approval_of
    from driftline.cli.opened import reading_in
    from driftline.store.tables import Route, Variant

    with reading_in(project) as (session, owner):
        names = {v.id: v.name for v in session.exec(select(Variant).where(Variant.project_id == owner.id))}
        found = [
            {
                "name": row.name, "production": names.get(row.production_variant_id or 0),
                "baseline": names.get(row.baseline_variant_id or 0), "canary": names.get(row.canary_variant_id or 0),
                "share": row.canary_share, "approval": approval_of(session, row), "rollout": row.rollout,
            }
            for row in session.exec(select(Route).where(Route.project_id == owner.id).order_by(Route.name))
        ]  # fmt: skip
    columns = ("name", "production", "baseline", "canary", "share", "approval")
    rows(json, found, columns, "No route yet. The first traffic, or the first promotion, makes one.")


@routes.command("policy")
def set_route_policy(
    route: Annotated[str, typer.Argument(help="The route; without one, the project's own word.")] = "",
    approval: Annotated[
        str | None, typer.Option(help="Who says yes to repairs: manual, auto, or project to follow the project.")
    ] = None,
    shadow: Annotated[int | None, typer.Option(help="Real prompts a repair answers unseen first; 0: none.")] = None,
    canary: Annotated[float | None, typer.Option(help="Share of sessions a canary answers; 0: no canary.")] = None,
    answers: Annotated[int | None, typer.Option(help="Answers without harm until a canary is promoted.")] = None,
    hours: Annotated[float | None, typer.Option(help="Hours that takes at least.")] = None,
    days: Annotated[float | None, typer.Option(help="Days after which a canary with too few answers goes.")] = None,
    project: Project = "default",
    json: Json = False,
) -> None:
    """Say who approves the repairs of a route, and how they come to serve."""
    from dataclasses import asdict

    from driftline.acts.routes import approval_of, rollout_of, set_policy, set_project_approval
    from driftline.acts.variants import find_route
    from driftline.cli.opened import writing_in
    from driftline.errors import BadInput

    rollout = {
        "shadow_items": shadow, "canary_share": canary, "canary_items": answers, "canary_hours": hours,
        "canary_days": days,
    }  # fmt: skip
    with writing_in(project) as (session, owner):
        if not route:
            if approval is None or any(value is not None for value in rollout.values()):
                raise BadInput("A project has a word on approval alone; name the route for the rest.")
            set_project_approval(session, owner, approval, actor())
            out(json, {"approval": approval}, f"Repairs are approved by {approval} where a route says nothing else.")
            return
        row = find_route(session, owner.id, route)
        set_policy(session, row, actor(), approval=approval, **rollout)
        said, way = approval_of(session, row), rollout_of(row)
    text = f"{route}: approved by {said}"
    text += f"; {way.shadow_items} prompts in the shadow" if way.shadow_items else ""
    text += f"; a canary of {way.canary_share:.0%} until {way.canary_items} answers" if way.canary_share else ""
    out(json, {"route": route, "approval": said, "rollout": asdict(way)}, text + ".")
