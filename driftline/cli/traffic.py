"""`driftline import`, `export`, `erase` and `project`: production calls in and out, and what is kept of them."""

from pathlib import Path
from typing import Annotated, Any

import typer

from driftline.cli.say import Json, Project, actor, out

projects = typer.Typer(help="What a project keeps of its traffic.", no_args_is_help=True)


def import_calls(
    file: Annotated[Path, typer.Argument(help="A .jsonl, .json, .csv or .parquet file.")],
    kind: Annotated[
        str | None, typer.Option("--format", help="driftline, langfuse, phoenix or openai. Default: as it looks.")
    ] = None,
    project: Project = "default",
    json: Json = False,
) -> None:
    """Store the calls of a file; run it again after an interruption, and it goes on where it was.

    Exits 1 where calls were refused and none was taken.
    """
    from dataclasses import asdict

    from collector.foreign import FORMATS
    from collector.transfer import Imported, import_file
    from driftline.cli.opened import writing_in
    from driftline.errors import BadInput

    if kind is not None and kind not in FORMATS:
        raise BadInput(f"There is no format {kind!r}. Known: {', '.join(FORMATS)}.")
    with writing_in(project) as (_, owner):
        project_id = owner.id
    with _counting(f"Importing {file.name}", quiet=json) as count:

        def show(done: Imported) -> None:
            count(done.read)

        done = import_file(file, project_id, kind, show)
    said = (
        f"{done.read} items read: {done.accepted} calls stored, {done.duplicates} there already, "
        f"{done.other} no calls of a model, {done.rejected} refused."
    )
    text = "\n".join([said, *(f"  {reason}" for reason in done.reasons)])
    if done.rejected and done.rejected + done.other == done.read:
        raise BadInput(f"Nothing of {file} was stored. {text}")
    out(json, asdict(done), text)


def export_calls(
    file: Annotated[Path, typer.Argument(help="Where to; .jsonl, .csv or .parquet says how.")],
    since: Annotated[str | None, typer.Option(help="RFC 3339 moment, inclusive.")] = None,
    until: Annotated[str | None, typer.Option(help="RFC 3339 moment, exclusive.")] = None,
    variant: Annotated[str | None, typer.Option(help="Only calls of this variant.")] = None,
    kind: Annotated[
        str | None, typer.Option("--format", help="jsonl, csv or parquet. Default: the file's suffix.")
    ] = None,
    project: Project = "default",
    json: Json = False,
) -> None:
    """Write stored calls to a file that can be imported again; texts are as they are stored."""
    from collector.transfer import export_records
    from driftline.acts.variants import find_variant
    from driftline.cli.opened import reading_in
    from driftline.moment import parse

    with reading_in(project) as (session, owner):
        project_id = owner.id
        if variant is not None:
            find_variant(session, project_id, variant)
    moments: list[int | None] = []
    for name, text in (("--since", since), ("--until", until)):
        try:
            moments.append(None if text is None else parse(text))
        except ValueError:
            raise typer.BadParameter(f"{text!r} is no moment such as 2026-11-22T14:00:00Z.", param_hint=name) from None
    with _counting(f"Exporting to {file.name}", quiet=json) as count:
        n = export_records(project_id, file, moments[0] or 0, moments[1], variant, kind=kind, progress=count)
    out(json, {"file": str(file), "calls": n}, f"{n} calls written to {file}.")


def erase(
    user_id: Annotated[str, typer.Argument(help="The user, as the app names it.")],
    project: Project = "default",
    json: Json = False,
) -> None:
    """Delete all calls of a user, with their feedback and scores."""
    from collector.retention import erase_user
    from driftline.acts.projects import audit_erasure
    from driftline.cli.opened import writing_in

    with writing_in(project) as (session, owner):
        audit_erasure(session, owner, user_id, actor())
        project_id = owner.id
    n = erase_user(project_id, user_id)
    out(json, {"project": project, "calls": n}, f"{n} calls erased." if n else "There was no call of that user.")


@projects.command("show")
def show_project(project: Project = "default", json: Json = False) -> None:
    """Show what the project keeps of texts, and for how long."""
    from driftline.cli.opened import reading_in

    with reading_in(project) as (_, owner):
        _say(owner, json)


@projects.command("set")
def set_project(
    store_text: Annotated[
        str | None, typer.Option(help="What is kept of texts that come in: full, redacted, hashed or none.")
    ] = None,
    keep_days: Annotated[
        int | None, typer.Option(help="Forget calls older than this; 0 keeps them for ever.", min=0)
    ] = None,
    project: Project = "default",
    json: Json = False,
) -> None:
    """Change what the project keeps; the clock forgets what is too old within the hour."""
    from driftline.acts.projects import configure
    from driftline.cli.opened import writing_in

    with writing_in(project) as (session, owner):
        configure(session, owner, actor(), store_text=store_text, keep_days=keep_days)
        _say(owner, json)


def _say(owner: Any, json: bool) -> None:
    kept = "for ever" if owner.keep_days is None else f"for {owner.keep_days} days"
    told = {"name": owner.name, "store_text": owner.store_text, "keep_days": owner.keep_days}
    out(json, told, f"{owner.name}: texts are stored {owner.store_text}, calls are kept {kept}.")


def _counting(title: str, *, quiet: bool) -> Any:
    """A block that gives a function to show how many are done."""
    from collections.abc import Callable, Iterator
    from contextlib import contextmanager

    from rich.console import Console
    from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    @contextmanager
    def block() -> Iterator[Callable[[int], None]]:
        columns = (SpinnerColumn(), TextColumn("{task.description}: {task.completed} done"), TimeElapsedColumn())
        with Progress(*columns, console=Console(stderr=True), disable=quiet) as bars:
            bar = bars.add_task(title, total=None)
            yield lambda n: bars.update(bar, completed=n)

    return block()
