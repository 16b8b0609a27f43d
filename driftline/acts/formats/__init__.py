"""Golden items in files: our own JSON Lines, CSV and Parquet, and what other evaluation tools write.

A format is one file that turns what it reads into our fields, and one row here; `canonical` checks them all.
"""

from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path

from driftline.acts.formats.rows import documents
from driftline.acts.golden import Item, canonical
from driftline.errors import BadInput
from driftline.files import Row

__all__ = ["FORMATS", "read_items"]

FORMATS = {
    "driftline": "driftline.acts.formats.own:items",
    "langfuse": "driftline.acts.formats.langfuse:items",
    "lm-eval": "driftline.acts.formats.lm_eval:items",
    "openai-evals": "driftline.acts.formats.openai_evals:items",
    "promptfoo": "driftline.acts.formats.promptfoo:items",
}
SIGNS = (  # a field of the first row that only one tool writes
    ("expectedOutput", "langfuse"), ("expected_output", "langfuse"), ("ideal", "openai-evals"),
    ("item", "openai-evals"), ("arguments", "lm-eval"), ("tests", "promptfoo"), ("scenarios", "promptfoo"),
    ("testCase", "promptfoo"),
    ("evalId", "promptfoo"),
)  # fmt: skip
Reader = Callable[[Path, Iterator[tuple[str, Row]]], Iterator[tuple[str, Row]]]


def read_items(path: Path, format: str | None = None) -> Iterator[Item]:  # noqa: A002
    """The items of a file, checked and in canonical form. Its suffix says how it is written.

    Args:
        path: `.jsonl`, `.json`, `.csv`, `.parquet`, `.yaml`.
        format: A key of `FORMATS`; without it, what the fields of the first row say.

    Raises:
        BadInput: The file cannot be read, is of no known format, or holds what cannot be used: names the place.
    """
    if format is not None and format not in FORMATS:
        raise BadInput(f"There is no format {format}. Known: {', '.join(FORMATS)}.")
    found = documents(path)
    first = next(found, None)
    if first is None:
        return
    chosen = format or next((name for sign, name in SIGNS if sign in first[1]), "driftline")
    module, _, name = FORMATS[chosen].partition(":")
    read: Reader = getattr(import_module(module), name)

    def rows() -> Iterator[tuple[str, Row]]:
        yield first
        yield from found

    at = "its beginning"
    try:
        for place, fields in read(path, rows()):
            at = place
            yield canonical(fields)
    except OSError as error:
        raise BadInput(f"{path} names {error.filename}, which cannot be read: {error.strerror}.") from None
    except BadInput as error:
        if error.message.endswith("Nothing was imported."):
            raise
        raise BadInput(f"{path}, {at}: {error.message} Nothing was imported.") from None
