"""Is it still the same model? What is known, looked at in the order of how much it proves."""

from dataclasses import dataclass
from typing import Literal

SOME = 0.02  # share of probes that may differ by noise of arithmetic


@dataclass(frozen=True, slots=True)
class Known:
    """What is known of a model then and now. None: not looked at.

    Attributes:
        fingerprint_then: Hash of weights, config, prompt, adapter and runtime when it was good.
        fingerprint_now: The same now.
        probes_differ: Share of teacher-forced probes whose log-probability or first choices differ.
        border_moved: Whether the first tokens of border inputs moved (a monitor's alarm).
        answers_changed: Whether golden answers differ in kind (paired sign-flip MMD).
    """

    fingerprint_then: str | None = None
    fingerprint_now: str | None = None
    probes_differ: float | None = None
    border_moved: bool | None = None
    answers_changed: bool | None = None


@dataclass(frozen=True, slots=True)
class Sameness:
    """The verdict, what it rests on, and the sentence that says so."""

    verdict: Literal["same", "changed", "unknown"]
    by: Literal["fingerprint", "probes", "border", "answers", "nothing"]
    because: str


def same_model(known: Known) -> Sameness:
    """The first of fingerprint, probes, border inputs and golden answers that shows a change; else the best acquittal.

    A fingerprint that is the same acquits the files and not the machine they run on: the others are still asked.

    >>> same_model(Known("a", "b")).by
    'fingerprint'
    >>> same_model(Known("a", "a", probes_differ=0.4)).verdict
    'changed'
    >>> same_model(Known(border_moved=False)).because
    'Its border inputs are answered as before.'
    >>> same_model(Known()).verdict
    'unknown'
    """
    prints = None not in (known.fingerprint_then, known.fingerprint_now)
    looked: list[Sameness] = []
    if prints:
        differs = known.fingerprint_then != known.fingerprint_now
        said = "Weights, config, prompt, adapter or runtime are others." if differs else "Its fingerprint is the same."
        looked.append(Sameness("changed" if differs else "same", "fingerprint", said))
    if known.probes_differ is not None:
        differs = known.probes_differ > SOME
        said = f"{known.probes_differ:.0%} of its probes are weighed otherwise." if differs else "Its probes agree."
        looked.append(Sameness("changed" if differs else "same", "probes", said))
    if known.border_moved is not None:
        said = (
            "Its border inputs are answered otherwise."
            if known.border_moved
            else "Its border inputs are answered as before."
        )
        looked.append(Sameness("changed" if known.border_moved else "same", "border", said))
    if known.answers_changed is not None:
        said = (
            "Its golden answers differ in kind."
            if known.answers_changed
            else "Its golden answers are of the same kind."
        )
        looked.append(Sameness("changed" if known.answers_changed else "same", "answers", said))
    for one in looked:
        if one.verdict == "changed":
            return one
    for one in sorted(
        looked, key=lambda s: s.by == "fingerprint"
    ):  # the model as it answers proves more than its files
        return one
    return Sameness("unknown", "nothing", "Nothing of the model was looked at.")
