"""What a variant names outside itself, files, models and functions, and what of it is not on this machine."""

from collections.abc import Iterator
from typing import Any, NamedTuple

from driftline.errors import BadInput
from variants.method import named_places
from variants.recipe import Spec


class Absent(NamedTuple):
    """Something that a variant needs and that is not here; `is_fetched` where building it looks elsewhere, too."""

    sentence: str
    is_fetched: bool = False


def absent(spec: Spec) -> Iterator[Absent]:
    """What the variant, and those that it names, need where they run and what is not here. Functions are imported."""
    steps = [(f"method {recipe.method}", recipe.step) for recipe in spec.chain]
    for owner, step in [*steps, (f"runner {spec.runner}", spec.running)]:
        yield from _absent_from(owner, step)
        for other in getattr(step, "others", dict)().values():
            yield from absent(other)


def _absent_from(owner: str, step: Any) -> Iterator[Absent]:
    for key, place in named_places(step):
        if place.exists():
            continue
        if getattr(step, "is_fetched", False):
            yield Absent(f"There is no folder {place} here, so {owner} will fetch {place} from the hub.", True)
        else:
            yield Absent(f"There is no file or folder {place}, the {key} of {owner}.")
    imported = getattr(step, "imported", None)
    if imported is not None:
        try:
            imported()
        except BadInput as wrong:
            yield Absent(wrong.message)
