"""Answers from a function of yours, named by its dotted path."""

import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from importlib import import_module
from typing import Annotated, Any, ClassVar

from pydantic import Field
from pydantic.dataclasses import dataclass

from driftline.errors import BadInput
from driftline.protocols import Completion, Messages, Sampling
from variants.canonical import digest
from variants.method import STRICT
from variants.runners.local_model import LocalModel


@dataclass(frozen=True, config=STRICT)
class PythonRunner:
    """Calls `function`, "package.module:name", with (messages, sampling), one prompt at a time, `concurrency` at once.

    It returns the text, a mapping with the fields of a Completion, or a Completion. Its latency is measured unless
    it says one. What it raises becomes that prompt's error. `version` enters the fingerprint: raise it when the
    function changes its answers, since code cannot be hashed reliably.
    """

    function: Annotated[str, Field(pattern=r"^[\w.]+:[\w.]+$")]
    version: str = "1"
    concurrency: Annotated[int, Field(ge=1, le=256)] = 1
    takes: ClassVar[str | None] = None

    def open(self, source: LocalModel | None, threads: int | None) -> "PythonGenerate":
        """The function, ready to be called."""
        return PythonGenerate(self.imported(), self)

    def imported(self) -> Callable[[Messages, Sampling], Any]:
        """The function.

        Raises:
            BadInput: There is none, or its module fails.
        """
        module, _, name = self.function.partition(":")
        try:
            found: Any = import_module(module)
            for part in name.split("."):
                found = getattr(found, part)
        except Exception as wrong:
            reason = wrong if isinstance(wrong, ImportError | AttributeError) else f"{type(wrong).__name__}: {wrong}"
            raise BadInput(f"The function {self.function} cannot be imported: {reason}.") from wrong
        if not callable(found):
            raise BadInput(f"{self.function} is a {type(found).__name__}, which cannot be called.")
        called: Callable[[Messages, Sampling], Any] = found
        return called


class PythonGenerate:
    """Generate over a function."""

    def __init__(self, function: Callable[[Messages, Sampling], Any], config: PythonRunner) -> None:
        self._function, self._config = function, config

    @property
    def fingerprint(self) -> str:
        """sha256 of the function's name and its stated version, not of its code."""
        return digest(["python", self._config.function, self._config.version])

    def generate(self, prompts: Sequence[Messages], sampling: Sampling) -> list[Completion]:
        """One Completion per prompt, in order."""
        if self._config.concurrency == 1:
            return [self._one(prompt, sampling) for prompt in prompts]
        with ThreadPoolExecutor(self._config.concurrency) as pool:
            return list(pool.map(lambda prompt: self._one(prompt, sampling), prompts))

    def _one(self, prompt: Messages, sampling: Sampling) -> Completion:
        began = time.perf_counter()
        try:
            said = self._function(prompt, sampling)
        except Exception as wrong:  # noqa: BLE001  (somebody else's code: whatever it raises is this answer's error)
            return Completion("", (time.perf_counter() - began) * 1000, error=f"{type(wrong).__name__}: {wrong}")
        latency = (time.perf_counter() - began) * 1000
        if isinstance(said, Completion):
            return said if said.latency_ms else replace(said, latency_ms=latency)
        try:
            return Completion(said, latency) if isinstance(said, str) else Completion(**{"latency_ms": latency, **said})
        except TypeError as wrong:
            return Completion("", latency, error=f"{self._config.function} returned no answer: {wrong}")
