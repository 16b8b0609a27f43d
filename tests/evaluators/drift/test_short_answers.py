"""Answers shorter than any the reference has seen."""

import math
import random

from evaluators.drift.reference import freeze_quantiles


def test_answers_far_shorter_than_the_reference_are_not_called_slow_by_extrapolation() -> None:
    rng = random.Random(1)
    tokens = [rng.randint(150, 300) for _ in range(300)]
    latencies = [30.0 * n**0.95 * math.exp(rng.gauss(0, 0.1)) for n in tokens]
    lines = freeze_quantiles(latencies, output_tokens=tokens, confidence=0.995)
    quick = lines.exceedances([1500.0] * 20, output_tokens=[3.0] * 20)
    assert all(share == 0.0 for line in quick for share in line)


def test_short_answers_that_take_longer_than_the_longest_did_are_slow() -> None:
    rng = random.Random(2)
    tokens = [rng.randint(10, 300) for _ in range(300)]
    latencies = [30.0 * n * math.exp(rng.gauss(0, 0.1)) for n in tokens]
    lines = freeze_quantiles(latencies, output_tokens=tokens, confidence=0.995)
    slow = lines.exceedances([30.0 * 300 * 1.2] * 20, output_tokens=[12.0] * 20)
    assert all(share == 1.0 for line in slow for share in line)


def test_answers_that_became_short_and_quick_are_not_slow_whatever_their_length_predicts() -> None:
    rng = random.Random(3)
    tokens = [rng.randint(100, 400) for _ in range(400)]
    latencies = [500 + 25.0 * n * math.exp(rng.gauss(0, 0.2)) for n in tokens]
    lines = freeze_quantiles(latencies, output_tokens=tokens, confidence=0.995)
    terse = [700 + 900 * rng.expovariate(1.0) for _ in range(200)]
    above = lines.exceedances(terse, output_tokens=[3.0] * 200)
    assert all(sum(line) / 200 < bound for line, bound in zip(above, lines.bounds, strict=True))
