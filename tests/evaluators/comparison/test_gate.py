"""The gate's promise: a truly worse candidate comes through in at most one of twenty loops, however they are chosen."""

import numpy as np
import pytest

from driftline.errors import BadInput
from evaluators.comparison import ALPHA, alpha_of_use, gate

ITEMS = 200
IDS = [f"item {n}" for n in range(ITEMS)]
WORLDS, LOOPS, CANDIDATES = 250, 4, 4


def drawn(law: str, margin: float, baseline: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Differences of a candidate that is worse by just over the margin, one per item."""
    lost = margin * 1.001
    if law == "graded":
        return np.clip(random.normal(-lost, 0.1, ITEMS), -0.25, 0.25)
    if law == "rare":  # hardly any difference, and now and then a quarter of the scale
        catastrophe = random.random(ITEMS) < lost / 0.25
        return np.where(catastrophe, -0.25, random.normal(0.0, 0.002, ITEMS))
    gains, chance = 0.05, random.random(ITEMS)  # yes/no: of 70 % right ones some are lost, of the wrong ones some won
    loses = (lost + 0.3 * gains) / 0.7
    return np.where(baseline == 1.0, -(chance < loses).astype(float), (chance < gains).astype(float))


def loops(law: str, margin: float, kept: float, random: np.random.Generator) -> list[bool]:
    """One golden set's life: whether each loop promotes one of its candidates, all of which are truly worse.

    With `kept` above 0 each loop makes its candidates from the one that looked best in the loop before, on these very
    items: that share of its answers stays as it is. On new items they are worse all the same.
    """
    yes_no = law == "yes/no"
    baseline = (random.random(ITEMS) < 0.7).astype(float) if yes_no else 0.25 + random.random(ITEMS) / 2
    told, best = [], None
    for loop in range(LOOPS):
        made = {}
        for number in range(CANDIDATES):
            differences = drawn(law, margin, baseline, random)
            if best is not None:
                differences = np.where(random.random(ITEMS) < kept, best, differences)
            made[str(number)] = differences
        scores = {name: dict(zip(IDS, np.clip(baseline + one, 0, 1), strict=True)) for name, one in made.items()}
        found = gate(scores, dict(zip(IDS, baseline, strict=True)), margin=margin, use=loop + 1)
        told.append(any(one.verdict.passes for one in found.values()))
        best = made[max(found, key=lambda name: found[name].estimate)]
    return told


@pytest.mark.slow
@pytest.mark.parametrize(
    ("law", "margin", "kept"),
    [("yes/no", 0.02, 0.5), ("yes/no", 0.05, 0.0), ("yes/no", 0.05, 0.5), ("graded", 0.02, 0.5), ("rare", 0.02, 0.5)],
)
def test_a_worse_candidate_is_promoted_in_at_most_5_of_100_loops(law: str, margin: float, kept: float) -> None:
    random = np.random.default_rng(7)
    promoted = [told for _ in range(WORLDS) for told in loops(law, margin, kept, random)]
    assert len(promoted) == WORLDS * LOOPS == 1000
    assert sum(promoted) <= 0.05 * len(promoted)


def test_what_all_decisions_may_err_with_adds_up_to_alpha() -> None:
    assert sum(alpha_of_use(use) for use in range(1, 100_000)) == pytest.approx(ALPHA, rel=1e-4)


@pytest.mark.parametrize(("kept", "margin"), [(0.0, 0.05), (0.5, 0.05)])
def test_a_small_run_of_the_simulation_keeps_the_promise(kept: float, margin: float) -> None:
    random = np.random.default_rng(11)
    promoted = [told for _ in range(10) for told in loops("yes/no", margin, kept, random)]
    assert sum(promoted) <= 6  # of 40; more than 6 would happen once in 100 at a rate of 5 in 100


def test_a_candidate_that_is_as_good_comes_through_even_late_and_among_many() -> None:
    random = np.random.default_rng(3)
    baseline = dict(zip(IDS, 0.25 + random.random(ITEMS) / 2, strict=True))
    twins = {str(n): {item: score + random.normal(0.0, 0.01) for item, score in baseline.items()} for n in range(5)}
    assert all(one.verdict.passes for one in gate(twins, baseline, margin=0.02, use=10).values())


def test_each_decision_asks_for_more_than_the_one_before() -> None:
    scores = dict.fromkeys(IDS, 1.0)
    levels = [gate({"a": scores, "b": scores}, scores, margin=0.1, use=use)["a"].level for use in (1, 2, 3)]
    assert levels == [pytest.approx(1 - 0.05 / (use * (use + 1))) for use in (1, 2, 3)]


@pytest.mark.parametrize(
    ("candidates", "use", "says"), [({}, 1, "no candidate"), ({"a": {"x": 1.0}}, 0, "count from 1")]
)
def test_nothing_to_judge_is_said(candidates: dict, use: int, says: str) -> None:
    with pytest.raises(BadInput, match=says):
        gate(candidates, {"x": 1.0}, margin=0.1, use=use)
