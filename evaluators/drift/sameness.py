"""Is it still the same model? What is known, looked at in the order of how much it proves."""

from dataclasses import dataclass
from typing import Literal

By = Literal["fingerprint", "probes", "border", "answers", "nothing"]

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
    by: By
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
    looked = looked_at(known)
    changed = next((one for one in looked if one.verdict == "changed"), None)
    # The model as it answers proves more than its files.
    acquitted = next(iter(sorted(looked, key=lambda one: one.by == "fingerprint")), None)
    return changed or acquitted or Sameness("unknown", "nothing", "Nothing of the model was looked at.")


def looked_at(known: Known) -> list[Sameness]:
    """What each thing that was looked at says, those that prove most first.

    >>> [(one.by, one.verdict) for one in looked_at(Known("a", "a", answers_changed=True))]
    [('fingerprint', 'same'), ('answers', 'changed')]
    """
    found = []
    if None not in (known.fingerprint_then, known.fingerprint_now):
        differs = known.fingerprint_then != known.fingerprint_now
        said = "Weights, config, prompt, adapter or runtime are others." if differs else "Its fingerprint is the same."
        found.append(_said("fingerprint", differs, said))
    if known.probes_differ is not None:
        differs = known.probes_differ > SOME
        said = f"{known.probes_differ:.0%} of its probes are weighed otherwise." if differs else "Its probes agree."
        found.append(_said("probes", differs, said))
    if known.border_moved is not None:
        said = "otherwise" if known.border_moved else "as before"
        found.append(_said("border", known.border_moved, f"Its border inputs are answered {said}."))
    if known.answers_changed is not None:
        said = "differ in kind" if known.answers_changed else "are of the same kind"
        found.append(_said("answers", known.answers_changed, f"Its golden answers {said}."))
    return found


def _said(by: By, differs: bool, because: str) -> Sameness:
    return Sameness("changed" if differs else "same", by, because)
