"""Who moved? One splice per cause into simulated traffic, the evidence measured, the verdict compared."""

from collections import Counter
from collections.abc import Iterator
from typing import Any, Literal

import numpy as np

from benchmarks.detection_row import Row
from evaluators.comparison import compare
from evaluators.drift.cause import Evidence, Signal, who_moved
from evaluators.drift.effect import slowdown
from evaluators.drift.mmd import answers_changed
from evaluators.drift.prompts import prompts_moved
from evaluators.drift.quantiles import freeze_quantiles

Splice = Literal[
    "variant", "silent variant", "input", "judge", "infrastructure", "slower variant", "verbosity", "platform"
]

SPLICES: dict[Splice, tuple[str, Signal]] = {
    "variant": ("variant", "quality"),
    "silent variant": ("variant", "quality"),
    "input": ("input", "quality"),
    "judge": ("judge", "quality"),
    "platform": ("platform", "quality"),
    "infrastructure": ("infrastructure", "latency"),
    "slower variant": ("variant", "latency"),
    "verbosity": ("verbosity", "latency"),
}
WORDS = ("prime", "number", "because", "divisible", "seven", "steps", "check", "thus", "so", "hence")


class Traffic:
    """A stretch of traffic: prompt and answer lengths, latency; golden scores and answers taken at the same time."""

    def __init__(self, rng: Any, *, longer: float = 1.0, wordier: float = 1.0, slower: float = 1.0) -> None:
        n = 200
        self.prompts = rng.poisson(60 * rng.lognormal(0, 0.4, n) * longer) + 5
        self.answers = rng.poisson(80 * rng.lognormal(0, 0.5, n) * wordier) + 1
        self.took = slower * (120 + 2 * self.prompts + 25 * self.answers) * rng.lognormal(0, 0.15, n)


def golden(rng: Any, items: np.ndarray[Any, Any], worse: float) -> dict[str, float]:
    """Scores of 200 fixed items (their difficulty in `items`), of a model worse by this much."""
    return {f"item{i}": float(rng.random() < p) for i, p in enumerate(np.clip(items - worse, 0, 1))}


def probes(rng: Any, style: str) -> list[str]:
    """Answers to the same 30 prompts in a style."""
    return [f"{style} {' '.join(rng.choice(WORDS, 8))}." for _ in range(30)]


def spliced(splice: Splice, seed: int) -> Evidence:
    """The evidence measured around one splice."""
    rng = np.random.default_rng(seed)
    signal = SPLICES[splice][1]
    before = Traffic(rng)
    after = Traffic(
        rng,
        longer=2.0 if splice == "input" else 1.0,
        wordier=2.0 if splice == "verbosity" else 1.0,
        slower=1.5 if splice in ("infrastructure", "slower variant") else 1.0,
    )
    items = rng.beta(6, 2, 200)
    loss = 0.25 if splice in ("variant", "silent variant", "platform") else 0.0
    judged = compare(golden(rng, items, loss), golden(rng, items, 0.0), margin=0.1)
    baseline = compare(golden(rng, items, loss if splice == "platform" else 0.0), golden(rng, items, 0.0), margin=0.1)
    drawn = probes(rng, "The answer follows:")
    again = probes(rng, "**Answer** -" if splice in ("silent variant", "platform") else "The answer follows:")
    anchors = rng.normal(0.1 if splice == "judge" else 0.0, 0.1, 50)
    lines = freeze_quantiles(before.took, input_tokens=before.prompts, output_tokens=before.answers, confidence=0.995)
    beyond = slowdown(lines, after.took, after.prompts, after.answers, confidence=0.99)
    switched = splice in ("variant", "slower variant")
    return Evidence(
        signal,
        variant_share_before=0.0 if switched else 1.0,
        variant_share_after=1.0,
        golden=judged.verdict.value,
        probes_moved=None if switched else answers_changed(drawn, again).changed,
        golden_slower=splice == "slower variant" if signal == "latency" else None,
        prompts_moved=prompts_moved(before.prompts.tolist(), after.prompts.tolist()).moved,
        output_tokens_moved=prompts_moved(before.answers.tolist(), after.answers.tolist()).moved,
        latency_moved_beyond_lengths=beyond.low > 1 + lines.margin,
        baseline_moved=baseline.verdict.value == "worse",
        anchors_moved=bool(abs(anchors.mean()) > 3 * anchors.std() / np.sqrt(len(anchors))),
    )


def rows(quick: bool) -> Iterator[Row]:
    """The confusion matrix, one line per splice, and the share that is right."""
    runs, right = 15 if quick else 200, 0
    for k, (splice, (cause, _)) in enumerate(SPLICES.items()):
        named = Counter(who_moved(spliced(splice, 1000 * k + seed)).name for seed in range(runs))
        right += named[cause]  # type: ignore[index]
        yield Row(f"  spliced {splice}", ", ".join(f"{name} {n / runs:.0%}" for name, n in named.most_common()))
    share = right / runs / len(SPLICES)
    yield Row("cause named rightly, over one splice per cause", f"{share:.1%}", "≥ 95 %", share >= 0.95)
