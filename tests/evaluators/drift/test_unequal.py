"""References of records that were kept with unequal probability: they bound the stream as it was before sampling."""

import math
import random
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from driftline.errors import BadInput
from evaluators.drift.conformal import Conformal, freeze_scores
from evaluators.drift.exceedance import Exceedance
from evaluators.drift.quantiles import freeze_quantiles
from evaluators.drift.shares import Shares, freeze_shares

RATES = st.sampled_from([0.05, 0.1, 0.25, 0.5, 1.0])


def weights(rates: list[float]) -> list[float]:
    least = min(rates)
    return [least / rate for rate in rates]


@settings(deadline=None)
@given(st.lists(st.tuples(st.sampled_from("abc"), RATES), min_size=40, max_size=120))
def test_a_share_is_the_one_before_sampling(records: list[tuple[str, float]]) -> None:
    labels, rates = [label for label, _ in records], [rate for _, rate in records]
    frozen = freeze_shares(labels, confidence=0.99, margin=0.0, weights=weights(rates))
    total = math.fsum(1 / rate for rate in rates)
    for label, share, edge in zip(frozen.labels, frozen.shares, frozen.edges, strict=True):
        before = math.fsum(1 / rate for own, rate in records if own == label) / total
        assert share == pytest.approx(before)
        assert edge >= share


@settings(deadline=None)
@given(st.lists(st.tuples(st.floats(1, 1e4), RATES), min_size=80, max_size=200))
def test_a_line_is_a_quantile_of_the_stream_before_sampling(records: list[tuple[float, float]]) -> None:
    took, rates = [ms for ms, _ in records], [rate for _, rate in records]
    frozen = freeze_quantiles(took, confidence=0.99, quantiles=(0.5, 0.9), weights=weights(rates))
    making = records[::2]
    total = math.fsum(1 / rate for _, rate in making)
    for q, line, bound in zip(frozen.quantiles, frozen.lines, frozen.bounds, strict=True):
        above = math.fsum(1 / rate for ms, rate in making if math.log(ms) > line + 1e-9) / total
        at_least = math.fsum(1 / rate for ms, rate in making if math.log(ms) > line - 1e-9) / total
        assert above <= 1 - q + 1e-9 <= at_least + 1e-9
        assert 0 < bound <= 0.99
    assert all(low <= line <= high for low, line, high in zip(
        frozen.line_lows, frozen.lines, frozen.line_highs, strict=True))  # fmt: skip


@settings(deadline=None)
@given(st.lists(st.floats(1, 1e4), min_size=80, max_size=120), RATES)
def test_who_was_sampled_alike_has_shares_as_without_weights(took: list[float], rate: float) -> None:
    labels = ["long" if ms > 100 else "short" for ms in took]
    one = freeze_shares(labels, confidence=0.99)
    two = freeze_shares(labels, confidence=0.99, weights=weights([rate] * len(took)))
    # The bounds differ a little, so a label that nearly every record carries may have room to grow in one alone.
    assert {*one.labels, *one.everywhere} == {*two.labels, *two.everywhere}
    shares = dict(zip(two.labels, two.shares, strict=True))
    for label, share in zip(one.labels, one.shares, strict=True):
        assert shares.get(label, share) == pytest.approx(share)


def kept(rng: random.Random, slow_rate: float, fast_rate: float) -> tuple[float, float]:
    """A latency as it is stored, with the probability of being stored: slow ones are kept more often."""
    while True:
        ms = 400 * rng.lognormvariate(0, 0.5)
        rate = slow_rate if ms > 500 else fast_rate
        if rng.random() < rate:
            return ms, rate


@pytest.mark.parametrize("rates", [(1.0, 0.2), (0.2, 1.0)])
def test_the_bounds_hold_as_often_as_promised_whatever_is_kept_more_often(rates: tuple[float, float]) -> None:
    rng, confidence, runs, missed = random.Random(7), 0.9, 300, [0, 0, 0]
    logs = np.random.default_rng(1).normal(math.log(400), 0.5, 200_000)
    for _ in range(runs):
        took, own = zip(*(kept(rng, *rates) for _ in range(160)), strict=True)
        frozen = freeze_quantiles(took, confidence=confidence, margin=0.0, weights=weights(list(own)))
        for k, (line, bound) in enumerate(zip(frozen.lines, frozen.bounds, strict=True)):
            missed[k] += float(np.mean(logs > line)) > bound
        labels = ["slow" if ms > 500 else "fast" for ms in took]
        shares = freeze_shares(labels, confidence=confidence, margin=0.0, weights=weights(list(own)))
        assert "slow" in shares.labels
    assert sum(missed) <= (1 - confidence) * runs + 3 * math.sqrt((1 - confidence) * runs)


def test_another_rule_of_sampling_is_no_drift_and_a_slower_stream_is_one() -> None:
    rng = random.Random(3)
    took, own = zip(*(kept(rng, 1.0, 0.2) for _ in range(2000)), strict=True)
    label = ["slow" if ms > 500 else "fast" for ms in took]
    lines = freeze_quantiles(took, confidence=0.995, weights=weights(list(own)))
    shares = freeze_shares(label, confidence=0.995, weights=weights(list(own)))
    scores = freeze_scores(took, confidence=0.995, weights=weights(list(own)))
    watching: list[Any] = [
        Exceedance(reference=lines, log_threshold=15.0), Shares(reference=shares, log_threshold=15.0),
        Conformal(reference=scores, log_threshold=15.0),
    ]  # fmt: skip

    def judge(slower: float, rates: tuple[float, float]) -> list[bool]:
        some = [kept(rng, *rates) for _ in range(50)]
        values = [ms * slower for ms, _ in some]
        told = [min(1.0, 0.2 / rate) for _, rate in some]
        texts = ["slow" if ms > 500 else "fast" for ms in values]
        return [
            watch.update(stream, told).alarmed for watch, stream in zip(watching, (values, texts, values), strict=True)
        ]

    calm = [judge(1.0, rates) for rates in ((1.0, 0.2), (1.0, 1.0), (0.2, 1.0), (0.2, 0.2)) for _ in range(150)]
    assert not np.any(calm)
    moved = [judge(2.0, (1.0, 0.2)) for _ in range(200)]
    assert np.all(np.any(moved, axis=0))


def test_too_few_unequally_sampled_latencies_are_refused() -> None:
    with pytest.raises(BadInput, match="at least 80 are needed"):
        freeze_quantiles([100.0 + k for k in range(60)], confidence=0.99, weights=[1.0, 0.5] * 30)
    with pytest.raises(BadInput, match="r_min / r"):
        freeze_shares(["a", "b"] * 30, confidence=0.99, weights=[1.5] * 60)
