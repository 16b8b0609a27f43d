"""Hides the packages that an image does not carry, so that a process here sees what it would see in its container."""

import os
import sys
from collections.abc import Sequence
from importlib.machinery import ModuleSpec
from types import ModuleType


class NotInTheImage:
    """Answers first for every import; ModuleNotFoundError for what is named in DEPLOYMENT_TEST_HIDDEN."""

    def __init__(self, hidden: frozenset[str]) -> None:
        self.hidden = hidden

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if name.partition(".")[0] in self.hidden:
            raise ModuleNotFoundError(f"No module named {name!r}: the image does not carry it", name=name)
        return None


sys.meta_path.insert(0, NotInTheImage(frozenset(os.environ.get("DEPLOYMENT_TEST_HIDDEN", "").split(","))))
