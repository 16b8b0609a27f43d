"""What the paired comparison promises, measured: coverage, false alarms under peeking, items to a decision, speed.

Run `python benchmarks/comparison.py`, or with `--runs 10000` for the figures of docs/comparison.md. Every figure stands
beside that of a named reference from the same run. The part on real answers needs the LLMDrift data in
`../shared/data/llmdrift` and says so when it is absent.
"""

import argparse
import csv
import functools
import gzip
import math
import re
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from evaluators.comparison import EarlyStop, PairedWorse, Slice, Verdict, compare, items_needed, mcnemar, slices
from evaluators.comparison.clustered import clustered_confidence
from evaluators.comparison.interval import mean_confidence
from evaluators.comparison.sample import Sample, infer, rests_on_little

Floats = NDArray[np.float64]
COLLAPSING = 0.02  # share of answers that are lost entirely in `rare_collapse`
CHECKED = 100  # runs of each law in which the interval is searched for as well

Draw = Callable[[np.random.Generator, int], Floats]

PRIME = Path(__file__).parents[2] / "shared" / "data" / "llmdrift" / "PRIME_FULL_EVAL.csv.gz"


@dataclass(frozen=True)
class Law:
    """How differences (candidate - baseline) come about: `draw` gives n of them, `exactly` is their mean if known."""

    name: str
    draw: Draw
    exactly: float | None = None
    binary: bool = False

    @functools.cached_property
    def mean(self) -> float:
        """The true mean; from two million draws where it is not known exactly."""
        if self.exactly is not None:
            return self.exactly
        return float(self.draw(np.random.default_rng(10_000), 2_000_000).mean())


def yes_no(worse: float, better: float) -> Draw:
    """Differences of yes/no scores of which these shares are losses and gains."""
    return lambda random, n: random.choice(np.array([-1.0, 0.0, 1.0]), p=[worse, 1.0 - worse - better, better], size=n)


def even(random: np.random.Generator, n: int) -> Floats:
    """A continuous score that shifts a little everywhere."""
    return np.clip(random.normal(-0.02, 0.15, n), -1.0, 1.0)


def mostly_ties(random: np.random.Generator, n: int) -> Floats:
    """Four of five answers are the same, the rest lose on average."""
    return np.where(random.random(n) < 0.8, 0.0, np.clip(random.normal(-0.1, 0.3, n), -1.0, 1.0))


def some_collapse(random: np.random.Generator, n: int) -> Floats:
    """One of ten answers loses a lot, the rest hardly moves."""
    return np.where(random.random(n) < 0.9, random.normal(0.0, 0.02, n), -random.uniform(0.2, 1.0, n))


def rare_collapse(random: np.random.Generator, n: int) -> Floats:
    """One of fifty answers is lost entirely, the rest hardly moves: what a bootstrap of few items never sees."""
    return np.where(random.random(n) < 1.0 - COLLAPSING, random.normal(0.0, 0.01, n), -1.0)


def token_f1(random: np.random.Generator, n: int) -> Floats:
    """Token F1 of two answers: half the same, some lost, the rest a little different."""
    theirs = np.where(random.random(n) < 0.3, 1.0, random.beta(2.0, 2.0, n))
    moved = np.where(random.random(n) < 0.1, 0.0, np.clip(theirs + random.normal(-0.02, 0.2, n), 0.0, 1.0))
    return np.where(random.random(n) < 0.5, 0.0, moved - theirs)


LAWS = (
    Law("yes/no, 10 % disagree, -5 points", yes_no(0.075, 0.025), -0.05, binary=True),
    Law("yes/no, 10 % disagree, equal", yes_no(0.05, 0.05), 0.0, binary=True),
    Law("yes/no, 30 % disagree, -10 points", yes_no(0.2, 0.1), -0.1, binary=True),
    Law("graded, evenly shifted", even),
    Law("graded, mostly ties", mostly_ties),
    Law("graded, some collapse", some_collapse),
    Law("graded, rare collapse", rare_collapse),
    Law("graded, token F1", token_f1),
)


def equal_sizes(random: np.random.Generator, clusters: int) -> NDArray[np.intp]:
    """Five items in each cluster."""
    return np.full(clusters, 5, dtype=np.intp)


def uneven_sizes(random: np.random.Generator, clusters: int) -> NDArray[np.intp]:
    """Five items on average, many clusters of one and some of twenty."""
    return random.geometric(0.2, clusters).astype(np.intp)


def yes_no_clustered(random: np.random.Generator, cluster: NDArray[np.intp]) -> Floats:
    """Yes/no scores; each cluster has its own chance to lose and to gain (intracluster correlation 0.2)."""
    groups = int(cluster.max()) + 1
    losing, gaining = random.beta(0.3, 3.7, groups)[cluster], random.beta(0.1, 3.9, groups)[cluster]
    chance = random.random(len(cluster))
    return np.where(chance < losing, -1.0, np.where(chance > 1.0 - gaining, 1.0, 0.0))


def graded_clustered(random: np.random.Generator, cluster: NDArray[np.intp]) -> Floats:
    """Graded scores; each cluster shifts as a whole (intracluster correlation 0.2)."""
    shift = random.normal(-0.02, 0.05, int(cluster.max()) + 1)[cluster]
    return np.clip(shift + random.normal(0.0, 0.1, len(cluster)), -1.0, 1.0)


def loose_clustered(random: np.random.Generator, cluster: NDArray[np.intp]) -> Floats:
    """Yes/no scores whose clusters mean nothing."""
    return yes_no(0.075, 0.025)(random, len(cluster))


CLUSTERED = (
    ("yes/no", yes_no_clustered, True, -0.05),
    ("yes/no, clusters mean nothing", loose_clustered, True, -0.05),
    ("graded", graded_clustered, False, -0.02),
)


@dataclass(frozen=True, slots=True)
class Coverage:
    """Share of intervals of level 0.95 that held the truth: ours, and Student's t over the same items as reference."""

    name: str
    size: str
    ours: float
    student: float


def ends(sample: Sample) -> tuple[float, float]:
    """Our interval of level 0.95, wider by what rounding may take: yes/no scores can end on the truth itself."""
    found = infer(sample, 0.95)
    return found.low - 1e-9, found.high + 1e-9


def holds(sample: Sample, truth: float, *, check: bool) -> bool:
    """Whether our interval of level 0.95 holds the truth: the confidence that the mean lies below it is no extreme one.

    That takes one look instead of the search for both ends; `check` makes the search as well.
    """
    tails = []
    if sample.cluster is not None:
        between = clustered_confidence(sample.differences, sample.mass, sample.cluster)
        tails.append(between.at(truth))
    if sample.cluster is None or rests_on_little(between, len(sample.differences)):
        tails.append(mean_confidence(sample.differences, None, binary=sample.binary).at(truth))
    held = max(tails) >= 0.025 - 1e-9 and min(tails) <= 0.975 + 1e-9
    if check:
        low, high = ends(sample)
        assert held == (low <= truth <= high), (low, truth, high, tails)
    return held


@functools.cache
def of_counts(items: int, worse: int, better: int) -> tuple[float, float]:
    """The same for yes/no scores, of which nothing but these counts matters."""
    return ends(Sample(np.repeat([-1.0, 0.0, 1.0], [worse, items - worse - better, better]), None, None, True))


def coverage(law: Law, items: int, runs: int, seed: int = 0) -> Coverage:
    """Coverage for independent items."""
    random, truth = np.random.default_rng(seed), law.mean
    ours = student = 0
    for run in range(runs):
        differences = law.draw(random, items)
        if law.binary:
            low, high = of_counts(items, int((differences < 0.0).sum()), int((differences > 0.0).sum()))
            ours += low <= truth <= high
        else:
            ours += holds(Sample(differences, None, None, law.binary), truth, check=run < CHECKED)
        student += abs(differences.mean() - truth) <= student_reach(differences)
    return Coverage(law.name, f"{items} items", ours / runs, student / runs)


def by_count(items: int, share: float) -> float:
    """Coverage of the exact interval that knows only how many items collapsed, at most 2.5 % beyond either end.

    A count is a whole number, so that this can be more than 95 %; no interval that keeps both tails does with less.
    """
    from scipy.stats import binom

    counts = binom(items, share)
    return float(sum(counts.pmf(k) for k in range(items + 1) if counts.cdf(k) > 0.025 and counts.sf(k - 1) > 0.025))


def clustered_coverage(index: int, sizes: Callable[..., NDArray[np.intp]], clusters: int, runs: int) -> Coverage:
    """Coverage for items in clusters; the reference takes them for independent."""
    name, draw, binary, truth = CLUSTERED[index]
    random = np.random.default_rng(index)
    ours = student = 0
    for run in range(runs):
        cluster = np.repeat(np.arange(clusters), sizes(random, clusters))
        differences = draw(random, cluster)
        ours += holds(Sample(differences, None, cluster, binary), truth, check=run < CHECKED)
        student += abs(differences.mean() - truth) <= student_reach(differences)
    spread = "equal" if sizes is equal_sizes else "uneven"
    return Coverage(f"{name}, {spread} clusters", f"{clusters} clusters", ours / runs, student / runs)


def student_reach(differences: Floats) -> float:
    """Half the width of Student's t interval of level 0.95."""
    from scipy.special import stdtrit

    n = len(differences)
    return float(stdtrit(n - 1, 0.975)) * float(differences.std(ddof=1)) / math.sqrt(n) + 1e-9


def false_alarms(draw: Draw, runs: int, items: int, alpha: float, margin: float | None = None) -> float:
    """Share of harmless candidates ever called worse when looking after every one of `items` answers."""
    random = np.random.default_rng(1)
    alarms = 0
    for _ in range(runs):
        process = PairedWorse(alpha=alpha, margin=margin)
        for _ in range(0, items, 1000):
            if process.update(draw(random, 1000)).decided:
                alarms += 1
                break
    return alarms / runs


def false_alarms_of_mcnemar(draw: Draw, runs: int, items: int, alpha: float) -> float:
    """The same for the exact McNemar test at level `alpha`, repeated after every 50 answers."""
    random = np.random.default_rng(1)
    alarms = 0
    for _ in range(runs):
        differences = draw(random, items)
        worse, better = np.cumsum(differences < 0.0)[49::50], np.cumsum(differences > 0.0)[49::50]
        pairs = zip(worse.tolist(), better.tolist(), strict=True)
        alarms += any(w > b and mcnemar(w, b) <= 2.0 * alpha for w, b in pairs)
    return alarms / runs


def stopping_items(draw: Draw, runs: int, alpha: float = 0.001) -> list[int]:
    """After how many items a replay stops with the verdict `worse`."""
    random = np.random.default_rng(2)
    stops = []
    for _ in range(runs):
        stop = EarlyStop(alpha=alpha)
        while stop.update(draw(random, 200)) is Verdict.UNDECIDED:
            pass
        assert stop.verdict is Verdict.WORSE
        stops.append(stop.decided_at or 0)
    return stops


@dataclass(frozen=True, slots=True)
class Replayed:
    """Two versions of one model on the same questions: scores by item, and each item's tag."""

    candidate: dict[str, float]
    baseline: dict[str, float]
    tags: dict[str, dict[str, str]]


def gpt4_on_prime() -> Replayed | None:
    """GPT-4 of June 2023 against March on "Is N prime?", None where the data is absent."""
    if not PRIME.exists():
        return None
    scores: dict[str, dict[str, float]] = {"openaichat/gpt-4-0314": {}, "openaichat/gpt-4-0613": {}}
    tags = {}
    with gzip.open(PRIME, "rt", newline="") as rows:
        for row in csv.DictReader(rows):
            if row["model"] in scores:
                item = f"{row['dataset']} {row['query']}"
                said = re.search(r"\[(yes|no)\]", row["answer"].lower())
                scores[row["model"]][item] = float(said is not None and said[1] == row["ref_answer"].lower())
                tags[item] = {"number": row["dataset"]}
    return Replayed(scores["openaichat/gpt-4-0613"], scores["openaichat/gpt-4-0314"], tags)


def items_to_worse(replayed: Replayed, orders: int) -> list[int]:
    """After how many items, in random orders, the replay may stop with `worse`."""
    differences = np.array([replayed.candidate[item] - replayed.baseline[item] for item in sorted(replayed.candidate)])
    random = np.random.default_rng(3)
    stops = []
    for _ in range(orders):
        stop = EarlyStop()
        assert stop.update(random.permutation(differences)) is Verdict.WORSE
        stops.append(stop.decided_at or 0)
    return stops


def moved_slices(replayed: Replayed) -> list[Slice]:
    """The slices on the list with a false discovery rate of 5 %."""
    return [
        one
        for one in slices(replayed.candidate, replayed.baseline, replayed.tags)
        if one.finding is not Verdict.UNDECIDED
    ]


def seconds_to_compare(items: int) -> float:
    """Time of one comparison of graded scores, the fastest of five."""
    random = np.random.default_rng(4)
    ids = [f"item {i}" for i in range(items)]
    ours, theirs = (dict(zip(ids, random.random(items).tolist(), strict=True)) for _ in range(2))
    times = []
    for _ in range(5):
        started = time.perf_counter()
        compare(ours, theirs, margin=0.02)
        times.append(time.perf_counter() - started)
    return min(times)


def all_coverages(runs: int) -> Iterator[Coverage]:
    """Every law at every size."""
    for law in LAWS:
        for items in (50, 200, 1000):
            yield coverage(law, items, runs)
    for index in range(len(CLUSTERED)):
        for sizes in (equal_sizes, uneven_sizes):
            for clusters in (10, 40, 100):
                yield clustered_coverage(index, sizes, clusters, runs)


def main() -> None:
    """Prints every figure beside its target and its reference."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=500, help="simulated comparisons per figure")
    parser.add_argument("--only", choices=("coverage", "decisions"))
    chosen = parser.parse_args()
    if chosen.only != "decisions":
        coverage_part(chosen.runs)
    if chosen.only != "coverage":
        decisions_part(chosen.runs)


def coverage_part(runs: int) -> None:
    """Prints how often intervals hold the truth."""
    print(f"Coverage of 95 % intervals, {runs} comparisons each")
    print("(target: 94 to 96 % from 200 items or 40 clusters on, at least 94 % below)")
    for found in all_coverages(runs):
        print(
            f"  {found.name:45} {found.size:13} {found.ours:6.1%}   Student's t by item {found.student:6.1%}",
            flush=True,
        )
    least = ", ".join(f"{by_count(items, COLLAPSING):.1%} of {items}" for items in (200, 1000))
    print(f"  (rare collapse: an exact interval with 2.5 % at most beyond either end holds in {least} items)")


def decisions_part(runs: int) -> None:
    """Prints false alarms, items to a decision, real answers and time."""
    print("\nFalse `worse` under equality, looking after every answer up to 5000, alpha 5 %")
    looks = max(runs // 5, 200)
    for law in (LAWS[1], Law("graded, equal", lambda random, n: even(random, n) + 0.02)):
        ours = false_alarms(law.draw, looks, 5000, 0.05)
        print(f"  {law.name:45} {ours:6.1%}   (target <= 5 %)")
    at_margin = false_alarms(yes_no(0.06, 0.04), looks, 5000, 0.05, margin=0.02)
    print(f"  {'yes/no, worse by exactly the margin':45} {at_margin:6.1%}   (target <= 5 %)")
    print(f"  exact McNemar repeated every 50 answers: {false_alarms_of_mcnemar(LAWS[1].draw, looks, 5000, 0.05):.1%}")

    plan = items_needed(0.05, discordance=0.10)
    stops = stopping_items(LAWS[0].draw, max(runs, 500))
    late, middle = np.quantile(stops, [0.9, 0.5])
    print("\nItems to find a drop of 5 points at 10 % discordance, alpha 0.001, power 0.9")
    print(f"  fixed sample, exact McNemar: {plan.fixed} (target <= 800)")
    print(
        f"  sequential: 90 % within {late:.0f} (target <= 1050), median {middle:.0f}, {middle / plan.fixed:.2f} of it"
    )
    large = statistics.median(stopping_items(yes_no(0.175, 0.025), max(runs, 500)))
    saved = 1.0 - large / plan.fixed
    print(f"  drop of 15 points: stops after {large:.0f} of {plan.fixed}, saves {saved:.0%} (target >= 60 %)")

    replayed = gpt4_on_prime()
    print("\nGPT-4, March to June 2023, 1000 PRIME items")
    if replayed is None:
        print(f"  skipped: {PRIME.name} is not in ../shared/data/llmdrift")
    else:
        whole = compare(replayed.candidate, replayed.baseline, margin=None)
        stop = statistics.median(items_to_worse(replayed, 500))
        print(f"  all items: {whole.estimate:+.1%} [{whole.low:+.1%}, {whole.high:+.1%}] {whole.verdict}")
        print(f"  `worse` after {stop:.0f} items, median of 500 orders (target <= 90)")
        for one in moved_slices(replayed):
            print(f"  slice {one.name}: {one.finding} {one.comparison.estimate:+.1%}")

    small, large = seconds_to_compare(1000), seconds_to_compare(100_000)
    print(f"\nTime: 1000 items {small * 1000:.0f} ms (target < 500), 100 000 items {large:.2f} s")


if __name__ == "__main__":
    main()
