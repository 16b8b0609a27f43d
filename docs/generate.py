"""Writes the pages that follow from the code: docs/settings.md and docs/commands.md.

`python docs/generate.py` writes them, `--check` exits 1 when one is not as it would be written.
"""

import sys
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent


def settings_page() -> str:
    """One row per setting."""
    from driftline.settings import Settings

    rows = ["# Settings", "", "Driftline reads its settings from the environment, when a process starts.", ""]
    rows += ["| variable | default | what it is |", "|---|---|---|"]
    for name, field in Settings.model_fields.items():
        default = field.default
        shown = default.get_secret_value() if hasattr(default, "get_secret_value") else default
        rows.append(f"| `DRIFTLINE_{name.upper()}` | {f'`{shown}`' if str(shown) else 'empty'} | {field.description} |")
    return "\n".join(rows) + "\n"


def commands_page() -> str:
    """One section per command, with its help."""
    import typer

    from driftline.cli.commands import app

    root = typer.main.get_command(app)
    rows = [
        "# Commands",
        "",
        "Every command that answers something takes `--json`. `driftline COMMAND --help` says the same.",
        "",
        "A command that fails says why in a sentence on standard error and exits with 1, or with 2 where its call",
        "cannot be understood; `driftline gate` has codes of its own. With `--json` it is one line of JSON there,",
        "problem details (RFC 9457) as the API's, and standard output stays empty:",
        "",
        "```json",
        '{"type": "about:blank", "title": "NotFound", "status": 404, "detail": "There is no variant int4. Known: v1."}',
        "```",
        "",
    ]
    for path, command in sorted(_leaves(root, ("driftline",))):
        rows += [f"## `{' '.join(path)}`", "", (command.help or "").strip(), ""]
        listed = [_parameter(one) for one in command.params if not getattr(one, "hidden", False) and one.name != "help"]
        rows += [*filter(None, listed), ""] if any(listed) else []
    return "\n".join(rows).rstrip() + "\n"


def _leaves(command: Any, path: tuple[str, ...]) -> list[tuple[tuple[str, ...], Any]]:
    if not hasattr(command, "commands"):
        return [(path, command)]
    found = []
    for name, child in command.commands.items():
        if not child.hidden:
            found += _leaves(child, (*path, name))
    return found


def _parameter(parameter: Any) -> str:
    name = (
        ", ".join(f"`{opt}`" for opt in parameter.opts)
        if parameter.param_type_name == "option"
        else f"`{parameter.name.upper()}`"
    )
    text = (parameter.help or "").strip()
    default = parameter.default
    known = default not in (None, "", [], ()) and not callable(default) and not isinstance(default, bool)
    return f"- {name}: {text}{f' (default: `{default}`)' if known else ''}"


PAGES = {"settings.md": settings_page, "commands.md": commands_page}


def main() -> int:
    """Writes or checks the pages."""
    stale = []
    for name, write in PAGES.items():
        path, page = HERE / name, write()
        if not path.exists() or path.read_text(encoding="utf-8") != page:
            stale.append(name)
            if "--check" not in sys.argv:
                path.write_text(page, encoding="utf-8")
    if "--check" in sys.argv and stale:
        sys.stderr.write(f"Not as the code says: docs/{', docs/'.join(stale)}. Run `make docs`.\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
