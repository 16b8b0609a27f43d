"""The false-alarm promise of every detector, with a reference drawn anew each time; a new detector adds a row."""

import math
import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

from evaluators.drift import DETECTORS, Detector, detector
from evaluators.drift.budget import Allowance, allow, log_threshold
from evaluators.drift.conformal import freeze_scores
from evaluators.drift.fleet import Fleet
from evaluators.drift.reference import freeze, freeze_quantiles
from evaluators.drift.shares import freeze_shares
from evaluators.drift.strata import freeze_strata

BLOCKS, ITEMS, REFERENCE, ALPHA, RUNS = 80, 6, 80, 0.2, 120


@dataclass(frozen=True)
class Promise:
    """A detector made from its own noisy reference, without any margin, and the stream it must not call moved."""

    name: str
    make: Callable[[random.Random, Allowance], Detector]
    draw: Callable[[random.Random], Any]


def quality(rng: random.Random, share: Allowance) -> Detector:
    values = [rng.betavariate(4, 1) for _ in range(REFERENCE)]
    frozen = freeze(values, direction="fall", margin=0.0, confidence=share.confidence)
    return detector("esr", {**frozen.params(), "log_threshold": share.log_threshold})


def errors(rng: random.Random, share: Allowance) -> Detector:
    values = [float(rng.random() < 0.1) for _ in range(REFERENCE)]
    frozen = freeze(values, direction="rise", margin=0.0, confidence=share.confidence)
    return detector("esr", {**frozen.params(), "log_threshold": share.log_threshold, "form": "item"})


def latency(rng: random.Random) -> tuple[float, None, float]:
    written = rng.randint(1, 100)
    return (200 + 20 * written) * rng.lognormvariate(0, 0.4), None, float(written)


def slower(rng: random.Random, share: Allowance) -> Detector:
    took, _, written = zip(*(latency(rng) for _ in range(REFERENCE)), strict=True)
    lines = freeze_quantiles(took, output_tokens=written, margin=0.0, confidence=share.confidence)
    return detector("exceedance", {"reference": lines.to_json(), "log_threshold": share.log_threshold})


def language(rng: random.Random) -> str:
    return rng.choices(["en", "de", "fr", "xx"], [0.7, 0.2, 0.07, 0.03])[0]


def mixed(rng: random.Random, share: Allowance) -> Detector:
    frozen = freeze_shares([language(rng) for _ in range(REFERENCE)], margin=0.0, confidence=share.confidence)
    return detector("shares", {"reference": frozen.to_json(), "log_threshold": share.log_threshold})


def hourly(rng: random.Random) -> tuple[str, float]:
    hour = rng.choice(["day", "night"])
    return hour, float(rng.random() < {"day": 0.9, "night": 0.6}[hour])


def seasonal(rng: random.Random, share: Allowance) -> Detector:
    values = [hourly(rng) for _ in range(3 * REFERENCE)]
    frozen = freeze_strata(values, direction="fall", margin=0.0, confidence=share.confidence)
    return detector("strata", {"reference": frozen.to_json(), "log_threshold": share.log_threshold})


def stranger(rng: random.Random, share: Allowance) -> Detector:
    scores = [rng.expovariate(1) for _ in range(REFERENCE)]
    frozen = freeze_scores(scores, margin=0.0, confidence=share.confidence)
    return detector("conformal", {"reference": frozen.to_json(), "log_threshold": share.log_threshold})


def reworded(rng: random.Random, share: Allowance) -> Detector:
    return detector("paired-texts", {"log_threshold": math.log(BLOCKS * ITEMS / ALPHA)})  # a pair is a block


def answers(rng: random.Random) -> tuple[str, str]:
    """Two answers that may each be of either style, as a model at a temperature gives them."""
    styles = ("The answer is {}.", "{}", "I think it is {}, because of the rules.")
    return tuple(rng.choice(styles).format(rng.randint(1, 30)) for _ in range(2))  # type: ignore[return-value]


PROMISES = [
    Promise("esr", quality, lambda rng: rng.betavariate(4, 1)),
    Promise("esr", errors, lambda rng: float(rng.random() < 0.1)),
    Promise("exceedance", slower, latency),
    Promise("shares", mixed, language),
    Promise("conformal", stranger, lambda rng: rng.expovariate(1)),
    Promise("strata", seasonal, hourly),
    Promise("paired-texts", reworded, answers),
]


def test_every_detector_has_its_promise_tested() -> None:
    assert {promise.name for promise in PROMISES} == set(DETECTORS)


@pytest.mark.slow
@pytest.mark.parametrize("promise", PROMISES, ids=lambda promise: promise.make.__name__)
def test_false_alarms_of_a_period_stay_within_its_budget(promise: Promise) -> None:
    share, rng, alarms = allow(BLOCKS, ALPHA), random.Random(81), 0
    for _ in range(RUNS):
        watch = promise.make(rng, share)
        alarms += any(watch.update([promise.draw(rng) for _ in range(ITEMS)]).alarmed for _ in range(BLOCKS))
    assert alarms <= ALPHA * RUNS + 3 * math.sqrt(ALPHA * RUNS)


@pytest.mark.slow
@pytest.mark.parametrize("shared", [0.0, 0.05])
@pytest.mark.parametrize("mean", [0.5, 0.9, 0.99])
@pytest.mark.parametrize("bet", ["adaptive", "grid"])
def test_a_stream_on_the_very_edge_alarms_no_more_often_than_promised(shared: float, mean: float, bet: str) -> None:
    runs, blocks, rng = 1000, 1500, np.random.default_rng(82)
    line = math.exp(log_threshold(blocks, 0.05))
    fleet, alarmed = Fleet(mean, runs, bet=bet), np.zeros(runs, dtype=bool)  # type: ignore[arg-type]
    for _ in range(blocks):
        p = rng.beta(mean * (1 / shared - 1), (1 - mean) * (1 / shared - 1), runs) if shared else mean
        alarmed |= fleet.blocks(rng.binomial(30, p, runs) / 30) >= line
    assert alarmed.mean() <= 0.05 + 3 * math.sqrt(0.05 * 0.95 / runs)


@pytest.mark.slow
def test_thousands_of_correlated_streams_keep_one_budget_together() -> None:
    projects, streams, blocks, rng = 60, 50, 400, np.random.default_rng(83)
    line = math.exp(log_threshold(blocks, 0.1, 1 / streams))
    fleet, alarmed = Fleet(0.9, projects * streams), np.zeros(projects, dtype=bool)
    for _ in range(blocks):
        mood = np.repeat(rng.beta(0.9 * 49, 0.1 * 49, projects), streams)
        hits = rng.binomial(30, mood)
        alarmed |= (fleet.blocks(hits / 30) >= line).reshape(projects, streams).any(axis=1)
    assert alarmed.sum() <= 0.1 * projects + 3 * math.sqrt(0.1 * projects)
