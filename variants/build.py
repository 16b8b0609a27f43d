"""Makes what a chain of recipes describes, one step after the other; each step is kept and found again."""

import platform
import shutil
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from driftline import __version__
from driftline.errors import BadInput
from variants import shelf
from variants.canonical import digest
from variants.free_memory import check_free, held_bytes
from variants.loading import check_memory, load_model, load_tokenizer, resident_bytes
from variants.lookup import versions
from variants.method import Runtime, Say, inputs_of, quiet
from variants.recipe import Recipe, Spec

if TYPE_CHECKING:
    from transformers import PreTrainedModel

EDIT_MEMORY = 2.0  # weights in memory while a step changes them: the model, and a step's own work on one layer


@dataclass(frozen=True)
class Built:
    """What building a variant gave.

    `directory` is None where the last step cannot be saved (or nothing is local): it is made again at opening.
    `bytes_stored` is the size of the weights as this variant keeps them in memory or on disk, with those of the other
    variants that it asks; `seconds` what all
    steps took when they were built; `measured` what the last step measured. `key` names the last step's content.
    """

    directory: Path | None
    bytes_stored: int
    seconds: float
    measured: dict[str, float]
    deterministic: bool
    versions: dict[str, str]
    note: str
    key: str = ""


@dataclass(frozen=True)
class Step:
    """One built step: its key, its manifest, and the directory with the weights it stands on."""

    key: str
    manifest: Mapping[str, Any]
    directory: Path
    runtime: tuple[Recipe, ...]


def build(spec: Spec, cache_dir: Path, on_progress: Say = quiet) -> Built:
    """Builds what is missing of `spec` and says what there is; a second call finds all of it and builds nothing.

    Safe when several processes build the same at once (one builds, the others wait), and when killed at any
    moment (the finished steps stay, the unfinished one is discarded). To cancel, raise from `on_progress`.

    Raises:
        BadInput: A step cannot be made from what comes before it, or the model does not fit into memory.
        MissingPackage: A step needs a package that is not installed.
    """
    steps = build_steps(spec, cache_dir, on_progress)
    beside = [prepare(recipe, cache_dir, on_progress) for recipe in spec.chain if recipe.stage == "around"]
    prepared = [manifest for manifest in beside if manifest is not None]
    others = [build(other, cache_dir, on_progress) for recipe in spec.chain for other in others_of(recipe).values()]
    measured = {name: value for manifest in prepared for name, value in manifest["measured"].items()}
    seconds = sum(manifest["seconds"] for manifest in [*(step.manifest for step in steps), *prepared])
    if not steps:
        return Built(None, 0, seconds, measured, True, {}, "Nothing to build: the model is elsewhere.")
    last = steps[-1]
    manifest = last.manifest
    return Built(
        directory=None if last.runtime else last.directory,
        bytes_stored=manifest["bytes_stored"] + sum(other.bytes_stored for other in others),
        seconds=seconds,
        measured={**manifest["measured"], **measured},
        deterministic=all(step.manifest["deterministic"] for step in steps),
        versions=dict(manifest["versions"]),
        note="Made again from its recipe at every opening." if last.runtime else "",
        key=last.key,
    )


def prepare(recipe: Recipe, cache: Path, on_progress: Say = quiet) -> dict[str, Any] | None:
    """The manifest of what an `around` step keeps beside the model, made where missing; None where it keeps nothing.

    Its `directory` is absolute.
    """
    step = recipe.step
    if not hasattr(step, "prepare"):
        return None

    def say(what: str) -> None:
        on_progress(f"{recipe.method}: {what}")

    shelf.ready(cache)
    key = _prepared_key(recipe, cache)
    manifest = shelf.find(cache, key)
    if manifest is None:
        with shelf.building(cache, key, say) as room:
            manifest = shelf.find(cache, key)
            if manifest is None:
                say("preparing")
                began = time.perf_counter()
                (room / shelf.MODEL).mkdir()
                measured = step.prepare(room / shelf.MODEL, say)
                manifest = {"directory": shelf.MODEL, "files": shelf.hashed(room / shelf.MODEL), "measured": measured}
                manifest |= {"bytes_stored": 0, "deterministic": True, "recipe": recipe.to_json()}
                manifest |= {"seconds": round(time.perf_counter() - began, 3), "versions": _versions(step)}
                shelf.put(cache, key, room, manifest)
    return {**manifest, "directory": shelf.directory_of(cache, key, manifest)}


def others_of(recipe: Recipe) -> Mapping[str, Spec]:
    """The variants that a step needs beside its own, by the name it gives them."""
    found: Mapping[str, Spec] = getattr(recipe.step, "others", dict)()
    return found


def keys_of(spec: Spec, cache: Path) -> Iterator[str]:
    """Under which names `cache` keeps, or would keep, the steps of `spec` and of the variants that it asks."""
    for recipe in spec.chain:
        for other in others_of(recipe).values():
            yield from keys_of(other, cache)
    parent = None
    for recipe in spec.chain:
        if recipe.stage != "around":
            parent = _step_key(recipe, parent, cache)
            yield parent
        elif hasattr(recipe.step, "prepare"):
            yield _prepared_key(recipe, cache)


def _step_key(recipe: Recipe, parent: str | None, cache: Path) -> str:
    return digest([parent, recipe.to_json(), recipe.step.revision, _inputs(recipe, cache)])


def _prepared_key(recipe: Recipe, cache: Path) -> str:
    return digest(["around", recipe.to_json(), recipe.step.revision, _inputs(recipe, cache)])


def _inputs(recipe: Recipe, cache: Path) -> list[dict[str, Any]]:
    return [shelf.hashed_outside(cache, place) for place in inputs_of(recipe.step)]


def build_steps(spec: Spec, cache_dir: Path, on_progress: Say = quiet) -> list[Step]:
    """Every step of the chain that concerns the model, built; empty where the model is elsewhere."""
    steps: list[Step] = []
    local = [recipe for recipe in spec.chain if recipe.stage != "around"]
    if local:
        shelf.ready(cache_dir)
    for number, recipe in enumerate(local, 1):
        prefix = f"{number}/{len(local)} {recipe.method}"

        def say(what: str, prefix: str = prefix) -> None:
            on_progress(f"{prefix}: {what}")

        steps.append(_built(recipe, steps[-1] if steps else None, cache_dir, say))
    return steps


def _built(recipe: Recipe, parent: Step | None, cache: Path, say: Say) -> Step:
    step = recipe.step
    key = _step_key(recipe, parent.key if parent else None, cache)
    manifest = shelf.find(cache, key)
    if manifest is None:
        with shelf.building(cache, key, say) as room:
            manifest = shelf.find(cache, key)  # somebody else may have built it while we waited
            if manifest is None:
                say("building")
                began = time.perf_counter()
                manifest = _make(recipe, parent, cache, room, say)
                manifest |= {"recipe": recipe.to_json(), "parent": parent.key if parent else None}
                manifest |= {"seconds": round(time.perf_counter() - began, 3), "versions": _versions(step)}
                shelf.put(cache, key, room, manifest)
                say(f"built in {manifest['seconds']:.1f} s")
    own = shelf.directory_of(cache, key, manifest)
    if own is not None:
        return Step(key, manifest, own, ())
    assert parent is not None
    return Step(key, manifest, parent.directory, (*parent.runtime, recipe))


def _make(recipe: Recipe, parent: Step | None, cache: Path, room: Path, say: Say) -> dict[str, Any]:
    """The manifest of a freshly made step, without what `_built` adds."""
    step, directory = recipe.step, room / shelf.MODEL
    if parent is None:
        directory.mkdir()
        place = step.make(directory, say)
        files = shelf.hashed(directory) if place == directory else shelf.hashed_outside(cache, place)
        return _manifest(shelf.MODEL if place == directory else str(place), files, {}, step)
    if recipe.stage == "runtime":
        _check_room(step, parent.directory, say)
        say("applying it once, to see that it works and what it takes")
        model = applied(load_model(parent.directory), tuple(r.step for r in (*parent.runtime, recipe)))
        return {
            "directory": None,
            "files": {},
            "measured": {},
            "bytes_stored": resident_bytes(model),
            "deterministic": True,
        }
    directory.mkdir()
    if recipe.stage == "export":
        expected = _check_room(step, parent.directory, say)
        measured = {**expected, **step.export(parent.directory, directory, say)}
        _copy_the_rest(parent.directory, directory)
    else:
        expected = _check_room(step, parent.directory, say)
        model, measured = step.edit(load_model(parent.directory), load_tokenizer(parent.directory), say)
        measured = {**expected, **measured}
        say("writing safetensors")
        model.save_pretrained(directory)
        _copy_the_rest(parent.directory, directory)
    return _manifest(shelf.MODEL, shelf.hashed(directory), measured, step)


def _check_room(step: Any, parent: Path, say: Say) -> dict[str, float]:
    """Returns when the step will fit into memory; what it expects to hold at most, where the step can tell.

    Raises:
        BadInput: It will not.
    """
    if not hasattr(step, "peak_bytes"):
        check_memory(parent, times=EDIT_MEMORY)
        return {}
    expected: int = step.peak_bytes(parent)
    say(f"will hold {expected / 2**30:.2f} GiB at most")
    held = 0 if getattr(step, "own_process", False) else held_bytes()
    check_free(expected - held, f"Building {type(step).__name__} on {parent}")
    return {"predicted_peak_bytes": float(expected)}


def _copy_the_rest(parent: Path, directory: Path) -> None:
    """Copies what a step leaves as it was: tokenizer, chat template, configs, but no weights."""
    for path in parent.iterdir():
        taken = path.suffix in {".json", ".jinja", ".txt", ".model"} and ".safetensors" not in path.name
        if taken and path.is_file() and not (directory / path.name).exists():
            shutil.copyfile(path, directory / path.name)


def _manifest(directory: str, files: dict[str, Any], measured: dict[str, float], step: Any) -> dict[str, Any]:
    weights = [
        file["bytes"] for name, file in files.items() if name.endswith((".safetensors", ".gguf", ".onnx", ".data"))
    ]
    if not weights:
        raise BadInput(f"{type(step).__name__} made no weight file.")
    deterministic = getattr(step, "deterministic", True)
    return {
        "directory": directory,
        "files": files,
        "measured": measured,
        "bytes_stored": sum(weights),
        "deterministic": deterministic,
    }


def applied(model: "PreTrainedModel", steps: tuple[Runtime, ...]) -> "PreTrainedModel":
    """`model` after the steps that cannot be saved."""
    for step in steps:
        model = step.apply(model)
    model.train(False)
    return model


def _versions(step: Any) -> dict[str, str]:
    packages = versions("torch", "transformers", *getattr(step, "packages", ()))
    return {"python": platform.python_version(), "driftline": __version__, **packages}
