"""Coverage: the share of traffic outside is estimated with an interval that holds it, and what is outside is named."""

import doctest

import numpy as np
import pytest

import evaluators.coverage as module
from driftline.errors import BadInput
from evaluators.coverage import coverage, item_weights, share_interval


def around(centres: np.ndarray, n: int, seed: int, spread: float = 0.08) -> np.ndarray:
    random = np.random.default_rng(seed)
    picked = centres[random.integers(len(centres), size=n)]
    return picked + random.normal(0.0, spread, picked.shape)


@pytest.fixture(scope="module")
def topics() -> np.ndarray:
    return np.linalg.qr(np.random.default_rng(0).normal(size=(32, 8)))[0].T


def test_examples_run() -> None:
    assert doctest.testmod(module).failed == 0


def test_traffic_like_the_golden_set_is_no_gap(topics: np.ndarray) -> None:
    gaps = 0
    for seed in range(40):
        found = coverage(around(topics, 300, seed), around(topics, 400, 1000 + seed))
        gaps += found.is_gap
        assert abs(found.outside - found.expected) < 0.08
    assert gaps <= 2


def test_new_topics_are_found_with_their_shares_and_typical_prompts(topics: np.ndarray) -> None:
    known, new = topics[:5], topics[5:7]
    old, first, second = around(known, 400, 2), around(new[:1], 80, 3), around(new[1:], 20, 4)
    found = coverage(around(known, 300, 1), np.vstack([old, first, second]))
    assert found.is_gap
    assert found.low < 0.2 + 0.05 * 0.8 < found.high
    assert [group.size for group in found.groups[:2]] == [80, 20]
    assert [round(group.share, 2) for group in found.groups[:2]] == [0.16, 0.04]
    assert all(400 <= place < 480 for place in found.groups[0].typical)
    assert all(place >= 480 for place in found.groups[1].typical)
    centre = first.mean(axis=0)
    likeness = first @ centre / np.linalg.norm(first, axis=1)
    assert likeness[found.groups[0].typical[0] - 400] > np.median(likeness)


def test_sampled_prompts_count_for_those_they_stand_for(topics: np.ndarray) -> None:
    traffic = np.vstack([around(topics[:5], 300, 2), around(topics[6:7], 100, 3)])
    weights = [1.0] * 300 + [9.0] * 100
    found = coverage(around(topics[:5], 300, 1), traffic, weights)
    assert abs(found.outside - (900 + 15) / 1200) < 0.02
    plain = coverage(around(topics[:5], 300, 1), traffic)
    assert found.high - found.low > plain.high - plain.low


def test_items_that_stand_for_more_traffic_weigh_more_and_none_weighs_nothing(topics: np.ndarray) -> None:
    golden = np.vstack([around(topics[:1], 50, 1), around(topics[1:2], 50, 2)])
    found = coverage(golden, around(topics[:1], 500, 3))
    weights = np.array(item_weights(found.stands_for, found.prompts))
    assert weights.min() > 0.0
    assert round(float(weights.mean()), 9) == 1.0
    assert weights[:50].sum() > 0.85 * 100 > weights[50:].sum()
    assert set(found.nearest) <= {*range(50), -1}


def test_the_interval_of_a_share_holds_it_95_times_of_100() -> None:
    random = np.random.default_rng(5)
    for share in (0.02, 0.1, 0.5):
        held = [low <= share <= high for hits in random.binomial(500, share, 4000)
                for low, high in [share_interval(hits / 500, 500, 0.95)]]  # fmt: skip
        assert 0.935 <= np.mean(held) <= 0.97


@pytest.mark.parametrize(
    ("golden", "says"), [(np.eye(4), "at least 20"), (np.ones((30, 3)), "dimensions"), (np.zeros((30, 4)), "zero")]
)
def test_what_cannot_be_compared_is_refused(golden: np.ndarray, says: str) -> None:
    with pytest.raises(BadInput, match=says):
        coverage(golden, np.eye(4))
