"""e-SR: its promise under the null, the exactness of its weights, and what its forms may be fed."""

import math
import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from driftline.errors import BadInput
from evaluators.drift.budget import allow, log_threshold, split
from evaluators.drift.esr import ESR
from evaluators.drift.exceedance import Exceedance
from evaluators.drift.fleet import Fleet, delay, false_alarms_within
from evaluators.drift.quantiles import freeze_quantiles


@settings(max_examples=50, deadline=None)
@given(
    m0=st.floats(0.05, 0.95),
    blocks=st.lists(st.lists(st.floats(0, 1), min_size=1, max_size=6), min_size=1, max_size=20),
    bet=st.sampled_from(["adaptive", "grid"]),
)
def test_a_rise_is_the_mirror_image_of_a_fall(m0: float, blocks: list[list[float]], bet: str) -> None:
    fall = ESR(m0=m0, direction="fall", log_threshold=15.0, bet=bet)  # type: ignore[arg-type]
    rise = ESR(m0=1 - m0, direction="rise", log_threshold=15.0, bet=bet)  # type: ignore[arg-type]
    for block in blocks:
        one, other = fall.update(block), rise.update([1 - x for x in block])
        assert one.statistic == pytest.approx(other.statistic, abs=1e-6)


@settings(max_examples=50, deadline=None)
@given(
    m0=st.floats(0.05, 0.95),
    past=st.lists(st.lists(st.floats(0, 1), min_size=1, max_size=5), max_size=15),
    form=st.sampled_from(["block", "item"]),
    bet=st.sampled_from(["adaptive", "grid"]),
)
def test_after_any_past_a_fair_value_earns_one_injection_on_average(
    m0: float, past: list[list[float]], form: str, bet: str
) -> None:
    """The supermartingale itself: with mean exactly m0, E[M_t | past] = M_{t-1} + 1."""

    def evidence(last: list[float]) -> float:
        watch = ESR(m0=m0, direction="fall", log_threshold=1e9, form=form, bet=bet)  # type: ignore[arg-type]
        for block in past:
            watch.update(block)
        return math.exp(watch.update(last).statistic)

    before = evidence([])
    pairs = [([1.0], m0), ([0.0], 1 - m0)]  # of all values with mean m0, zero or one is the extreme
    assert sum(p * evidence(block) for block, p in pairs) == pytest.approx(before + 1, rel=1e-9)


def test_weights_are_exact_when_the_number_before_sampling_is_known() -> None:
    """Bad records are kept with probability 1, good ones with 0.25: on average the block bets as if all were seen."""
    values, rates = [0.0, 1.0, 1.0], [1.0, 0.25, 0.25]
    whole, sampled = 0.0, 0.0
    for mask in range(8):
        kept = [i for i in range(3) if mask >> i & 1]
        chance = math.prod(rates[i] if i in kept else 1 - rates[i] for i in range(3))
        watch = ESR(m0=0.8, direction="fall", log_threshold=15.0, bet="grid")
        reading = watch.update([values[i] for i in kept], [0.25 / rates[i] for i in kept], offered=3) if kept else None
        sampled += chance * (math.exp(reading.statistic) if reading else 1.0)
    lambdas = ESR(m0=0.8, direction="fall", log_threshold=15.0, bet="grid")._bets()
    whole = sum(1 + lam * 0.25 * sum(0.8 - x for x in values) / 3 for lam in lambdas) / len(lambdas)
    assert sampled == pytest.approx(whole)


def test_the_value_of_a_sampled_block_is_the_mean_before_sampling() -> None:
    watch = ESR(m0=0.8, direction="fall", log_threshold=15.0)
    assert watch.update([0.0, 1.0], [0.25, 1.0]).value == pytest.approx(0.8)


def test_fewer_records_offered_than_kept_is_refused() -> None:
    with pytest.raises(BadInput, match="offered is 1"):
        ESR(m0=0.8, direction="fall", log_threshold=15.0).update([1.0, 1.0], offered=1)


@pytest.mark.parametrize(
    "wrong",
    [
        {"m0": 0.0},
        {"m0": 1.0},
        {"m0": math.nan},
        {"direction": "up"},
        {"form": "day"},
        {"bet": "all"},
        {"log_threshold": math.inf},
    ],
)
def test_a_parameter_out_of_range_is_named(wrong: dict) -> None:
    with pytest.raises(BadInput, match=next(iter(wrong))):
        ESR(**{"m0": 0.8, "direction": "fall", "log_threshold": 15.0, **wrong})


def test_a_small_reference_and_a_large_change_are_told_apart_in_tens_of_blocks() -> None:
    """A demonstration's scale: 120 reference answers, 20 a block, two-second blocks all year."""
    from evaluators.drift.reference import freeze

    rng, blocks = np.random.default_rng(21), []
    share = allow(365 * 24 * 1800, alpha=0.01, weight=0.5)
    for _ in range(20):
        before = rng.beta(3, 1, 120)
        good = freeze(before.tolist(), direction="fall", margin=0.01, confidence=share.confidence)
        watch = ESR(m0=good.m0, direction="fall", log_threshold=share.log_threshold)
        for _ in range(50):
            assert not watch.update(rng.beta(3, 1, 20).tolist()).alarmed
        blocks.append(next(i for i in range(1, 500) if watch.update(rng.beta(1.8, 2.2, 20).tolist()).alarmed))
    assert np.median(blocks) <= 50


def test_slower_answers_at_a_demonstrations_scale_are_found_in_tens_of_blocks() -> None:
    rng, blocks = random.Random(22), []
    share = allow(365 * 24 * 1800, alpha=0.01, weight=0.5)

    def rows(n: int, slower: float) -> list[tuple[float, float, float]]:
        counts = [(rng.randint(10, 60), rng.randint(5, 32)) for _ in range(n)]
        return [(slower * (30 + 12 * w) * rng.lognormvariate(0, 0.15), float(r), float(w)) for r, w in counts]

    for _ in range(10):
        took, read, written = zip(*rows(120, 1.0), strict=True)
        lines = freeze_quantiles(took, input_tokens=read, output_tokens=written, confidence=share.confidence)
        watch = Exceedance(reference=lines, log_threshold=share.log_threshold)
        for _ in range(50):
            assert not watch.update(rows(20, 1.0)).alarmed
        blocks.append(next(i for i in range(1, 500) if watch.update(rows(20, 1.6)).alarmed))
    assert np.median(blocks) <= 20


def test_rows_without_the_token_counts_that_the_lines_need_are_left_out_and_counted() -> None:
    lines = freeze_quantiles(
        [100.0 + i % 40 for i in range(100)], output_tokens=[i % 9 for i in range(100)], confidence=0.99
    )
    watch = Exceedance(reference=lines.to_json(), log_threshold=15.0)
    reading = watch.update([(100.0, None, 5.0), (100.0, None, None), 120.0])
    assert (reading.n, reading.detail["without_tokens"]) == (1, 2)


def test_a_budget_is_split_by_importance_and_spent_once() -> None:
    weights = split({"quality": 3.0, "latency": 1.0})
    assert sum(weights.values()) == pytest.approx(1)
    spent = 0.0
    for weight in weights.values():
        share = allow(35_040, 0.01, weight)
        spent += (1 - share.confidence) + 35_040 / math.exp(share.log_threshold)
    assert spent == pytest.approx(0.01)
    assert log_threshold(35_040, 0.01, 0.5) == pytest.approx(math.log(35_040 / 0.005))


@pytest.mark.parametrize(
    "call",
    [
        lambda: log_threshold(0),
        lambda: log_threshold(100, alpha=0),
        lambda: log_threshold(100, weight=1.5),
        lambda: allow(100, reference_share=1.0),
        lambda: split({"quality": 0.0}),
    ],
)
def test_a_budget_that_makes_no_sense_is_refused(call) -> None:
    with pytest.raises(BadInput):
        call()


@settings(max_examples=30, deadline=None)
@given(
    blocks=st.lists(st.lists(st.floats(0, 1), min_size=1, max_size=4), min_size=2, max_size=12),
    at=st.integers(0, 11),
    shift=st.floats(-5, 5),
)
def test_a_new_threshold_charges_past_blocks_at_their_own_price(
    blocks: list[list[float]], at: int, shift: float
) -> None:
    """M / A after a re-split is the sum of the old blocks' part at the old A and the new blocks' at the new A."""
    changed = ESR(m0=0.7, direction="fall", log_threshold=15.0, bet="grid")
    old = ESR(m0=0.7, direction="fall", log_threshold=15.0, bet="grid")
    new = ESR(m0=0.7, direction="fall", log_threshold=15.0 + shift, bet="grid")
    split_at = min(at, len(blocks) - 1)
    for i, block in enumerate(blocks):
        if i == split_at:
            changed.rethreshold(15.0 + shift)
        last = changed.update(block)
        whole = old.update(block)
        if i >= split_at:
            late = new.update(block)
    # evidence of the injections before the split = all evidence minus that of the injections after it
    early = math.exp(whole.statistic) - math.exp(late.statistic)
    expected = early / math.exp(15.0) + math.exp(late.statistic) / math.exp(15.0 + shift)
    assert math.exp(last.statistic - last.threshold) == pytest.approx(expected, rel=1e-6, abs=1e-12)


@pytest.mark.parametrize("direction", ["fall", "rise"])
@pytest.mark.parametrize("bet", ["adaptive", "grid"])
@pytest.mark.parametrize("form", ["block", "item"])
def test_a_fleet_says_what_its_detectors_would_say_one_by_one(direction: str, bet: str, form: str) -> None:
    rng = np.random.default_rng(23)
    edges = np.array([0.3, 0.6, 0.85])
    fleet = Fleet(edges, 3, direction=direction, bet=bet)  # type: ignore[arg-type]
    alone = [ESR(m0=m, direction=direction, log_threshold=15.0, form=form, bet=bet) for m in edges]  # type: ignore[arg-type]
    for _ in range(60):
        hits = rng.binomial(10, edges)
        together = fleet.blocks(hits / 10) if form == "block" else fleet.items(hits, 10)
        one_by_one = [
            w.update([1.0] * int(h) + [0.0] * int(10 - h)).statistic for w, h in zip(alone, hits, strict=True)
        ]
        assert np.log(together) == pytest.approx(one_by_one, rel=1e-9, abs=1e-9)


def test_a_wider_margin_buys_a_longer_delay_and_a_bound_on_false_alarms() -> None:
    tight = delay(0.89, 0.80, 0.05, 15.0, before=0.9)
    wide = delay(0.86, 0.80, 0.05, 15.0, before=0.9)
    assert tight["median"] < wide["median"]
    assert delay(0.79, 0.80, 0.02, 15.0, before=0.9, most=300)["median"] == math.inf
    assert false_alarms_within(35_040, log_threshold(35_040, 0.01)) == pytest.approx(0.01)
