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


def test_answers_as_short_as_the_shortest_are_still_judged() -> None:
    rng = random.Random(2)
    tokens = [rng.randint(10, 300) for _ in range(300)]
    latencies = [30.0 * n * math.exp(rng.gauss(0, 0.1)) for n in tokens]
    lines = freeze_quantiles(latencies, output_tokens=tokens, confidence=0.995)
    slow = lines.exceedances([30.0 * min(tokens) * 2.5] * 20, output_tokens=[float(min(tokens))] * 20)
    assert all(share == 1.0 for share in slow[0])
