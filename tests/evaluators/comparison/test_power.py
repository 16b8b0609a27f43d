import numpy as np
import pytest
from scipy.stats import binom

from driftline.errors import BadInput
from evaluators.comparison import compare, items_needed, kt_e_value
from evaluators.comparison.power import mcnemar_power


def stopping_share(items, worse, better, alpha):
    """Exact chance that the Krichevsky-Trofimov process has stopped within so many items, by the walk of its counts."""
    disagree, stopped = worse + better, 0.0
    alive = np.array([1.0])  # chance of each number of losses among the disagreements so far
    for seen in range(1, 400):
        alive = np.append(alive * better, 0.0) / disagree + np.append(0.0, alive * worse) / disagree
        stops = np.array([kt_e_value(losses, seen - losses) >= 1 / alpha for losses in range(seen + 1)])
        stopped += alive[stops].sum() * binom.sf(seen - 1, items, disagree)
        alive[stops] = 0.0
    return stopped


def test_a_drop_of_five_points_at_ten_percent_discordance_needs_at_most_800_items_at_once_or_1050_in_turn():
    plan = items_needed(0.05, discordance=0.10, alpha=0.001, power=0.9)
    assert plan.fixed <= 800
    assert stopping_share(1050, 0.075, 0.025, 0.001) >= 0.9
    assert plan.sequential == pytest.approx(1041, rel=0.04)
    assert plan.typical < plan.fixed


def test_early_stopping_saves_most_items_where_the_drop_is_fifteen_points():
    planned = items_needed(0.05, discordance=0.10).fixed
    assert items_needed(0.15, discordance=0.20).typical <= 0.4 * planned


def test_the_power_of_mcnemar_is_that_of_its_exact_distribution():
    random = np.random.default_rng(0)
    drawn = random.multinomial(150, [0.2, 0.05, 0.75], size=20_000)
    losses, gains = drawn[:, 0], drawn[:, 1]
    found = binom.sf(losses - 1, losses + gains, 0.5) <= 0.01
    assert mcnemar_power(150, 0.2, 0.05, 0.01) == pytest.approx(found.mean(), abs=0.01)


def test_mcnemar_keeps_its_level_without_a_loss():
    assert mcnemar_power(300, 0.1, 0.1, 0.01) <= 0.01
    assert mcnemar_power(5, 0.5, 0.5, 0.01) == 0.0


def test_the_planned_number_is_the_smallest_that_reaches_the_power():
    plan = items_needed(0.1, discordance=0.1)
    assert mcnemar_power(plan.fixed, 0.1, 0.0, 0.001) >= 0.9
    assert mcnemar_power(plan.fixed - 5, 0.1, 0.0, 0.001) < 0.9


def test_smaller_drops_less_error_and_margins_need_more_items():
    base = items_needed(0.06, discordance=0.1).fixed
    assert items_needed(0.05, discordance=0.1).fixed > base
    assert items_needed(0.06, discordance=0.1, alpha=1e-5).fixed > base
    assert items_needed(0.06, discordance=0.1, power=0.99).fixed > base
    assert items_needed(0.06, discordance=0.1, margin=0.02).fixed > base
    assert items_needed(0.06, sd=0.2).fixed < items_needed(0.06, sd=0.4).fixed


@pytest.mark.parametrize(
    "numbers",
    [
        {"drop": 0.1},
        {"drop": 0.1, "discordance": 0.2, "sd": 0.2},
        {"drop": 0.3, "discordance": 0.2},
        {"drop": 0.0, "discordance": 0.2},
        {"drop": 0.1, "sd": 0.0},
        {"drop": 0.9, "sd": 0.9},
        {"drop": 0.1, "discordance": 0.2, "margin": 0.1},
        {"drop": 0.1, "discordance": 0.2, "alpha": 0.0},
        {"drop": 0.1, "discordance": 0.2, "power": 1.0},
        {"drop": 1e-5, "discordance": 0.2},
        {"drop": float("nan"), "sd": 0.1},
    ],
)
def test_a_loss_that_cannot_be_planned_for_is_refused(numbers):
    with pytest.raises(BadInput):
        items_needed(**numbers)


def drawn_runs(random, items, binary):
    if binary:
        differences = random.choice([-1.0, 0.0, 1.0], p=[0.04, 0.92, 0.04], size=items)
    else:
        differences = np.where(random.random(items) < 0.5, 0.0, np.clip(random.normal(0, 0.12, items), -0.5, 0.5))
    ids = [f"item {i}" for i in range(items)]
    ours, theirs = (np.clip(0.5 + sign * differences / 2, 0, 1) for sign in (1, -1))
    return dict(zip(ids, ours.tolist(), strict=True)), dict(zip(ids, theirs.tolist(), strict=True))


@pytest.mark.parametrize("binary", [True, False])
def test_the_number_that_would_decide_lets_a_harmless_candidate_pass_nine_times_of_ten(binary):
    random = np.random.default_rng(7)
    passed = tried = 0
    for _ in range(60):
        small = compare(*drawn_runs(random, 60, binary), margin=0.03)
        if small.n_to_decide is None:
            continue
        tried += 1
        passed += compare(*drawn_runs(random, small.n_to_decide, binary), margin=0.03).verdict.passes
    assert tried >= 50
    assert passed >= 0.9 * tried
