"""Drift detection on recorded series: cloud latency, production requests, GPT-4 of March and June 2023."""

import gzip
import math
import random
import statistics
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks import detection_others
from benchmarks.detection_row import Row
from evaluators.comparison import PairedWorse
from evaluators.drift.budget import allow
from evaluators.drift.cause import Evidence, who_moved
from evaluators.drift.effect import slowdown
from evaluators.drift.exceedance import Exceedance
from evaluators.drift.mmd import PairedTexts
from evaluators.drift.prompts import prompts_moved
from evaluators.drift.quantiles import freeze_quantiles
from evaluators.drift.shares import Shares, bins, freeze_shares
from evaluators.drift.slices import slices_moved

DATA = Path(__file__).resolve().parents[2] / "shared" / "data"
SAMPLES = 2880  # of one cloud series in a year, one each three hours
REFERENCE = 200

Floats = NDArray[np.float64]


def absent(name: str) -> Iterator[Row]:
    """The row in place of figures whose data are not there."""
    yield Row(f"{name}", f"skipped: {DATA / name} is not there".replace(str(DATA), "../shared/data"))


@cache
def cloud_series() -> list[Floats]:
    """Latency of one database benchmark over 483 days, one series per machine and load."""
    import pandas as pd

    found = []
    for path in sorted((DATA / "vm-noise").glob("*.csv.gz")):
        table = pd.read_csv(path)
        table["at"] = pd.to_datetime(table["starttime"], format="mixed")
        found += [rows["value"].to_numpy() for _, rows in table.sort_values("at").groupby("VM_id")]
    return found


def latency_rows(quick: bool) -> Iterator[Row]:
    """Real null latency with and without an injected slow-down, by margin; then a daily KS test on the same."""
    if not (DATA / "vm-noise").is_dir():
        yield from absent("vm-noise")
        return
    asked = {(8, 0.10): 0.25, (8, 0.20): 0.05}
    for size, name in ((1, "each sample a block"), (8, "a day a block")):
        series = cloud_series()[:: 6 if quick and size == 1 else 1]
        for margin in (0.0, 0.10, 0.20):
            alarms, unreal, years = 0, 0, 0.0
            for x in series:
                a, u, n = null_alarms(x, margin, size)
                alarms, unreal, years = alarms + a, unreal + u, years + n / SAMPLES
            most = asked.get((size, margin))
            yield Row(
                f"real latency, {name}, margin {margin:.0%}: alarms a series-year (not slower by that: {unreal})",
                f"{alarms / years:.2f} ({alarms} in {years:.1f} years)",
                "" if most is None else f"≤ {most}",
                None if most is None else alarms / years <= most,
            )
        found = [injected_delay(x, start, size) for x in series for start in (200, 1000, 2000)]
        middle = statistics.median(found)
        yield Row(
            f"injected +30 % latency, {name}, margin 10 %: found, median delay",
            f"{np.mean(np.isfinite(found)):.0%}, {middle:g} blocks",
            "100 %, ≤ 10 blocks",
            bool(np.isfinite(found).all() and middle <= 10),
        )
    yield Row(
        "  beside it: Evidently's default (KS, p < 0.05) on windows of a week",
        f"{ks_rejections(cloud_series()):.0%} of windows",
    )
    yield from detection_others.latencies(quick, cloud_series(), REFERENCE, SAMPLES)


def null_alarms(x: Floats, margin: float, size: int) -> tuple[int, int, int]:
    """(alarms, alarms whose stretch was not slower than the margin, samples judged); a new reference after each."""
    share = allow(SAMPLES / size, 0.01)
    alarms = unreal = judged = 0
    i = REFERENCE
    reference = x[:REFERENCE]
    watch = watching(reference, margin, share.confidence, share.log_threshold)
    while i + size <= len(x):
        reading = watch.update(x[i : i + size].tolist())
        i, judged = i + size, judged + size
        if reading.alarmed:
            alarms += 1
            stretch = x[max(i - reading.since_blocks * size, 0) : i]
            unreal += bool(np.median(stretch) <= (1 + margin) * np.median(reference))
            reference = x[i : i + REFERENCE]
            i += REFERENCE
            if i + size > len(x):
                break
            watch = watching(reference, margin, share.confidence, share.log_threshold)
    return alarms, unreal, judged


def injected_delay(x: Floats, start: int, size: int) -> float:
    """Blocks until +30 % from `start` on is found; infinite where it is not within 600 samples."""
    share = allow(SAMPLES / size, 0.01)
    watch = watching(x[start - REFERENCE : start], 0.10, share.confidence, share.log_threshold)
    slow = 1.3 * x[start : start + 600]
    for block in range(len(slow) // size):
        if watch.update(slow[block * size : (block + 1) * size].tolist()).alarmed:
            return block + 1
    return math.inf


def watching(reference: Floats, margin: float, confidence: float, threshold: float) -> Exceedance:
    """A detector over the lines of a stretch of latencies."""
    return Exceedance(
        reference=freeze_quantiles(reference.tolist(), margin=margin, confidence=confidence), log_threshold=threshold
    )


def ks_rejections(series: list[Floats]) -> float:
    """Share of weekly windows (56 samples) that a KS test against the reference rejects at 5 %."""
    from scipy import stats

    rejected = [
        stats.ks_2samp(x[:REFERENCE], x[i : i + 56]).pvalue < 0.05
        for x in series
        for i in range(REFERENCE, len(x) - 56, 56)
    ]
    return float(np.mean(rejected))


def traffic_rows(quick: bool) -> Iterator[Row]:
    """Chat requests with code requests mixed in, seen from prompt and answer lengths alone."""
    if not (DATA / "azure-llm").is_dir():
        yield from absent("azure-llm")
        return
    kinds = {}
    for kind in ("conv", "code"):
        with gzip.open(DATA / "azure-llm" / f"AzureLLMInferenceTrace_{kind}.csv.gz", "rt") as lines:
            next(lines)
            kinds[kind] = [tuple(map(float, line.split(",")[1:])) for line in lines]
    runs = 4 if quick else 40
    for mixed, most in ((0.2, 200), (0.5, 50)):
        delays = [mixture_delay(kinds, mixed, seed) for seed in range(runs)]
        middle = statistics.median(delays)
        yield Row(
            f"chat requests with {mixed:.0%} code mixed in, A for 35 040 requests: median delay",
            f"{middle:g} requests",
            f"≤ {most}",
            middle <= most,
        )
    false = sum(math.isfinite(mixture_delay(kinds, 0.0, 100 + seed, most=5000)) for seed in range(runs))
    yield Row(f"chat requests alone, {runs} × 5000 in random order: false alarms", f"{false}", "0", false == 0)
    yield from detection_others.mixtures(quick, kinds)


def mixture_delay(kinds: dict[str, list[Any]], mixed: float, seed: int, most: int = 3000) -> float:
    """Requests until the alarm, after 500 calm ones; each request is a block."""
    rng = random.Random(seed)
    chat = rng.sample(kinds["conv"], len(kinds["conv"]))
    reference, rest = chat[:5000], chat[5000:]
    reads, writes = (bins([row[k] for row in reference], name) for k, name in ((0, "prompt"), (1, "answer")))

    def labels(row: Any) -> list[str]:
        return [reads.label(row[0]), writes.label(row[1])]

    share = allow(35_040, 0.01)
    frozen = freeze_shares([labels(row) for row in reference], confidence=share.confidence)
    watch = Shares(reference=frozen, log_threshold=share.log_threshold)
    if mixed:
        for row in rest[:500]:
            watch.update([labels(row)])
    for n in range(1, most + 1):
        row = rng.choice(kinds["code"]) if rng.random() < mixed else rest[(500 + n) % len(rest)]
        if watch.update([labels(row)]).alarmed:
            return n
    return math.inf


def answer_rows(quick: bool) -> Iterator[Row]:
    """GPT-4 and GPT-3.5 between their versions of March and June 2023."""
    path = DATA / "llmdrift" / "PRIME_FULL_EVAL.csv.gz"
    if not path.is_file():
        yield from absent("llmdrift")
        return
    import pandas as pd

    table = pd.read_csv(path)
    table["name"] = table["model"].str.removeprefix("openaichat/")
    found = table["answer"].str.extract(r"\[(Yes|No)\]", expand=False).str.lower()
    table["right"] = (found == table["ref_answer"].str.lower()).astype(float)
    march, june = (table[table["name"] == f"gpt-4-{m}"].set_index("query") for m in ("0314", "0613"))
    june = june.loc[march.index]
    yield from prime_rows(march, june, runs=50 if quick else 400)
    yield from text_rows(pd, table, runs=5 if quick else 60)


def prime_rows(march: Any, june: Any, runs: int) -> Iterator[Row]:
    """Items to a verdict, the slices that moved, and to what the change of latency belongs."""
    apart = (june["right"] - march["right"]).to_numpy()
    rng, took = np.random.default_rng(60), []
    for _ in range(runs):
        process = PairedWorse(alpha=0.001)
        order = rng.permutation(len(apart))
        took.append(next((n for n, i in enumerate(order, 1) if process.update([apart[i]]).decided), math.inf))
    middle = statistics.median(took)
    yield Row(
        "GPT-4 March → June on PRIME, paired items to `worse` (α 0.001), median",
        f"{middle:g} items",
        "≤ 90",
        middle <= 90,
    )
    sides = [
        [
            (f"{name}{i}", {"number": kind}, right)
            for i, (kind, right) in enumerate(zip(t["dataset"], t["right"], strict=True))
        ]
        for name, t in (("march", march), ("june", june))
    ]
    named = {(change.name, change.direction) for change in slices_moved(*sides)}
    wanted = {("number=prime", "fall"), ("number=composite", "rise")}
    yield Row(
        "  slices named on the half that did not choose them",
        ", ".join(map(" ".join, sorted(named))),
        "prime, composite",
        named == wanted,
    )
    lines = freeze_quantiles(1000 * march["latency"], output_tokens=march["answer_token"], confidence=0.995)
    beyond = slowdown(lines, 1000 * june["latency"], None, june["answer_token"])
    cause = who_moved(
        Evidence(
            "latency",
            prompts_moved=prompts_moved([len(q) for q in march.index], [len(q) for q in june.index]).moved,
            output_tokens_moved=prompts_moved(march["answer_token"].tolist(), june["answer_token"].tolist()).moved,
            latency_moved_beyond_lengths=beyond.low > 1 + lines.margin,
        )
    )
    was, now = (float(t["latency"].median()) for t in (march, june))
    yield Row(
        f"  median latency {was:.1f} → {now:.1f} s, {beyond.ratio:.2f} × after lengths, belongs to",
        cause.name,
        "verbosity",
        cause.name == "verbosity",
    )


def text_rows(pd: Any, prime: Any, runs: int) -> Iterator[Row]:
    """Paired answers of two versions: pairs until the text alone tells them apart; and the same pairs shuffled."""
    easy = pd.read_csv(DATA / "llmdrift" / "LEETCODE_EASY_EVAL.csv.gz")
    easy["name"] = easy["model"].str.removeprefix("openaichat/")
    rng, middles, false, nulls = random.Random(61), [], 0, 0
    for tasks, table in (("PRIME", prime), ("LEETCODE", easy)):
        for old, new in (("gpt-4-0314", "gpt-4-0613"), ("gpt-3.5-turbo-0301", "gpt-3.5-turbo-0613")):
            one, two = (
                table[table["name"] == n].drop_duplicates("query").set_index("query")["answer"] for n in (old, new)
            )
            pairs = [(str(one[q]), str(two[q])) for q in one.index.intersection(two.index)]
            took = [pairs_needed(rng.sample(pairs, min(len(pairs), 200)), math.log(1e3)) for _ in range(runs)]
            middles.append(statistics.median(took))
            yield Row(
                f"  {old} → {new.rpartition('-')[2]} on {tasks}, from text alone, A = 1000: median",
                f"{middles[-1]:g} pairs",
            )
            for _ in range(runs):
                mixed = [rng.choice((pair, pair[::-1])) for pair in rng.sample(pairs, min(len(pairs), 200))]
                false += math.isfinite(pairs_needed(mixed, math.log(200 / 0.01)))
                nulls += 1
    middle = statistics.median(middles)
    yield Row(
        "a version change seen from paired answers, median over four real changes",
        f"{middle:g} pairs",
        "≤ 60",
        middle <= 60,
    )
    yield Row(
        f"  the same pairs in random order of before and after ({nulls} runs of ≤ 200): alarms at 1 %",
        f"{false}",
        "≤ 1 % (+3σ)",
        false <= 0.01 * nulls + 3 * math.sqrt(0.01 * nulls),
    )


def pairs_needed(pairs: list[tuple[str, str]], threshold: float) -> float:
    """Pairs until the alarm; infinite where they do not suffice."""
    watch = PairedTexts(log_threshold=threshold)
    return next((float(n) for n, pair in enumerate(pairs, 1) if watch.update([pair]).alarmed), math.inf)
