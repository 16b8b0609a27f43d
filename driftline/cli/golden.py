"""`driftline golden`: golden sets."""

from pathlib import Path
from typing import Annotated

import typer

from driftline.cli.say import Json, Project, actor, out, rows

app = typer.Typer(help="Golden sets: versioned test items with reference answers.", no_args_is_help=True)


@app.command("import")
def import_file(
    file: Annotated[
        Path, typer.Argument(help="JSON Lines: input, expected, and optionally rubric, tags, weight, cluster, split.")
    ],
    name: Annotated[str, typer.Option("--name", "-n", help="The golden set; a new version of it is made.")],
    source: Annotated[str, typer.Option(help="Where the items come from. Default: the file's name.")] = "",
    licence: Annotated[str | None, typer.Option(help="The licence of the items.")] = None,
    project: Project = "default",
    json: Json = False,
) -> None:
    """Import items as a new version; duplicates are left out, the same items again change nothing."""
    from driftline.acts.golden import import_items, read_jsonl
    from driftline.cli.opened import writing_in

    items = list(read_jsonl(file))
    with writing_in(project) as (session, owner):
        version, duplicates = import_items(
            session, owner.id, name, items, actor(), source=source or file.name, licence=licence
        )
        document = {"name": name, "version": version.number, "items": version.n_items, "duplicates": duplicates}
    out(json, document, f"{name}@{version.number}: {version.n_items} items, {duplicates} duplicates left out.")


@app.command("list")
def list_sets(project: Project = "default", json: Json = False) -> None:
    """List golden sets and their versions."""
    from sqlmodel import col, select

    from driftline.cli.opened import reading_in
    from driftline.moment import iso
    from driftline.store.tables import GoldenSet, GoldenVersion

    with reading_in(project) as (session, owner):
        query = (
            select(GoldenSet.name, GoldenVersion)
            .join(GoldenVersion, col(GoldenVersion.golden_set_id) == col(GoldenSet.id))
            .where(GoldenSet.project_id == owner.id)
            .order_by(GoldenSet.name, col(GoldenVersion.number))
        )
        found = [
            {"name": name, "version": v.number, "items": v.n_items, "source": v.source, "created": iso(v.created_at)}
            for name, v in session.exec(query)
        ]
    rows(
        json,
        found,
        ("name", "version", "items", "source", "created"),
        "No golden set yet. Add one: driftline golden import FILE --name NAME",
    )


@app.command()
def show(
    name: Annotated[str, typer.Argument(help="NAME or NAME@VERSION.")],
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="Items to show at most.")] = 20,
    project: Project = "default",
    json: Json = False,
) -> None:
    """Show the items of a version."""
    from driftline.acts.golden import find_version
    from driftline.cli.opened import items_of, reading_in

    with reading_in(project) as (session, owner):
        version = find_version(session, owner.id, name)
        found = [
            {
                "position": i.position,
                "question": i.messages[-1]["content"],
                "expected": " | ".join(i.expected),
                "tags": i.tags,
                "hash": i.content_hash[:12],
            }
            for i in items_of(session, version, limit)
        ]
    rows(json, found, ("position", "question", "expected"), "This version has no items.")


@app.command()
def diff(
    old: Annotated[str, typer.Argument(help="NAME@VERSION.")],
    new: Annotated[str, typer.Argument(help="NAME@VERSION.")],
    project: Project = "default",
    json: Json = False,
) -> None:
    """Show which items two versions do not share."""
    from driftline.acts.golden import find_version
    from driftline.cli.opened import items_of, reading_in

    with reading_in(project) as (session, owner):
        sides = []
        for name in (old, new):
            version = find_version(session, owner.id, name)
            sides.append(
                {i.content_hash: i.messages[-1]["content"] for i in items_of(session, version, version.n_items)}
            )
    removed = [text for digest, text in sides[0].items() if digest not in sides[1]]
    added = [text for digest, text in sides[1].items() if digest not in sides[0]]
    lines = [f"- {text}" for text in removed] + [f"+ {text}" for text in added]
    out(json, {"removed": removed, "added": added}, "\n".join(lines) or "The two versions hold the same items.")
