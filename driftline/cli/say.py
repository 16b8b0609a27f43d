"""What commands print: a table for people, one JSON document for machines (`--json`)."""

import json
import sys
from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import typer

from driftline.errors import DriftlineError
from driftline.names import lines, one_line

Json = Annotated[bool, typer.Option("--json", help="Print one JSON document instead of text.")]
Project = Annotated[str, typer.Option("--project", "-p", help="The project to act in.")]


def out(as_json: bool, document: Any, text: str) -> None:
    """Prints the document as JSON, or the text."""
    if as_json:
        json.dump(document, sys.stdout, ensure_ascii=False, indent=2, default=str)
        sys.stdout.write("\n")
    else:
        typer.echo(lines(text))


def wants_json() -> bool:
    """Whether this process was called with `--json`, also where its call cannot be understood."""
    asked = sys.argv[1:]
    return "--json" in asked[: asked.index("--")] if "--" in asked else "--json" in asked


def failed(as_json: bool, error: DriftlineError) -> None:
    """Tells on standard error why a command failed: a sentence, or problem details on one line (RFC 9457)."""
    text = json.dumps(error.problem(), ensure_ascii=False) if as_json else f"driftline: {lines(error.message)}"
    typer.echo(text, err=True)


def rows(as_json: bool, found: Sequence[Mapping[str, Any]], columns: Sequence[str], empty: str) -> None:
    """Prints rows as JSON, or the named columns as a table; `empty` says what to type when there are none."""
    if as_json:
        out(True, [dict(row) for row in found], "")
        return
    if not found:
        typer.echo(empty)
        return
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(*columns, box=box.SIMPLE_HEAD, header_style="bold")
    for row in found:
        table.add_row(*(Text(_cell(row.get(column))) for column in columns))
    Console().print(table)


def _cell(value: Any) -> str:
    if value is None:
        return "–"
    if isinstance(value, float):
        return f"{value:.4g}"
    return one_line(str(value))


def actor() -> str:
    """Who acts, for the audit: the account at this machine."""
    import getpass

    try:
        return f"cli:{getpass.getuser()}"
    except (KeyError, OSError):
        return "cli"
