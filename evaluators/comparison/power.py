"""How many items a verdict needs: before a golden set is made, and after one turned out too small."""

import math
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from driftline.errors import BadInput
from evaluators.comparison.evidence import stakes, unfavourable
from evaluators.comparison.interval import TYPICAL_ITEMS
from evaluators.comparison.verdicts import checked_margin

Floats = NDArray[np.float64]

POWER = 0.9
MOST_ITEMS = 100_000_000
MOST_EXACT = 20_000


@dataclass(frozen=True, slots=True)
class ItemsNeeded:
    """Paired items until a candidate that is worse is called `worse`.

    `fixed` is the size of a sample looked at once; `sequential` is within how many items the same share of replays has
    stopped when every answer is looked at; `typical` is the median of those.
    """

    fixed: int
    sequential: int
    typical: int


def items_needed(
    drop: float,
    *,
    discordance: float | None = None,
    sd: float | None = None,
    margin: float | None = None,
    alpha: float = 0.001,
    power: float = POWER,
    runs: int = 2000,
    seed: int = 0,
) -> ItemsNeeded:
    """How many paired items find a candidate that is worse by `drop`, with one-sided error `alpha` and chance `power`.

    The fixed sample is planned for the exact McNemar test where scores are yes/no and there is no margin, and for the
    mean difference otherwise; the sequential one by simulating `runs` replays of independent items under
    `PairedWorse`.

    Args:
        drop: True loss in units of the score, above the margin.
        discordance: Yes/no scores: the share of items on which the two sides disagree, at least `drop`.
        sd: Graded scores: the standard deviation of the paired differences. Give one of the two.
        margin: The largest loss that does not matter.
        alpha: Share of harmless candidates that may be called worse.
        power: Share of candidates worse by `drop` that are to be found.
        runs: Simulated replays.
        seed: Of the simulation.

    Raises:
        BadInput: The numbers do not describe a loss that could be found.

    >>> items_needed(0.05, discordance=0.10).fixed
    757
    """
    tolerated = checked_margin(margin) or 0.0
    size, worse_share, better_share = _differences(drop, discordance, sd)
    if not (tolerated < drop and 0.0 < alpha < 0.5 <= power < 1.0):
        raise BadInput(
            f"A drop of {drop} with margin {tolerated}, alpha {alpha} and power {power} cannot be planned for: "
            "the drop must exceed the margin, alpha lie in (0, 0.5) and power in [0.5, 1)."
        )
    normal = NormalDist()
    spread = math.sqrt((worse_share + better_share) * size**2 - drop**2)
    rough = ((normal.inv_cdf(1.0 - alpha) + normal.inv_cdf(power)) * max(spread, 1e-3) / (drop - tolerated)) ** 2
    if rough > 1e6:
        raise BadInput(f"About {rough:.0f} items would be needed; ask for a larger drop or a smaller margin.")
    exact = discordance is not None and tolerated == 0.0 and rough < MOST_EXACT
    fixed = _mcnemar_items(worse_share, better_share, alpha, power) if exact else math.ceil(rough)
    stops = _stopping_items((size, worse_share, better_share), tolerated, alpha, fixed, runs, seed)
    return ItemsNeeded(fixed, *(int(np.quantile(stops, share, method="higher")) for share in (power, 0.5)))


def items_to_decide(
    variance: float, estimate: float, margin: float | None, level: float, n: int, *, binary: bool
) -> int | None:
    """How many items like those seen would decide with probability 0.9.

    With a margin: find an unchanged candidate not worse (and one that has lost twice the margin, worse). Where that
    many were seen already, or there is no margin: find what the estimate says, were it the truth. None where it says
    nothing.

    Args:
        variance: Of one item's difference; between clusters, of the mean times the number of items.
        estimate: Mean difference seen.
        margin: The largest loss that does not matter.
        level: Confidence of the two-sided interval that decides.
        n: Items seen.
        binary: Scores are yes/no; graded ones need some 200 items before small differences may be trusted.
    """
    planned = _items(variance, margin, level, n, binary) if margin else None
    if planned is None or planned <= n:
        return items_if_as_seen(variance, estimate, margin, level, n, binary=binary)
    return max(planned, n + 1)


def items_if_as_seen(
    variance: float, estimate: float, margin: float | None, level: float, n: int, *, binary: bool
) -> int | None:
    """How many items would find with probability 0.9 what the estimate says, were it the truth; None where none would.

    Args are those of `items_to_decide`.
    """
    planned = _items(variance, abs(estimate + (margin or 0.0)), level, n, binary)
    return planned if planned is None else max(planned, n + 1)


def _items(variance: float, distance: float, level: float, n: int, binary: bool) -> int | None:
    if distance < 1e-6 or not n:
        return None
    quantiles = NormalDist().inv_cdf((1.0 + level) / 2.0) + NormalDist().inv_cdf(POWER)
    needed = quantiles**2 * variance / distance**2
    if not binary:  # below 200 items an unseen difference may lie at the end of the range
        unseen = -2.0 * math.log((1.0 - level) / 2.0) / distance
        needed = max(needed, min(unseen, TYPICAL_ITEMS))
    return math.ceil(needed) if needed < MOST_ITEMS else None


def _differences(drop: float, discordance: float | None, sd: float | None) -> tuple[float, float, float]:
    """Size of the differences, share worse, share better: a three-point law with the mean and spread given."""
    if discordance is not None and sd is None:
        if not 0.0 < drop <= discordance <= 1.0:
            raise BadInput(
                f"A drop of {drop} with discordance {discordance} is impossible: the share of items on which the two "
                "sides disagree is at least the drop and at most 1."
            )
        return 1.0, (discordance + drop) / 2.0, (discordance - drop) / 2.0
    if sd is None or discordance is not None:
        raise BadInput("Give either discordance (yes/no scores) or sd (graded scores) to say how much items disagree.")
    size = math.sqrt(sd**2 + drop**2)
    if not (drop > 0.0 and sd > 0.0 and size <= 1.0):
        raise BadInput(
            f"A drop of {drop} with sd {sd} is impossible: both must be above 0 and differences lie in [-1, 1]."
        )
    return size, (1.0 + drop / size) / 2.0, (1.0 - drop / size) / 2.0


def mcnemar_power(items: int, worse_share: float, better_share: float, alpha: float) -> float:
    """Chance that the one-sided exact McNemar test at `alpha` calls a candidate worse.

    Args:
        items: Paired items.
        worse_share: Share of items on which the candidate alone is wrong.
        better_share: Share on which the baseline alone is wrong.
        alpha: One-sided level of the test.
    """
    from scipy.special import bdtrc, gammaln, xlog1py

    discordance = worse_share + better_share
    disagree = np.arange(items + 1)
    critical, most = np.zeros(items + 1, dtype=np.intp), disagree + 1  # fewest losses that a fair coin gives too rarely
    while (critical < most).any():
        middle = (critical + most) // 2
        rare = np.where(middle == 0, 1.0, bdtrc(np.maximum(middle - 1, 0), disagree, 0.5)) <= alpha
        critical, most = np.where(rare, critical, middle + 1), np.where(rare, middle, most)
    found = np.where(critical > disagree, 0.0, bdtrc(critical - 1, disagree, worse_share / discordance))
    agree = items - disagree
    log_chance = gammaln(items + 1) - gammaln(disagree + 1) - gammaln(agree + 1) + xlog1py(agree, -discordance)
    return float((np.exp(log_chance + disagree * math.log(discordance)) * found).sum())


def _mcnemar_items(worse_share: float, better_share: float, alpha: float, power: float) -> int:
    few, enough = 1, 64
    while mcnemar_power(enough, worse_share, better_share, alpha) < power:
        few, enough = enough, 2 * enough
    while few < enough:
        middle = (few + enough) // 2
        reached = mcnemar_power(middle, worse_share, better_share, alpha) >= power
        few, enough = (few, middle) if reached else (middle + 1, enough)
    return enough


def _stopping_items(
    law: tuple[float, float, float], margin: float, alpha: float, horizon: int, runs: int, seed: int
) -> NDArray[np.int64]:
    """How many items each of `runs` simulated replays takes, shape (runs,); one look per hundredth of `horizon`."""
    size, worse_share, better_share = law
    shares = np.array([worse_share, better_share, max(1.0 - worse_share - better_share, 0.0)])
    gains = np.log1p(np.outer(unfavourable(np.array([-size, size, 0.0]), margin), stakes()))
    random = np.random.default_rng(seed)
    look = max(horizon // 100, 1)
    counts = np.zeros((runs, 3))
    stops = np.zeros(runs, dtype=np.int64)
    for items in range(look, 100 * horizon, look):
        running = np.flatnonzero(stops == 0)
        counts[running] += random.multinomial(look, shares / shares.sum(), size=len(running))
        wealth = np.exp(np.minimum(counts[running] @ gains, 700.0)).mean(axis=1)
        stops[running[wealth >= 1.0 / alpha]] = items
        if stops.all():
            break
    return np.where(stops == 0, 100 * horizon, stops)
