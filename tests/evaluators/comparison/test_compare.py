import json
import math
import subprocess
import sys
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from driftline.errors import BadInput
from evaluators.comparison import Verdict, compare

scores = st.none() | st.floats(0, 1) | st.sampled_from([0.0, 1.0])
runs = st.dictionaries(st.text(max_size=4), st.tuples(scores, scores), min_size=1, max_size=40)


def binary(worse, better, ties):
    """A candidate and a baseline that disagree on so many items."""
    signs = [-1] * worse + [1] * better + [0] * ties
    candidate = {f"item {i}": float(sign >= 0) for i, sign in enumerate(signs)}
    baseline = {f"item {i}": float(sign <= 0) for i, sign in enumerate(signs)}
    return candidate, baseline


def graded(items, sd=0.1, shift=0.0, seed=0):
    random = np.random.default_rng(seed)
    theirs = random.random(items)
    ours = np.clip(theirs + shift + random.normal(0, sd, items), 0, 1)
    ids = [f"item {i:04}" for i in range(items)]
    return dict(zip(ids, ours.tolist(), strict=True)), dict(zip(ids, theirs.tolist(), strict=True))


def test_a_candidate_that_lost_many_items_is_worse():
    result = compare(*binary(worse=40, better=5, ties=155), margin=0.02)
    assert result.verdict == "worse"
    assert (result.worse, result.better, result.ties, result.n) == (40, 5, 155, 200)
    assert result.estimate == pytest.approx(-0.175)
    assert result.e_value > 1000
    assert result.p_value < 1e-6
    assert result.n_to_decide is None


def test_the_p_value_of_yes_no_scores_is_the_exact_mcnemar_test():
    assert compare(*binary(10, 2, 100), margin=None).p_value == pytest.approx(0.03857421875)


def test_swapping_the_sides_mirrors_the_result():
    ours, theirs = graded(300, shift=0.02)
    forth, back = compare(ours, theirs, margin=None), compare(theirs, ours, margin=None)
    assert (forth.low, forth.high) == pytest.approx((-back.high, -back.low), abs=1e-8)
    assert (forth.better, forth.worse) == (back.worse, back.better)


def test_the_order_of_the_items_changes_no_digit():
    ours, theirs = graded(250)
    shuffled = dict(reversed(ours.items()))
    assert compare(ours, theirs, margin=0.02) == compare(shuffled, theirs, margin=0.02)


def test_a_small_harmless_set_is_undecided_and_says_how_many_items_would_decide():
    result = compare(*binary(1, 1, 38), margin=0.02)
    assert result.verdict is Verdict.UNDECIDED
    assert result.n_to_decide is not None
    assert result.n_to_decide > 400


def test_ties_alone_do_not_prove_equality_on_few_items():
    assert compare(*binary(0, 0, 50), margin=0.02).verdict is Verdict.UNDECIDED
    assert compare(*binary(0, 0, 400), margin=0.02).verdict is Verdict.EQUIVALENT
    half = {f"item {i}": 0.5 for i in range(50)}
    result = compare(half, half, margin=0.02)
    assert result.verdict is Verdict.UNDECIDED
    assert result.low < -0.02 < 0.02 < result.high


def test_small_graded_differences_on_few_items_do_not_hide_a_collapse_that_was_not_drawn():
    low = compare(*graded(60, sd=0.005), margin=0.02).low
    assert low < -0.03


def test_one_item_decides_nothing():
    result = compare({"only": 0.0}, {"only": 1.0}, margin=0.02)
    assert result.verdict is Verdict.UNDECIDED
    assert result.estimate == -1.0
    assert result.high > 0.5


def test_unscored_items_are_counted_and_take_no_part():
    ours, theirs = binary(2, 1, 10)
    ours["a"], theirs["a"] = None, 1.0
    ours["b"], theirs["b"] = 1.0, None
    result = compare(ours, theirs, margin=0.02)
    assert (result.n, result.unscored) == (13, 2)


def test_nothing_scored_says_nothing():
    result = compare({"a": None, "b": None}, {"a": 1.0, "b": None}, margin=0.02, clusters={"a": "x", "b": "x"})
    assert (result.n, result.unscored, result.verdict) == (0, 2, "undecided")
    assert (result.low, result.high, result.e_value, result.p_value) == (-1.0, 1.0, 1.0, 1.0)


def test_items_of_one_side_alone_are_reported():
    ours, theirs = binary(2, 1, 10)
    result = compare(ours | {"x": 1.0, "y": 0.0}, theirs | {"z": None}, margin=0.02)
    assert (result.n, result.only_candidate, result.only_baseline) == (13, 2, 1)


def test_runs_of_different_golden_versions_are_refused_with_the_way_out():
    with pytest.raises(BadInput, match="Replay the baseline"):
        compare({"a": 1.0}, {"b": 1.0}, margin=0.02)


def test_an_error_of_the_candidate_counts_against_it_and_is_shown():
    ours, theirs = binary(0, 0, 300)
    failed = [f"item {i}" for i in range(30)]
    for item in failed:
        ours[item] = None
    result = compare(ours, theirs, margin=0.02, errors=failed)
    assert (result.errors, result.unscored, result.worse) == (30, 0, 30)
    assert result.verdict is Verdict.WORSE


def test_an_error_of_the_baseline_is_shown_too():
    ours, theirs = binary(0, 0, 10)
    result = compare(ours, theirs, margin=0.02, baseline_errors=["item 3"])
    assert (result.baseline_errors, result.better) == (1, 1)


@pytest.mark.parametrize("score", [float("nan"), float("inf"), -0.1, 1.1])
def test_a_score_outside_its_range_is_refused_by_name(score):
    with pytest.raises(BadInput, match="item seven"):
        compare({"item seven": score}, {"item seven": 1.0}, margin=0.02)


def test_a_score_that_misses_its_range_by_rounding_is_taken():
    assert compare({"a": 1.0 + 1e-12}, {"a": 1.0}, margin=None).ties == 1


@pytest.mark.parametrize("level", [0.0, 1.0, 95.0, float("nan")])
def test_a_level_outside_its_range_is_refused(level):
    with pytest.raises(BadInput, match="level"):
        compare({"a": 1.0}, {"a": 1.0}, margin=0.02, level=level)


@pytest.mark.parametrize("weight", [0.0, -1.0, float("nan"), float("inf")])
def test_a_weight_that_is_not_above_zero_is_refused_by_name(weight):
    with pytest.raises(BadInput, match="Item a"):
        compare({"a": 1.0}, {"a": 1.0}, margin=0.02, weights={"a": weight})


def test_heavier_items_move_the_estimate():
    ours, theirs = {"a": 0.0, "b": 1.0}, {"a": 1.0, "b": 1.0}
    assert compare(ours, theirs, margin=None, weights={"a": 3.0}).estimate == pytest.approx(-0.75)
    assert compare(ours, theirs, margin=None, weights={"a": 2.0, "b": 2.0}) == compare(ours, theirs, margin=None)


def test_items_of_one_cluster_count_as_one_observation():
    ours, theirs = binary(40, 20, 540)
    alone = compare(ours, theirs, margin=None)
    together = compare(ours, theirs, margin=None, clusters={f"item {i}": str(i // 10) for i in range(600)})
    assert together.clusters == 60
    assert together.high - together.low > 1.5 * (alone.high - alone.low)
    assert "cluster" in together.method
    assert together.e_value < alone.e_value


def test_clusters_of_one_item_change_nothing():
    ours, theirs = binary(30, 10, 200)
    assert compare(ours, theirs, margin=0.02, clusters={item: item for item in ours}) == compare(
        ours, theirs, margin=0.02
    )


def test_items_without_a_cluster_stand_alone():
    ours, theirs = binary(3, 2, 35)
    assert compare(ours, theirs, margin=0.02, clusters={"item 0": "x", "item 1": "x"}).clusters == 39


def test_one_cluster_says_nothing_about_others():
    ours, theirs = binary(50, 0, 50)
    result = compare(ours, theirs, margin=0.02, clusters=dict.fromkeys(ours, "one document"))
    assert result.verdict is Verdict.UNDECIDED
    assert (result.low, result.high) == (-1.0, 1.0)


def test_flips_come_largest_first_and_losses_before_gains():
    ours = {"a": 0.5, "b": 0.0, "c": 1.0, "d": 0.51, "e": 0.4}
    theirs = {"a": 0.9, "b": 1.0, "c": 0.0, "d": 0.50, "e": 0.5}
    result = compare(ours, theirs, margin=None)
    assert [flip.item for flip in result.flips] == ["b", "c", "a", "e"]
    assert (result.better, result.worse, result.ties) == (1, 3, 1)
    assert result.flips[0].baseline == 1.0


def test_the_result_can_be_stored_as_json():
    ours, theirs = binary(3000, 0, 0)
    stored = compare(ours, theirs, margin=0.02).to_json(max_flips=10)
    assert json.loads(json.dumps(stored, allow_nan=False)) == stored
    assert len(stored["flips"]) == 10
    assert stored["worse"] == 3000


@settings(max_examples=150, deadline=None)
@given(runs, st.none() | st.floats(0, 0.5), st.booleans())
def test_whatever_is_compared_every_figure_is_in_its_range(pairs, margin, clustered):
    ours, theirs = {k: a for k, (a, _) in pairs.items()}, {k: b for k, (_, b) in pairs.items()}
    result = compare(ours, theirs, margin=margin, clusters={k: k[:1] for k in pairs} if clustered else None)
    assert result.n + result.unscored == len(pairs)
    assert result.better + result.worse + result.ties == result.n
    assert -1.0 <= result.low <= result.estimate <= result.high <= 1.0
    assert 0.0 <= result.p_value <= 1.0
    assert result.e_value >= 0.0
    assert math.isfinite(result.e_value)
    assert result.n_to_decide is None or result.n_to_decide > result.n


def test_a_thousand_items_take_less_than_half_a_second():
    ours, theirs = graded(1000)
    started = time.perf_counter()
    compare(ours, theirs, margin=0.02)
    assert time.perf_counter() - started < 0.5


def test_importing_the_comparison_does_not_import_scipy():
    script = "import sys, evaluators.comparison; sys.exit('scipy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0


def test_a_drop_that_looks_large_needs_fewer_items_than_proof_of_no_drop():
    baseline = {f"item {n}": float(n < 50) for n in range(60)}
    found = compare(baseline | {f"item {n}": 0.0 for n in range(6)}, baseline, margin=0.02)
    assert found.verdict is Verdict.UNDECIDED
    assert found.n_if_as_seen is not None
    assert found.n_to_decide is not None
    assert 60 < found.n_if_as_seen < 400 < found.n_to_decide
    surely = compare(baseline | {f"item {n}": 0.0 for n in range(30)}, baseline, margin=0.02)
    assert (surely.n_to_decide, surely.n_if_as_seen) == (None, None)
