"""Scorers by name: each judges answers and gives values in [0, 1], higher is better.

A scorer is one file and one row here. Packages of others add theirs with the entry point group `driftline.scorers`:
a function that takes the configuration (and `model`, where it needs one) and gives a `driftline.protocols.Score`.
"""

import contextlib
import difflib
import hashlib
import inspect
import json
from collections.abc import Callable
from importlib import import_module
from importlib.metadata import entry_points
from typing import Any

from driftline.errors import BadInput, MissingPackage, NotFound
from driftline.protocols import Generate, LogProbs, Score

__all__ = ["SCORERS", "scorer", "try_out"]

GROUP = "driftline.scorers"
LOADING = frozenset({"embedding_similarity"})  # what loads a model, which may lie where the worker is

SCORERS = {
    "baseline_likelihood": "evaluators.scorers.baseline_likelihood:baseline_likelihood",
    "baseline_top1": "evaluators.scorers.baseline_top1:baseline_top1",
    "bleu": "evaluators.scorers.bleu:bleu",
    "chrf": "evaluators.scorers.chrf:chrf",
    "code_execution": "evaluators.scorers.code_execution:code_execution",
    "contains": "evaluators.scorers.contains:contains",
    "embedding_similarity": "evaluators.scorers.embedding_similarity:embedding_similarity",
    "empty": "evaluators.scorers.empty:empty",
    "exact": "evaluators.scorers.exact:exact",
    "groundedness": "evaluators.scorers.groundedness:groundedness",
    "json_schema": "evaluators.scorers.json_schema:json_schema",
    "json_valid": "evaluators.scorers.json_valid:json_valid",
    "judge": "evaluators.scorers.judge:judge",
    "judge_pairwise": "evaluators.scorers.judge_pairwise:judge_pairwise",
    "language": "evaluators.scorers.language:language",
    "length_ratio": "evaluators.scorers.length_ratio:length_ratio",
    "multiple_choice": "evaluators.scorers.multiple_choice:multiple_choice",
    "normalised": "evaluators.scorers.normalised:normalised",
    "numeric": "evaluators.scorers.numeric:numeric",
    "perplexity": "evaluators.scorers.perplexity:perplexity",
    "pii": "evaluators.scorers.pii:pii",
    "reference_likelihood": "evaluators.scorers.reference_likelihood:reference_likelihood",
    "refusal": "evaluators.scorers.refusal:refusal",
    "regex": "evaluators.scorers.regex:regex",
    "rouge_l": "evaluators.scorers.rouge_l:rouge_l",
    "token_f1": "evaluators.scorers.token_f1:token_f1",
    "toxicity": "evaluators.scorers.toxicity:toxicity",
}


def scorer(name: str, *, model: LogProbs | Generate | None = None, **config: Any) -> Score:
    """The scorer of this name, set up. Its `version` names the configuration, so that no two are taken for one.

    Args:
        name: A key of `SCORERS`, or the name of an entry point.
        model: For scorers that ask a model; the others ignore it.
        **config: As the scorer's own function takes it.

    Raises:
        NotFound: No scorer has this name; lists those there are.
        BadInput: It needs a model and got none, or does not take this configuration.
        MissingPackage: It needs an optional package.

    >>> from driftline.protocols import Answered
    >>> scorer("numeric", tolerance=0.1)([Answered((), "About 3.1", expected=("3.14",))])[0].value
    1.0
    """
    make = _factory(name)
    accepted = inspect.signature(make).parameters
    if "model" in accepted and accepted["model"].default is inspect.Parameter.empty and model is None:
        raise BadInput(f"Scorer {name} asks a model and none was given. Give model=, such as a variant that runs here.")
    needs = accepted["model"].annotation if "model" in accepted else None
    if isinstance(needs, type) and not isinstance(model, needs):
        raise BadInput(
            f"Scorer {name} needs a model that offers {needs.__name__}, and {type(model).__name__} does not."
        )
    check(name, config)
    made = make(**({"model": model} if "model" in accepted else {}), **config)
    made.version += _named(config)
    return made


def try_out(name: str, config: dict[str, Any], *, has_judge: bool) -> None:
    """Refuses, before anything is asked, a scorer that cannot be set up so.

    Raises:
        NotFound: No scorer has this name.
        BadInput: It does not take this configuration, or lacks a judge.
    """
    check(name, config)
    needs = inspect.get_annotations(_factory(name), eval_str=True).get("model")
    if needs is Generate and not has_judge:
        raise BadInput(
            f'Scorer {name} needs a judge: name the variant that judges, as in {name}:{{"variant": "NAME"}}.'
        )
    if needs is None and config and name in SCORERS and name not in LOADING:
        with contextlib.suppress(MissingPackage):  # whoever scores may have it
            _factory(name)(**config)


def check(name: str, config: dict[str, Any]) -> None:
    """Refuses what the scorer's function does not take: another name, or a value of another kind than it says.

    Raises:
        NotFound: No scorer has this name.
        BadInput: Names what it takes.
    """
    from pydantic import ConfigDict, TypeAdapter, ValidationError

    make = _factory(name)
    accepted = inspect.signature(make)
    try:
        accepted.bind(**({"model": None} if "model" in accepted.parameters else {}), **config)
    except TypeError as error:
        known = ", ".join(parameter for parameter in accepted.parameters if parameter != "model") or "nothing"
        raise BadInput(f"Scorer {name} cannot be set up with {sorted(config)}: {error}. It takes {known}.") from None
    annotations = inspect.get_annotations(make, eval_str=True)
    for parameter, value in config.items():
        if parameter in annotations:
            try:
                TypeAdapter(annotations[parameter], config=ConfigDict(strict=True)).validate_python(value)
            except ValidationError as error:
                told = error.errors()[0]["msg"]
                raise BadInput(f"Scorer {name} cannot take {parameter} {value!r}: {told}.") from None


def _factory(name: str) -> Callable[..., Score]:
    if name in SCORERS:
        module, function = SCORERS[name].split(":")
        built_in: Callable[..., Score] = getattr(import_module(module), function)
        return built_in
    for custom in entry_points(group=GROUP):
        if custom.name == name:
            loaded: Callable[..., Score] = custom.load()
            return loaded
    known = sorted({*SCORERS, *(custom.name for custom in entry_points(group=GROUP))})
    close = difflib.get_close_matches(name, known, cutoff=0.4)
    raise NotFound("scorer", name, [*close, *(other for other in known if other not in close)])


def _named(config: dict[str, Any]) -> str:
    if not config:
        return ""
    text = json.dumps(config, sort_keys=True, default=repr)
    return f" {text}" if len(text) <= 80 else f" sha256:{hashlib.sha256(text.encode()).hexdigest()[:16]}"
