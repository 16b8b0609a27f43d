"""How large a change is, in the stream's own unit and with an interval."""

from statistics import fmean, median
from typing import Any

import numpy as np

from driftline.errors import BadInput
from evaluators.drift.effect import confidence_sequence, effect, slowdown
from scheduler.references import frozen_lines, frozen_mean
from scheduler.values import capped, timed
from scheduler.window import Window

LEVEL = 0.95
UNITS = {"quality": "score", "cost": "nano-dollars", "prompt_embedding": "distance", "judge": "points"}


def size_of(window: Window) -> dict[str, Any]:
    """How large the change is: reference, current, estimate and interval."""
    if window.monitor.detector == "exceedance":
        return _slowdown(window)
    if window.monitor.detector == "esr" and window.monitor.signal != "coverage":
        return _change_of_mean(window)
    return _difference(window)


def unit_of(signal: str, timed_signal: bool) -> str:
    """The unit of a signal's values.

    >>> unit_of("latency", True), unit_of("cost", True), unit_of("errors", False)
    ('ms', 'nano-dollars', 'share')
    """
    return UNITS.get(signal, "ms" if timed_signal else "share")


def _slowdown(window: Window) -> dict[str, Any]:
    values = [timed(row) for row in window.after]
    good, now = median(row.level for row in window.before), median(row.level for row in window.after)
    size = {
        "unit": unit_of(window.monitor.signal, True), "reference": good, "current": now, "estimate": now - good,
        "n": len(values),
    }  # fmt: skip
    try:
        found = slowdown(
            frozen_lines(window.reference), [ms for ms, _, _ in values], [tokens or 0 for _, tokens, _ in values],
            [tokens or 0 for _, _, tokens in values],
        )  # fmt: skip
    except BadInput:  # too few to bound the median
        return {**size, "ratio": now / good if good else 1.0}
    bounds = {"ratio": found.ratio, "ratio_low": found.low, "ratio_high": found.high, "level": found.confidence}
    return {**size, **bounds, "n": found.n}


def _change_of_mean(window: Window) -> dict[str, Any]:
    cap = window.reference.frozen.get("cap")
    change = effect(frozen_mean(window.reference), capped(window.after, cap))
    good, now = (fmean(row.level for row in rows) for rows in (window.before, window.after))
    scale = cap or 1.0  # the interval is of what the detector saw, in the unit of the scores
    return {
        "unit": unit_of(window.monitor.signal, False), "reference": good, "current": now,
        "estimate": change.change * scale, "low": change.change_low * scale, "high": change.change_high * scale,
        "level": change.confidence, "n": change.n, "capped_at": cap,
    }  # fmt: skip


def _difference(window: Window) -> dict[str, Any]:
    """Mean after less mean before of the levels in which the change was dated."""
    before, after = window.levels_before, window.levels_after
    good, now = fmean(before), fmean(after)
    size = {
        "unit": unit_of(window.monitor.signal, False), "reference": good, "current": now, "estimate": now - good,
        "n": len(after), "what": window.what,
    }  # fmt: skip
    if not all(0 <= x <= 1 for x in (*before, *after)):
        return size
    old, new = (confidence_sequence(np.array(some), (1 - LEVEL) / 2) for some in (before, after))
    return {**size, "low": new[0] - old[1], "high": new[1] - old[0], "level": LEVEL}


def effect_text(size: dict[str, Any]) -> str:
    """The change in a few words.

    >>> effect_text({"unit": "ms", "ratio": 1.6, "reference": 500.0, "current": 800.0})
    '1.60 times slower (median 500 to 800 ms)'
    >>> effect_text({"unit": "nano-dollars", "ratio": 1.2, "reference": 5e5, "current": 6e5})
    '1.20 times dearer (median 0.0005 to 0.0006 dollars)'
    >>> effect_text({"unit": "score", "reference": 0.74, "current": 0.5})
    'from 0.740 to 0.500'
    """
    if size.get("unit") == "nano-dollars":
        word = "dearer" if size["ratio"] >= 1 else "the cost"
        good, now = size["reference"] / 1e9, size["current"] / 1e9
        return f"{size['ratio']:.2f} times {word} (median {good:.4g} to {now:.4g} dollars)"
    if "ratio" in size:
        word = "slower" if size["ratio"] >= 1 else "the time"
        return f"{size['ratio']:.2f} times {word} (median {size['reference']:.0f} to {size['current']:.0f} ms)"
    told = f" ({size['what']})" if size.get("what") else ""
    return f"from {size['reference']:.3f} to {size['current']:.3f}{told}"
