"""What a method is: a frozen, validated config with one verb. The stage says which verb, and where it may stand.

A chain reads `base → weights… → export → runtime…`, with `around` steps anywhere after the base:

| stage | verb | result |
|---|---|---|
| base | `make(directory, say)` | the first model directory |
| weights | `edit(model, tokenizer, say)` | a changed model that can be saved |
| export | `export(parent, directory, say)` | another file format, run by another runner |
| runtime | `apply(model)` | a changed model that cannot be saved, made again at every opening |
| around | `wrap(answering, beside)` | the same model, asked differently |

A step may also have `on_disk` (the config keys that name files and folders outside the cache, whose content belongs to
its identity), `packages` (whose versions are recorded), `others()` (around: the variants it needs beside its own) and
`prepare(directory, say)` (around: writes what it needs, such as an index, and returns what it measured).
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Protocol

from pydantic import ConfigDict

from driftline.protocols import Generate

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

Stage = Literal["base", "weights", "export", "runtime", "around"]
Say = Callable[[str], None]

STRICT = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False, arbitrary_types_allowed=False)
"""Pydantic settings of every method and runner config: unknown keys and lax conversions are refused."""


class Method(Protocol):
    """What all methods have. `revision` is raised when the same config would build other bytes than before."""

    stage: ClassVar[Stage]
    revision: ClassVar[int]


class Base(Method, Protocol):
    def make(self, directory: Path, say: Say) -> Path:
        """Where the model lies: `directory` when it was written there, else a place that already had it."""
        ...


class Weights(Method, Protocol):
    def edit(
        self, model: "PreTrainedModel", tokenizer: "PreTrainedTokenizerBase", say: Say
    ) -> tuple["PreTrainedModel", dict[str, float]]:
        """The changed model (usually the same object) and what was measured on the way."""
        ...


class Export(Method, Protocol):
    gives: ClassVar[str]

    def export(self, parent: Path, directory: Path, say: Say) -> dict[str, float]:
        """Writes the model of `parent` into `directory` in format `gives`; returns what was measured."""
        ...


class Runtime(Method, Protocol):
    def apply(self, model: "PreTrainedModel") -> "PreTrainedModel":
        """The model as it will run; may change `model`."""
        ...


@dataclass(frozen=True)
class Beside:
    """What an `around` step finds beside the model: the directory it prepared, the other variants it names, opened."""

    directory: Path | None = None
    others: Mapping[str, Generate] = field(default_factory=dict)


class Around(Method, Protocol):
    def wrap(self, answering: Generate, beside: Beside) -> Generate:
        """Answers like `answering`, asked differently; has `log_probs` where `answering` has it."""
        ...


def quiet(_: str) -> None:
    """Says nothing: the default for `say`."""


def named_places(step: Any) -> list[tuple[str, Path]]:
    """The files and folders that a configured step or runner names, by config key, whether or not they are here."""
    given = [(key, getattr(step, key)) for key in getattr(step, "on_disk", ())]
    return [(key, Path(place).expanduser()) for key, place in given if place]


def inputs_of(step: Any) -> list[Path]:
    """Those of them that are here: what outside the cache the step is made of."""
    return [place.resolve() for _, place in named_places(step) if place.exists()]


def fields_of(method: Any) -> tuple[str, ...]:
    """The config keys a method or runner class takes."""
    return tuple(field.name for field in fields(method))
