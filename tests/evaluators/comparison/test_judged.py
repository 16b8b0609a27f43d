"""A judge's own noise: measured by repeats, and never less in the interval than it is."""

import numpy as np
import pytest

from evaluators.comparison import compare, self_noise, with_self_noise


def graded(random: np.random.Generator, items: int, repeats: int) -> tuple[dict[str, float], dict[str, float]]:
    """Scores of answers that are all equally good, by a judge that throws a coin; and what is kept of its repeats."""
    said = random.random((items, repeats)) < 0.5
    pairs = said.sum(axis=1) * (repeats - said.sum(axis=1))  # that disagree
    of_item = {"agreement": 1 - pairs / (repeats * (repeats - 1) / 2), "noise": said.var(axis=1, ddof=1) / repeats}
    kept = {"scores": items, **{name: float(values.sum()) for name, values in of_item.items()}}
    return {str(item): float(score) for item, score in enumerate(said.mean(axis=1))}, kept


def test_the_reach_is_that_of_a_judge_that_throws_a_coin() -> None:
    random = np.random.default_rng(5)
    (ours, kept), (theirs, of_baseline) = graded(random, 4000, 4), graded(random, 4000, 4)
    noise = self_noise(kept, of_baseline)
    assert noise.agreement == pytest.approx(0.5, abs=0.02)
    assert noise.reach == pytest.approx(1.96 * (2 * 0.25 / 4 / 4000) ** 0.5, rel=0.02)
    plain = compare(ours, theirs, margin=0.1)
    assert (plain.high - plain.low) / 2 == pytest.approx(noise.reach, rel=0.1), (
        "all there is to see is the judge's noise"
    )


def test_an_interval_that_shows_less_noise_than_there_is_becomes_as_wide() -> None:
    same = {str(item): 0.5 for item in range(1000)}
    kept = {"scores": 1000, "agreement": 500.0, "noise": 125.0}
    plain = compare(same, same, margin=0.01)
    assert plain.verdict == "equivalent"
    found = with_self_noise(plain, self_noise(kept, kept))
    assert (found.low, found.high) == pytest.approx((-0.03099, 0.03099), abs=1e-4)
    assert found.verdict == "undecided"


def test_an_interval_that_is_wider_stays_as_it_is() -> None:
    plain = compare({"a": 1.0, "b": 0.0}, {"a": 0.0, "b": 0.0}, margin=0.1)
    kept = {"scores": 2, "agreement": 2.0, "noise": 0.0}
    assert with_self_noise(plain, self_noise(kept, kept)) == plain
