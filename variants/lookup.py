"""Tables of name → "module:attribute", resolved on first use, and packages that may be missing."""

import importlib.util
from collections.abc import Callable, Mapping
from functools import cache
from importlib import import_module, metadata
from typing import Any

from driftline.errors import BadInput, MissingPackage


def resolve(table: Mapping[str, str], kind: str, name: str) -> type[Any]:
    """The class that `table` names.

    Raises:
        BadInput: The table has no such name; lists the names it has.
    """
    if name not in table:
        raise BadInput(f"There is no {kind} {name!r}. Known: {', '.join(sorted(table))}.")
    return load(table[name])


@cache
def load(dotted: str) -> type[Any]:
    """The class that "module:attribute" names."""
    module, _, attribute = dotted.partition(":")
    found: type[Any] = getattr(import_module(module), attribute)
    return found


def as_callable(dotted: str) -> Callable[..., Any]:
    """The function that "module:function" names."""
    module, _, name = dotted.partition(":")
    found: Callable[..., Any] = getattr(import_module(module), name)
    return found


def need(package: str, needed_for: str, install: str | None = None, module: str | None = None) -> None:
    """Returns when `package` can be imported (as `module`, where the names differ).

    Raises:
        MissingPackage: It cannot; carries the command that installs it.
    """
    if importlib.util.find_spec(module or package) is None:
        raise MissingPackage(package, needed_for, install or f"pip install {package}")


def versions(*packages: str) -> dict[str, str]:
    """Installed version of each package; one that is absent is left out.

    >>> sorted(versions("pydantic", "no-such-package"))
    ['pydantic']
    """
    found: dict[str, str] = {}
    for package in packages:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return found
