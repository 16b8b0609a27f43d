import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from driftline.errors import BadInput
from evaluators.comparison import e_bh, slices


def golden(parts, seed=0):
    """Runs and tags; `parts` gives items, share of losses and share of gains by topic."""
    random = np.random.default_rng(seed)
    ours, theirs, tags = {}, {}, {}
    for topic, (items, worse, better) in parts.items():
        for i in range(items):
            sign = random.choice([-1, 0, 1], p=[worse, 1 - worse - better, better])
            item = f"{topic} {i}"
            ours[item], theirs[item] = float(sign >= 0), float(sign <= 0)
            tags[item] = {"topic": topic, "parity": str(i % 2)}
    return ours, theirs, tags


def test_a_loss_and_a_gain_that_cancel_are_both_named():
    found = slices(*golden({"law": (100, 0.4, 0.0), "art": (100, 0.0, 0.4), "sport": (100, 0.05, 0.05)}))
    named = {one.name: one.finding for one in found}
    assert named["topic=law"] == "worse"
    assert named["topic=art"] == "better"
    assert named["topic=sport"] == named["parity=0"] == "undecided"
    assert {one.name for one in found[:2]} == {"topic=law", "topic=art"}


def test_harmless_slices_are_rarely_named():
    named = sum(
        any(one.finding != "undecided" for one in slices(*golden(dict.fromkeys("abcdefghijkl", (40, 0.1, 0.1)), seed)))
        for seed in range(20)
    )
    assert named <= 2


def test_every_slice_counts_its_own_items():
    ours, theirs, tags = golden({"law": (30, 0.1, 0.0), "art": (20, 0.0, 0.1)})
    ours["law 0"] = None
    sizes = {one.name: one.comparison.n for one in slices(ours, theirs, tags)}
    assert sizes == {"topic=law": 29, "topic=art": 20, "parity=0": 24, "parity=1": 25}


def test_a_slice_without_a_scored_pair_is_left_out_unless_its_items_are_errors():
    ours, theirs, tags = golden({"law": (5, 0.0, 0.0), "art": (5, 0.0, 0.0)})
    ours |= {f"art {i}": None for i in range(5)}
    assert "topic=art" not in {one.name for one in slices(ours, theirs, tags)}
    failed = slices(ours, theirs, tags, errors=[f"art {i}" for i in range(5)])
    art = next(one for one in failed if one.name == "topic=art")
    assert (art.comparison.errors, art.comparison.worse) == (5, 5)


def test_errors_count_in_their_own_slice_alone():
    ours, theirs, tags = golden({"law": (20, 0.0, 0.0), "art": (20, 0.0, 0.0)})
    failed = ["law 0", "law 1", "law 2"]
    del ours["law 0"]
    found = {one.name: one.comparison for one in slices(ours, theirs, tags, errors=failed, baseline_errors=["law 1"])}
    assert (found["topic=law"].n, found["topic=law"].errors, found["topic=law"].baseline_errors) == (20, 3, 1)
    assert (found["topic=art"].n, found["topic=art"].errors, found["topic=art"].only_candidate) == (20, 0, 0)


def test_items_without_tags_have_no_slice():
    assert slices({"a": 1.0}, {"a": 0.0}, {}) == []


def test_slices_can_be_stored_as_json():
    stored = [one.to_json() for one in slices(*golden({"law": (30, 0.3, 0.0)}))]
    assert json.loads(json.dumps(stored, allow_nan=False)) == stored


@pytest.mark.parametrize("fdr", [0.0, 1.0, float("nan")])
def test_a_false_discovery_rate_that_is_none_is_refused(fdr):
    with pytest.raises(BadInput, match="false discovery rate"):
        slices({"a": 1.0}, {"a": 0.0}, {}, fdr=fdr)


@given(st.lists(st.floats(0, 1e6), max_size=20), st.floats(0.01, 0.3))
def test_the_list_holds_the_largest_e_values_and_all_of_them_are_large_enough(e_values, fdr):
    listed = e_bh(e_values, fdr)
    inside = [e for e, one in zip(e_values, listed, strict=True) if one]
    outside = [e for e, one in zip(e_values, listed, strict=True) if not one]
    assert all(e * len(inside) * fdr >= len(e_values) * (1 - 1e-9) for e in inside)
    assert not inside or not outside or min(inside) >= max(outside)


def test_one_hypothesis_needs_an_e_value_of_one_over_the_rate():
    assert e_bh([20.0], fdr=0.05) == [True]
    assert e_bh([19.9], fdr=0.05) == [False]
    assert e_bh([], fdr=0.05) == []
