"""`driftline golden`: golden sets."""

from pathlib import Path
from typing import Annotated, Any

import typer

from driftline.cli.say import Json, Project, actor, out, rows

app = typer.Typer(help="Golden sets: versioned test items with reference answers.", no_args_is_help=True)


@app.command("import")
def import_file(
    file: Annotated[
        Path,
        typer.Argument(
            help="JSON Lines, JSON, CSV, Parquet or YAML: input, expected, and optionally rubric, tags, weight, "
            "cluster, split."
        ),
    ],
    name: Annotated[str, typer.Option("--name", "-n", help="The golden set; a new version of it is made.")],
    format: Annotated[  # noqa: A002
        str | None,
        typer.Option(help="driftline, promptfoo, openai-evals, langfuse or lm-eval. Default: what the fields say."),
    ] = None,
    source: Annotated[str, typer.Option(help="Where the items come from. Default: the file's name.")] = "",
    licence: Annotated[str | None, typer.Option(help="The licence of the items.")] = None,
    project: Project = "default",
    json: Json = False,
) -> None:
    """Import items as a new version; duplicates are left out, the same items again change nothing."""
    from driftline.acts.formats import read_items
    from driftline.acts.golden import check_name, import_items
    from driftline.cli.opened import writing_in

    check_name(name)
    items = list(read_items(file, format))
    with writing_in(project) as (session, owner):
        version, duplicates = import_items(
            session, owner.id, name, items, actor(), source=source or file.name, licence=licence
        )
        document = {"name": name, "version": version.number, "items": version.n_items, "duplicates": duplicates}
    out(json, document, f"{name}@{version.number}: {version.n_items} items, {duplicates} duplicates left out.")


@app.command("export")
def export_file(
    name: Annotated[str, typer.Argument(help="NAME or NAME@VERSION.")],
    to: Annotated[Path, typer.Option("--to", help="The file: .jsonl, .csv or .parquet.")],
    project: Project = "default",
    json: Json = False,
) -> None:
    """Write a version to a file that `golden import` reads back to the same version."""
    from collector.files import write_items
    from driftline.acts.golden import find_version
    from driftline.acts.golden_changes import exported, items_of
    from driftline.cli.opened import reading_in

    columns = ("input", "expected", "rubric", "tags", "weight", "cluster", "split")
    with reading_in(project) as (session, owner):
        items = items_of(session, find_version(session, owner.id, name))
    rows = [item if to.suffix.lower() == ".jsonl" else _flat(item) for item in exported(items)]
    n = write_items(to, columns, [rows])
    out(json, {"name": name, "items": n, "file": str(to)}, f"{n} items of {name} are in {to}.")


@app.command()
def add(
    name: Annotated[str, typer.Argument(help="The golden set; made when missing.")],
    generation: Annotated[
        list[str], typer.Option(help="The id of a production call; repeat it. Without, a sample is taken.")
    ] = [],  # noqa: B006
    route: Annotated[str | None, typer.Option(help="The route to sample from.")] = None,
    days: Annotated[float | None, typer.Option(min=0, help="Only calls of the last so many days.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="How many calls to sample at most.")] = 50,
    expect_answers: Annotated[
        bool,
        typer.Option("--expect-answers", help="Expect the answers that were given, where people said nothing else."),
    ] = False,
    project: Project = "default",
    json: Json = False,
) -> None:
    """Add production calls to a golden set, redacted, as a new version."""
    from collector.redact import redact
    from driftline.acts.golden_changes import add_items, from_traffic
    from driftline.cli.opened import writing_in
    from driftline.moment import DAY, now_us

    since = None if days is None else now_us() - int(days * DAY)
    with writing_in(project) as (session, owner):
        items = from_traffic(
            session, owner.id, redact, ids=generation, route=route, since=since, limit=limit,
            expect_answers=expect_answers,
        )  # fmt: skip
        version, known = add_items(session, owner.id, name, items, actor(), "production traffic")
    added = len(items) - known
    document = {"name": name, "version": version.number, "items": version.n_items, "added": added, "known": known}
    out(json, document, f"{name}@{version.number}: {added} added, {known} known already, {version.n_items} items.")


@app.command("coverage")
def show_coverage(
    name: Annotated[str, typer.Argument(help="NAME or NAME@VERSION.")],
    route: Annotated[str, typer.Option(help="The route whose traffic is looked at. Default: all.")] = "",
    days: Annotated[float, typer.Option(min=0.0, help="Traffic of the last so many days.")] = 7.0,
    project: Project = "default",
    json: Json = False,
) -> None:
    """Measure which share of today's traffic a golden set does not cover, and what that traffic asks."""
    from driftline.acts.coverage import newest_coverage, request_coverage
    from driftline.acts.golden import find_version
    from driftline.cli.opened import reading_in, writing_in
    from driftline.cli.waiting import wait_for_job
    from driftline.errors import DriftlineError

    with writing_in(project) as (session, owner):
        version = find_version(session, owner.id, name)
        job = request_coverage(session, owner.id, version, route=route, days=days)
    ended = wait_for_job(job.id, "Comparing with traffic", quiet=json)
    if ended.state != "done":
        raise DriftlineError(f"The coverage could not be measured: {ended.error}")
    with reading_in(project) as (session, _):
        found = newest_coverage(session, version.id)
    assert found is not None
    lines = [
        f"{found.outside:.1%} [{found.low:.1%}, {found.high:.1%}] of {found.n_prompts} prompts are not covered by "
        f"{name} ({found.expected:.0%}, at most {found.expected_high:.0%}, would be, were traffic like the set itself)."
    ]
    lines += [f"{group['share']:6.1%}  {group['typical'][0]}" for group in found.groups]
    out(json, found.model_dump(exclude={"weights", "project_id"}), "\n".join(lines))


@app.command()
def propose(
    name: Annotated[str, typer.Argument(help="NAME or NAME@VERSION, whose coverage was measured.")],
    to: Annotated[
        Path | None, typer.Option("--to", help="The .jsonl file to write drafts to. Default: they are printed.")
    ] = None,
    per_group: Annotated[int, typer.Option(min=1, max=5, help="Prompts to draft per uncovered group.")] = 3,
    project: Project = "default",
    json: Json = False,
) -> None:
    """Draft new items from traffic that a golden set does not cover, redacted; import them once they are complete."""
    from json import dumps

    from collector.files import write_items
    from collector.redact import redact
    from driftline.acts.coverage import find_coverage
    from driftline.acts.golden import find_version
    from driftline.acts.golden_changes import exported, proposed
    from driftline.cli.opened import reading_in

    with reading_in(project) as (session, owner):
        found = find_coverage(session, find_version(session, owner.id, name), name)
        drafts = proposed(session, owner.id, redact, found.groups, per_group)
    if to is None:
        for draft in exported(drafts):
            typer.echo(dumps(draft, ensure_ascii=False))
        return
    n = write_items(to, (), [list(exported(drafts))])
    lacking = sum(not draft["expected"] for draft in drafts)
    text = f"{n} drafts from {len(found.groups)} uncovered groups are in {to}; {lacking} lack an expected answer."
    out(json, {"drafts": n, "without_expected": lacking, "file": str(to)}, text)


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
    """Show which items two versions do not share: - only the older, + only the newer, ~ with something changed."""
    from driftline.acts.golden import find_version
    from driftline.acts.golden_changes import difference
    from driftline.cli.opened import reading_in

    with reading_in(project) as (session, owner):
        found = difference(session, *(find_version(session, owner.id, name) for name in (old, new)))
    lines = [f"- {text}" for text in found.removed] + [f"+ {text}" for text in found.added]
    lines += [f"~ {text}" for text in found.changed]
    document = {"removed": found.removed, "added": found.added, "changed": found.changed}
    out(json, document, "\n".join(lines) or "The two versions hold the same items.")


def _flat(item: dict[str, Any]) -> dict[str, Any]:
    """An item as one row of a table: a single question and a single answer stand as plain texts."""
    import json

    message = item["input"][0]
    lone = (
        len(item["input"]) == 1 and message["role"] == "user" and not message["content"].lstrip().startswith(("[", "{"))
    )
    expected = item.get("expected")
    flat = {"input": message["content"] if lone else json.dumps(item["input"], ensure_ascii=False)}
    if expected:
        plain = len(expected) == 1 and not _like_json(expected[0])
        flat["expected"] = expected[0] if plain else json.dumps(expected, ensure_ascii=False)
    return item | flat | ({"weight": str(item["weight"])} if "weight" in item else {})


def _like_json(text: str) -> bool:
    return text.lstrip().startswith(("[", "{"))
