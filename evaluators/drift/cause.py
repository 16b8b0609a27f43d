"""Who moved? The cause of a drift, from what else moved at the same time."""

from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Literal

Name = Literal["variant", "input", "judge", "infrastructure", "verbosity", "platform", "unknown"]
Signal = Literal["quality", "latency", "cost", "errors", "prompts", "other"]

SWITCHED = 0.2  # change of a variant's share of traffic that counts as a switch
SAME = 0.05  # change below which the mix of variants counts as unchanged


@dataclass(frozen=True, slots=True)
class Evidence:
    """What is known about the time around a change. None means: not looked at, and says nothing.

    Attributes:
        signal: What alarmed.
        variant_share_before: Share of traffic answered by the variant that answers most now, before the change.
        variant_share_after: Its share after it.
        golden: Verdict of the newest paired comparison of that variant with the one before (or the baseline).
        probes_moved: The same golden prompts are answered differently now, with the same recorded fingerprint.
        golden_slower: The golden prompts are answered more slowly now than by the one before.
        prompts_moved: Lengths, texts or embeddings of prompts moved (`prompts_moved`, MMD).
        output_tokens_moved: Answers became longer or shorter.
        latency_moved_beyond_lengths: Latency moved after lengths were accounted for (`exceedance`).
        baseline_moved: The baseline, asked again now, is worse or slower as well.
        anchors_moved: The judge's scores of fixed, human-labelled answers moved.
        captured_share_moved: The captured share of traffic moved, so that other records are seen now.
        model: What the same-model check said, one sentence; empty where it did not decide `probes_moved`.
    """

    signal: Signal
    variant_share_before: float | None = None
    variant_share_after: float | None = None
    golden: Literal["better", "equivalent", "not_worse", "worse", "undecided"] | None = None
    probes_moved: bool | None = None
    golden_slower: bool | None = None
    prompts_moved: bool | None = None
    output_tokens_moved: bool | None = None
    latency_moved_beyond_lengths: bool | None = None
    baseline_moved: bool | None = None
    anchors_moved: bool | None = None
    captured_share_moved: bool | None = None
    model: str = ""


@dataclass(frozen=True, slots=True)
class Cause:
    """The verdict, the sentences it rests on, and what would have to be looked at to be surer.

    Only `variant` proposes a re-optimization.
    """

    name: Name
    reasons: tuple[str, ...]
    not_looked_at: tuple[str, ...] = ()


def who_moved(evidence: Evidence) -> Cause:
    """The first cause in the order of the rules below that the evidence carries.

    Measuring comes first: a judge whose anchors moved explains any change of quality, and a baseline that moved with
    the variant points below both. Then the variant (switched and worse on the golden set, or answering the same golden
    prompts differently); then the length of the answers, then the prompts, then the machine. For quality a switch of
    variant alone is enough unless the golden set acquits it.

    >>> who_moved(Evidence("quality", variant_share_before=0.0, variant_share_after=1.0, golden="worse")).name
    'variant'
    >>> who_moved(Evidence("quality", variant_share_before=1.0, variant_share_after=1.0, prompts_moved=True)).name
    'input'
    >>> who_moved(Evidence("latency", golden="equivalent", prompts_moved=False, output_tokens_moved=True)).name
    'verbosity'
    """
    for name, rule in RULES.items():
        reasons = rule(evidence)
        if reasons:
            return Cause(name, reasons, _open_questions(evidence))
    said = "Nothing that was looked at moved together with the signal."
    if evidence.captured_share_moved:
        said = (
            "The captured share of the traffic moved: other records are seen now than before, and none else is known."
        )
    return Cause("unknown", (said,), _open_questions(evidence))


def _judge(e: Evidence) -> tuple[str, ...]:
    if e.signal != "quality" or not e.anchors_moved or e.golden == "worse" or e.probes_moved:
        return ()
    return ("The judge scores its fixed anchor answers differently than before, and the model's own checks are quiet.",)


def _platform(e: Evidence) -> tuple[str, ...]:
    if not e.baseline_moved:
        return ()
    return ("The baseline, asked again now, moved as well: what variant and baseline share has changed.",)


def _variant(e: Evidence) -> tuple[str, ...]:
    if e.signal == "prompts":
        return ()  # whoever answers does not choose the questions
    switched = _switched(e)
    if e.signal in ("latency", "cost"):
        if switched and (e.golden_slower or (e.golden_slower is None and e.latency_moved_beyond_lengths)):
            dearer = "A request costs more than its lengths explain."
            return (_switch(e), dearer if e.signal == "cost" else "Its answers take longer than their lengths explain.")
        if e.probes_moved and e.signal == "latency" and e.latency_moved_beyond_lengths:
            return (*_exchanged(e), "Its answers take longer than their lengths explain.")
        return ()
    if e.probes_moved:
        return _exchanged(e)
    if e.golden == "worse" and switched is not False:
        return (_switch(e),) * bool(switched) + ("On the same golden items it is worse than the one before.",)
    if switched and e.golden in (None, "undecided"):
        return (_switch(e), "The golden set has not decided whether it is as good.")
    return ()


def _verbosity(e: Evidence) -> tuple[str, ...]:
    if e.signal not in ("latency", "cost") or not e.output_tokens_moved or e.latency_moved_beyond_lengths:
        return ()
    if e.prompts_moved:
        return ()  # other questions have other answers: the prompts explain the lengths
    known = e.latency_moved_beyond_lengths is False
    return (
        "The answers changed their length while the prompts did not.",
        *(("With lengths accounted for, an answer takes and costs what it did.",) if known else ()),
    )


def _input(e: Evidence) -> tuple[str, ...]:
    if not e.prompts_moved:
        return ()
    if e.signal == "latency" and e.latency_moved_beyond_lengths:
        return ()  # the lengths of other prompts are already accounted for
    acquitted = e.probes_moved is False or e.golden in ("better", "equivalent", "not_worse")
    return (
        "The prompts moved at the same time.",
        *(("The golden prompts are answered as well as before.",) if acquitted else ()),
        *_acquitted(e),
    )


def _infrastructure(e: Evidence) -> tuple[str, ...]:
    if e.signal not in ("latency", "errors") or _switched(e):
        return ()
    if e.signal == "latency" and not e.latency_moved_beyond_lengths:
        return ()
    if e.signal == "errors" and _switched(e) is None:
        return ()
    what = "Answers take longer than their lengths explain" if e.signal == "latency" else "Requests fail more often"
    return f"{what}, while variant and prompts stayed the same.", *_acquitted(e)


RULES: dict[Name, Callable[[Evidence], tuple[str, ...]]] = {
    "judge": _judge,
    "platform": _platform,
    "variant": _variant,
    "verbosity": _verbosity,
    "input": _input,
    "infrastructure": _infrastructure,
}


def _switched(e: Evidence) -> bool | None:
    if e.variant_share_before is None or e.variant_share_after is None:
        return None
    change = abs(e.variant_share_after - e.variant_share_before)
    return True if change >= SWITCHED else False if change <= SAME else None


def _switch(e: Evidence) -> str:
    return f"The variant's share of the traffic went from {e.variant_share_before:.0%} to {e.variant_share_after:.0%}."


def _exchanged(e: Evidence) -> tuple[str, ...]:
    said = "The same golden prompts are answered differently now: the model or how it is served has changed."
    return said, *((e.model,) if e.model else ())


def _acquitted(e: Evidence) -> tuple[str, ...]:
    return (f"It is still the same model. {e.model}",) if e.model and e.probes_moved is False else ()


def _open_questions(e: Evidence) -> tuple[str, ...]:
    return tuple(f.name for f in fields(e) if getattr(e, f.name) is None)
