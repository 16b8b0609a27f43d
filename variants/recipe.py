"""What a variant is: a runner and a chain of recipes, base first, as JSON with a content hash."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import pairwise
from typing import Any

from pydantic import JsonValue, TypeAdapter, ValidationError

from driftline.errors import BadInput
from variants.canonical import canonical, digest
from variants.lookup import load, resolve
from variants.method import Stage, fields_of
from variants.methods import METHODS
from variants.runners import RUNNERS

type_adapters: dict[type[Any], TypeAdapter[Any]] = {}


@dataclass(frozen=True)
class Recipe:
    """One step: a method of `variants.methods.METHODS` and its config.

    The config is checked when the recipe is made, and kept without the keys that equal their default, so that
    a new option changes no hash of an old recipe. (So a default, once released, never changes.)

    Raises:
        BadInput: The method or a config key is unknown, or a value does not fit; lists what would.

    >>> Recipe("magnitude_prune", {"share": 0.5}) == Recipe("magnitude_prune", {})
    True
    """

    method: str
    config: Mapping[str, JsonValue] = field(default_factory=dict)

    def __post_init__(self) -> None:
        made = _configured(resolve(METHODS, "method", self.method), f"method {self.method}", self.config)
        object.__setattr__(self, "config", _without_defaults(made))

    @property
    def step(self) -> Any:
        """The configured method: an object with the verb of its stage."""
        return _step(METHODS[self.method], f"method {self.method}", canonical(dict(self.config)))

    @property
    def stage(self) -> Stage:
        """Where in a chain the method may stand."""
        stage: Stage = self.step.stage
        return stage

    def to_json(self) -> dict[str, JsonValue]:
        """`{"method": …, "config": {…}}`, read back by `Recipe(**…)`."""
        return {"method": self.method, "config": dict(self.config)}


@dataclass(frozen=True)
class Spec:
    """A variant: how it runs and how it is made. Equal specs have equal `content_hash`.

    `chain` starts with a base where the runner runs a local model, and has no base where the model is elsewhere.

    Raises:
        BadInput: The runner is unknown, its config does not fit, or the chain's steps cannot follow each other.
    """

    runner: str
    runner_config: Mapping[str, JsonValue] = field(default_factory=dict)
    chain: tuple[Recipe, ...] = ()

    def __post_init__(self) -> None:
        made = _configured(resolve(RUNNERS, "runner", self.runner), f"runner {self.runner}", self.runner_config)
        object.__setattr__(self, "runner_config", _without_defaults(made))
        object.__setattr__(self, "chain", tuple(self.chain))
        _check_order(self)

    @property
    def running(self) -> Any:
        """The configured runner: an object with `open`."""
        return _step(RUNNERS[self.runner], f"runner {self.runner}", canonical(dict(self.runner_config)))

    def to_json(self) -> dict[str, Any]:
        """Plain JSON, read back by `Spec.from_json`."""
        return {
            "runner": self.runner,
            "runner_config": dict(self.runner_config),
            "chain": [recipe.to_json() for recipe in self.chain],
        }

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> "Spec":
        """The spec that `to_json` stored.

        Raises:
            BadInput: A key is missing or unknown, or the content is no valid spec.
        """
        extra, missing = set(stored) - {"runner", "runner_config", "chain"}, {"runner"} - set(stored)
        if extra or missing:
            word, keys = ("unknown", extra) if extra else ("missing", missing)
            raise BadInput(
                f"A variant has the keys runner, runner_config and chain; {word}: {', '.join(sorted(keys))}."
            )
        chain = stored.get("chain", [])
        for place, step in enumerate(chain):
            if not isinstance(step, Mapping) or "method" not in step or set(step) - {"method", "config"}:
                raise BadInput(f"Step {place} of the chain must be {{'method': …, 'config': {{…}}}}, not {step!r}.")
        steps = tuple(Recipe(step["method"], step.get("config", {})) for step in chain)
        return cls(stored["runner"], stored.get("runner_config", {}), steps)

    @property
    def weighs(self) -> bool:
        """Whether the opened variant says how likely a given answer is."""
        around = [recipe.step for recipe in self.chain if recipe.stage == "around"]
        return bool(self.running.takes) and all(getattr(step, "weighs", True) for step in around)

    @property
    def content_hash(self) -> str:
        """sha256 (hex) of the canonical JSON: what the variant is called in the store."""
        return digest(self.to_json())

    def then(self, method: str, **config: JsonValue) -> "Spec":
        """The child of this variant: one step more."""
        return Spec(self.runner, self.runner_config, (*self.chain, Recipe(method, config)))


def spec(runner: str, *chain: str | tuple[str, Mapping[str, JsonValue]], **runner_config: JsonValue) -> Spec:
    """A checked spec from names and `(name, config)` pairs.

    >>> spec("transformers", "smollm2", ("magnitude_prune", {"share": 0.2}), batch_size=4).chain[1].config
    {'share': 0.2}
    """
    steps: Iterable[tuple[str, Mapping[str, JsonValue]]] = (s if isinstance(s, tuple) else (s, {}) for s in chain)
    return Spec(runner, runner_config, tuple(Recipe(method, config) for method, config in steps))


def _check_order(wanted: Spec) -> None:
    running, stages = wanted.running, [recipe.stage for recipe in wanted.chain]
    local = [recipe for recipe in wanted.chain if recipe.stage != "around"]
    if not running.takes:
        if local:
            raise BadInput(
                f"Runner {wanted.runner} uses a model that is elsewhere; {local[0].method} cannot change it."
            )
        return
    if not stages or stages[0] != "base":
        bases = ", ".join(sorted(name for name in METHODS if resolve(METHODS, "method", name).stage == "base"))
        raise BadInput(f"The chain of a {wanted.runner} variant begins with a base model: one of {bases}.")
    gives = "hf"
    for before, recipe in pairwise(local):
        if recipe.stage == "base":
            raise BadInput(f"{recipe.method} is a base model and can only stand first in a chain.")
        if before.stage == "export" and (recipe.stage != "runtime" or before.step.gives != "hf"):
            raise BadInput(
                f"{before.method} changes the file format and must be the last step; {recipe.method} follows."
            )
        if before.stage == "runtime" and recipe.stage != "runtime":
            raise BadInput(f"{before.method} cannot be saved, so {recipe.method} must come before it, not after.")
        if recipe.stage == "export":
            gives = recipe.step.gives
    if gives != running.takes:
        fits = sorted(name for name in RUNNERS if resolve(RUNNERS, "runner", name).takes == gives)
        raise BadInput(
            f"The chain gives a model in format {gives}, runner {wanted.runner} takes {running.takes}. Use {fits[0]}."
        )


def _configured(config_class: type[Any], owner: str, config: Mapping[str, JsonValue]) -> Any:
    try:
        return _adapter(config_class).validate_json(json.dumps(dict(config), allow_nan=False))
    except ValidationError as wrong:
        raise BadInput(f"Config of {owner}: {_sentence(wrong)} Its keys: {_keys(config_class)}.") from wrong
    except (TypeError, ValueError) as wrong:
        raise BadInput(f"Config of {owner} is not JSON: {wrong}.") from wrong


def _sentence(wrong: ValidationError) -> str:
    said = []
    for error in wrong.errors(include_url=False):
        place = ".".join(str(part) for part in error["loc"])
        unknown = error["type"] in {"unexpected_keyword_argument", "extra_forbidden"}
        said.append(f"unknown key {place!r}." if unknown else f"{place + ': ' if place else ''}{error['msg']}.")
    return " ".join(said)


def _keys(config_class: type[Any]) -> str:
    return ", ".join(fields_of(config_class)) or "none"


def _adapter(config_class: type[Any]) -> TypeAdapter[Any]:
    if config_class not in type_adapters:
        type_adapters[config_class] = TypeAdapter(config_class)
    return type_adapters[config_class]


def _without_defaults(made: Any) -> dict[str, JsonValue]:
    kept: dict[str, JsonValue] = _adapter(type(made)).dump_python(made, mode="json", exclude_defaults=True)
    return kept


@lru_cache(maxsize=256)
def _step(dotted: str, owner: str, config: str) -> Any:
    return _configured(load(dotted), owner, json.loads(config))
