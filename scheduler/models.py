"""The models a worker holds open, and what the store knows as a variant handed to those who run it."""

from collections import OrderedDict
from pathlib import Path

from driftline.errors import BadInput
from driftline.protocols import Generate, LogProbs
from driftline.settings import settings
from driftline.store.tables import Variant
from variants import depot
from variants.measure import innermost
from variants.method import Say, quiet
from variants.open import open_variant
from variants.recipe import Spec

HELD = 3  # models kept in memory; the least recently used one goes first

_open: "OrderedDict[str, Generate]" = OrderedDict()


def spec_of(variant: Variant) -> Spec:
    """The recipe of a variant.

    Raises:
        BadInput: It has none (its name came with traffic), or one that cannot be read.
    """
    if variant.spec.get("runner", "external") == "external":
        raise BadInput(
            f"The variant {variant.name} has no recipe, so Driftline cannot run it. Declare it with `variant add`."
        )
    return Spec.from_json(variant.spec)


def model_of(variant: Variant) -> Generate:
    """The variant, opened; the same object as long as it is held.

    Raises:
        DriftlineError: It cannot be opened; says what is missing.
    """
    key = variant.content_hash
    if key in _open:
        _open.move_to_end(key)
        return _open[key]
    while len(_open) >= HELD:
        _open.popitem(last=False)
    spec = spec_of(variant)
    fetch(spec)
    model = open_variant(spec, cache(), threads=settings().torch_threads or None)
    _open[key] = model
    return model


def let_go() -> None:
    """Closes all models: a build needs their memory, and each is opened again when it is asked."""
    _open.clear()


def held_beside(model: Generate) -> int:
    """Bytes of the weights of other models that this worker holds open besides `model`."""
    others = (innermost(other) for other in _open.values() if other is not model)
    return sum(int(getattr(other, "bytes_in_memory", 0)) for other in others)


def weigher_of(variant: Variant) -> LogProbs:
    """The variant as one that can weigh given answers.

    Raises:
        BadInput: Its runner gives no log-probabilities.
    """
    model = model_of(variant)
    if not isinstance(model, LogProbs):
        raise BadInput(f"The runner of variant {variant.name} gives no log-probabilities, which this scorer needs.")
    return model


def fetch(spec: Spec, on_progress: Say = quiet) -> None:
    """Fetches what was built of `spec` elsewhere, where DRIFTLINE_ARTIFACT_URL names a place for it."""
    if settings().artifact_url:
        depot.pull(spec, cache(), settings().artifact_url, on_progress)


def hand_on(spec: Spec, on_progress: Say = quiet) -> None:
    """Puts what was built of `spec` where the other machines find it, if DRIFTLINE_ARTIFACT_URL names a place."""
    if settings().artifact_url:
        depot.push(spec, cache(), settings().artifact_url, on_progress)


def cache() -> Path:
    """Where this machine keeps built variants."""
    folder = settings().model_cache
    folder.mkdir(parents=True, exist_ok=True)
    return folder
