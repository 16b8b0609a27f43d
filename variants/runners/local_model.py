"""What a local runner opens: a directory, what must still be done to the loaded model, and what it is made of."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from variants.canonical import digest
from variants.method import Runtime


@dataclass(frozen=True)
class LocalModel:
    """`made_of` is JSON that identifies the content: file hashes and the recipes of the runtime steps."""

    directory: Path
    runtime: tuple[Runtime, ...]
    made_of: Mapping[str, Any]

    def fingerprint(self, run_by: Mapping[str, Any]) -> str:
        """sha256 of the content and of `run_by`, what the runner adds to it."""
        return digest([dict(self.made_of), dict(run_by)])
