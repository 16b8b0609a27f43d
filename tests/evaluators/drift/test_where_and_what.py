"""Decompositions, slices and paired texts: their error rates, and what they find."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from driftline.errors import BadInput
from evaluators.drift.conformal import freeze_scores
from evaluators.drift.decompose import decompose
from evaluators.drift.mmd import PairedTexts, answers_changed
from evaluators.drift.shares import Bins, Shares, bins, freeze_shares
from evaluators.drift.slices import slices_moved
from evaluators.drift.textual import features

records = st.lists(st.tuples(st.sampled_from("abc"), st.floats(0, 1)), min_size=20, max_size=40)


@settings(max_examples=40, deadline=None)
@given(records, records)
def test_mix_and_within_add_up_to_the_change(before: list[tuple[str, float]], after: list[tuple[str, float]]) -> None:
    found = decompose(before, after, resamples=50)
    change = math.fsum(v for _, v in after) / len(after) - math.fsum(v for _, v in before) / len(before)
    assert found.change.estimate == pytest.approx(change, abs=1e-9)
    assert found.mix.estimate + found.within.estimate == pytest.approx(found.change.estimate, abs=1e-9)
    assert sum(s.mix + s.within for s in found.segments) == pytest.approx(change, abs=1e-9)


def traffic(rng, n: int, hard: float, quality: dict[str, float]) -> list[tuple[str, float]]:
    kinds = np.where(rng.random(n) < hard, "hard", "easy").tolist()
    return [(kind, float(rng.random() < quality[kind])) for kind in kinds]


def test_the_intervals_of_mix_and_within_cover_the_truth() -> None:
    rng, runs, covered = np.random.default_rng(51), 150, np.zeros(3)
    good, bad = {"easy": 0.9, "hard": 0.6}, {"easy": 0.85, "hard": 0.5}
    truth = (-0.06 - 0.4 * 0.1 - 0.6 * 0.05, -0.06, -0.4 * 0.1 - 0.6 * 0.05)
    for _ in range(runs):
        found = decompose(traffic(rng, 300, 0.2, good), traffic(rng, 300, 0.4, bad), confidence=0.9, resamples=300)
        parts = (found.change, found.mix, found.within)
        covered += [part.low <= t <= part.high for part, t in zip(parts, truth, strict=True)]
    assert (covered / runs >= 0.83).all()


def test_a_change_of_mix_alone_is_told_from_worse_answers() -> None:
    rng, quality = np.random.default_rng(52), {"easy": 0.95, "hard": 0.5}
    harder = decompose(traffic(rng, 800, 0.1, quality), traffic(rng, 800, 0.5, quality))
    assert harder.mix.high < 0
    assert harder.within.low < 0 < harder.within.high
    worse = decompose(traffic(rng, 800, 0.3, quality), traffic(rng, 800, 0.3, {"easy": 0.95, "hard": 0.2}))
    assert worse.within.high < 0
    assert worse.mix.low < 0 < worse.mix.high
    assert worse.segments[0].name == "hard"


def test_a_segment_that_is_new_counts_as_mix() -> None:
    found = decompose([("old", 0.9)] * 40, [("old", 0.9)] * 20 + [("new", 0.1)] * 20)
    assert found.within.estimate == 0
    assert next(s for s in found.segments if s.name == "new").mean_before is None
    with pytest.raises(BadInput, match="3 records before"):
        decompose([("a", 1.0)] * 3, [("a", 1.0)] * 30)


def tagged(rng, n: int, name: str, falls: float) -> list[tuple[str, dict[str, str], float]]:
    rows = []
    for i in range(n):
        tags = {"language": str(rng.choice(["en", "de", "fr"])), "kind": str(rng.choice(["chat", "code"]))}
        rate = 0.85 - (falls if tags == {"language": "de", "kind": "code"} else 0.0)
        rows.append((f"{name}{i}", tags, float(rng.random() < rate)))
    return rows


def test_the_slice_that_fell_is_named_and_calm_traffic_names_none() -> None:
    rng = np.random.default_rng(53)
    found = slices_moved(tagged(rng, 3000, "a", 0.0), tagged(rng, 3000, "b", 0.5))
    assert found[0].name == "kind=code, language=de"
    assert found[0].direction == "fall"
    assert found[0].mean_after < 0.5 < found[0].mean_before
    listed = sum(
        bool(slices_moved(tagged(rng, 600, f"c{k}-", 0.0), tagged(rng, 600, f"d{k}-", 0.0))) for k in range(20)
    )
    assert listed <= 4


def test_slices_of_nothing_are_refused_and_small_ones_left_out() -> None:
    with pytest.raises(BadInput, match="0 records after"):
        slices_moved([("a", {}, 1.0)], [])
    assert slices_moved([("a", {"k": "v"}, 1.0)], [("b", {"k": "v"}, 0.0)]) == []


def answer(rng, style: str) -> str:
    words = rng.choice(["prime", "number", "because", "divisible", "seven", "steps", "check", "thus"], 12).tolist()
    return {"long": f"To see this, {' '.join(words)}. Therefore the answer is [Yes].", "short": "[Yes]"}[style]


def test_exchangeable_pairs_are_called_changed_no_more_often_than_promised() -> None:
    rng, runs = np.random.default_rng(54), 120
    changed = alarmed = 0
    for _ in range(runs):
        pairs = [(answer(rng, "long"), answer(rng, str(rng.choice(["long", "short"])))) for _ in range(25)]
        pairs = [pair if rng.random() < 0.5 else pair[::-1] for pair in pairs]
        changed += answers_changed(*zip(*pairs, strict=True), alpha=0.1, permutations=99).changed
        alarmed += any(PairedTexts(log_threshold=math.log(250)).update(pairs[: k + 1]).alarmed for k in (5, 24))
    assert changed <= 0.1 * runs + 3 * math.sqrt(0.1 * runs)
    assert alarmed <= 0.1 * runs + 3 * math.sqrt(0.1 * runs)


def test_another_style_of_answer_is_found_in_a_few_dozen_pairs() -> None:
    rng = np.random.default_rng(55)
    pairs = [(answer(rng, "long"), answer(rng, "short")) for _ in range(40)]
    found = answers_changed(*zip(*pairs, strict=True))
    assert found.changed
    assert "characters" in found.format_moved
    watch = PairedTexts(log_threshold=math.log(3.5e6))
    assert next(i for i, pair in enumerate(pairs) if watch.update([pair]).alarmed) < 40


def test_pairs_that_do_not_match_are_refused() -> None:
    with pytest.raises(BadInput, match="2 answers before and 1 after"):
        answers_changed(["a", "b"], ["a"])
    with pytest.raises(BadInput, match="at most 2000"):
        answers_changed(["a"] * 2001, ["a"] * 2001)
    with pytest.raises(BadInput, match="None"):
        answers_changed([None], ["a"])  # type: ignore[list-item]


@settings(max_examples=60, deadline=None)
@given(st.text(max_size=200))
def test_any_text_has_features_of_bounded_length(text: str) -> None:
    row = features([text])[0]
    assert np.isfinite(row).all()
    assert float(row @ row) <= 3 + 1e-9
    assert (features([text, text])[0] == features([text])[0]).all()


@settings(max_examples=60, deadline=None)
@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=50), st.floats(-1e6, 1e6))
def test_every_number_has_one_bin(reference: list[float], x: float) -> None:
    cut = bins(reference, "tokens")
    labels = {cut.label(edge) for edge in (*cut.edges, cut.edges[-1] + 1)}
    assert len(labels) == len(cut.edges) + 1
    assert cut.label(x) in labels
    assert Bins(cut.name, cut.edges).label(x) == cut.label(x)


def test_labels_never_seen_before_count_as_other_and_common_ones_do_not() -> None:
    frozen = freeze_shares(["en"] * 390 + ["de"] * 10, confidence=0.995)
    assert frozen.everywhere == ("en",)
    reading = Shares(reference=frozen, log_threshold=15.0).update(["en", "en", "xx", "de"])
    assert reading.detail["shares"] == {"de": 0.25, "(other)": 0.25}


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: freeze_shares(["en"] * 10, confidence=0.99), "10 records"),
        (lambda: freeze_shares([None] * 50, confidence=0.99), "index 0"),  # type: ignore[list-item]
        (lambda: freeze_shares(["en"] * 50, confidence=2.0), "confidence"),
        (lambda: freeze_scores([0.1] * 10, confidence=0.99), "10 scores"),
        (lambda: freeze_scores([0.1] * 50 + [math.nan], confidence=0.99), "index 50"),
        (lambda: freeze_scores([0.1] * 50, confidence=0.99, margin=0.7), "margin"),
        (lambda: bins([], "tokens"), "no tokens"),
    ],
)
def test_references_that_cannot_be_frozen_say_why(call, says: str) -> None:
    with pytest.raises(BadInput, match=says):
        call()


def test_the_edges_of_ranks_hold_for_any_distribution() -> None:
    rng, runs, misses = np.random.default_rng(56), 200, 0
    for k in range(runs):
        draw = (lambda n: rng.lognormal(0, 2, n)) if k % 2 else (lambda n: rng.poisson(3, n).astype(float))
        frozen = freeze_scores(draw(100).tolist(), margin=0.0, confidence=0.9)
        fresh = draw(4000).tolist()
        misses += float(np.mean([frozen.rank(x) for x in fresh])) > frozen.mean_edge + 0.01
    assert misses <= 0.1 * runs
