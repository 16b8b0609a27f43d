"""Does the gate say what it should of real variants? Run `python -m benchmarks.gate --data DIR` (some minutes).

In the data folder it declares the demo's variants of SmolLM2-135M, imports real questions as a small and a larger
golden set, starts a worker and runs `driftline gate`: the broken variant must give 1, the harmless one 2 on the small
set, with the number of items that would decide. Then the scores of the larger set stand for the population: for many
seeds a small set is drawn, and another of the size that it asked for, and the share of those that pass is printed. The
reference is what the small sets themselves decide.
"""

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np

MARGIN = 0.02
SMALL, LARGE = 30, 120
SEEDS = 200


def driftline(*arguments: str, codes: tuple[int, ...] = (0,)) -> tuple[int, str]:
    """Exit code and output of a command."""
    done = subprocess.run([sys.executable, "-m", "driftline", *arguments], capture_output=True, text=True)
    assert done.returncode in codes, (arguments, done.stdout, done.stderr)
    return done.returncode, done.stdout


def declare(folder: Path) -> tuple[str, str, str]:
    """Declares the demo's baseline, its broken variant and its harmless one, and imports the questions; their names."""
    from driftline.cli.demo.questions import load
    from driftline.cli.demo.smollm import cast

    told = cast()
    for name in (told.base, told.broken, told.harmless):
        methods = [part for method in ("smollm2", *told.methods[name]) for part in ("--method", method)]
        driftline("variant", "add", name, *methods, codes=(0, 1))
    questions = load()
    for size in (SMALL, LARGE):
        path = folder / f"questions-{size}.jsonl"
        rows = [{"input": one.messages, "expected": one.answer, "tags": {"kind": one.kind}} for one in questions[:size]]
        path.write_text("\n".join(map(json.dumps, rows)))
        driftline("golden", "import", str(path), "--name", f"qa-{size}")
    return told.base, told.broken, told.harmless


def gate(candidate: str, baseline: str, size: int, *more: str) -> tuple[int, dict[str, Any]]:
    """Exit code and verdict of the gate on one of the golden sets; one token is drawn, as the likelihood needs none."""
    code, said = driftline(
        "gate", candidate, "--baseline", baseline, "--golden", f"qa-{size}", "--margin", str(MARGIN),
        "--max-tokens", "1", "--json", *more, codes=(0, 1, 2),
    )  # fmt: skip
    return code, json.loads(said)


def scores(name: str) -> dict[str, float]:
    """The likelihoods of the larger set under a variant, as its replay stored them."""
    from sqlmodel import col, select

    from driftline.store.engine import reading
    from driftline.store.tables import Answer, Replay, Score, Variant

    with reading() as session:
        of_name = select(Replay).join(Variant, col(Variant.id) == Replay.variant_id).where(Variant.name == name)
        replay = next(row for row in session.exec(of_name.order_by(col(Replay.id).desc())) if row.n_items == LARGE)
        found = (
            select(Answer.item_id, Score.value)
            .join(Score, col(Score.answer_id) == Answer.id)
            .where(Answer.replay_id == replay.id, Score.evaluator == "reference_likelihood")
        )
        return {str(item): float(value) for item, value in session.exec(found) if value is not None}


def drawn(candidate: dict[str, float], baseline: dict[str, float]) -> None:
    """Prints how often a golden set of the size that a small one asked for lets the candidate pass."""
    from evaluators.comparison import Verdict, compare

    keys = sorted(candidate.keys() & baseline.keys())
    random = np.random.default_rng(0)
    passed, small_passed, wrong, sizes = 0, 0, 0, []

    def verdict(n: int) -> tuple[Verdict, int | None]:
        chosen = random.choice(len(keys), size=n)
        ours = {str(place): candidate[keys[key]] for place, key in enumerate(chosen)}
        theirs = {str(place): baseline[keys[key]] for place, key in enumerate(chosen)}
        found = compare(ours, theirs, margin=MARGIN)
        return found.verdict, found.n_to_decide

    undecided = 0
    for _ in range(SEEDS):
        small, needed = verdict(SMALL)
        small_passed += small.passes
        if small is not Verdict.UNDECIDED or needed is None:
            continue
        undecided += 1
        sizes.append(needed)
        decided = verdict(needed)[0]
        passed += decided.passes
        wrong += decided is Verdict.WORSE
    middle = float(np.median(sizes)) if sizes else float("nan")
    print(f"  of {SEEDS} sets of {SMALL} items {undecided} are undecided and ask for {middle:.0f} items (median)")
    print(
        f"  of sets of the size asked for {passed / max(undecided, 1):.1%} pass (target >= 90 %), {wrong} are called "
        f"worse; of the small sets themselves {small_passed / SEEDS:.1%} pass"
    )


def main() -> None:
    """Prints every figure beside its target."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder of the store and the built variants")
    folder = parser.parse_args().data
    folder.mkdir(parents=True, exist_ok=True)
    os.environ["DRIFTLINE_DATA_DIR"] = str(folder)
    base, broken, harmless = declare(folder)
    worker = subprocess.Popen([sys.executable, "-m", "driftline", "work"], stderr=subprocess.DEVNULL)
    try:
        gate(harmless, base, LARGE)  # and so the baseline's replay, which the others are compared with
        code, said = gate(broken, base, LARGE, "--early-stop")
        print(f"{broken} against {base}, {said['n']} items: exit {code} (target 1), {said['verdict']}, ")
        print(f"  {said['estimate']:+.4f} [{said['low']:+.4f}, {said['high']:+.4f}]")
        code, said = gate(harmless, base, SMALL)
        print(f"{harmless} on {said['n']} items: exit {code} (target 2), {said['n_to_decide']} items would decide")
    finally:
        worker.terminate()
        worker.wait(60)
    drawn(scores(harmless), scores(base))


if __name__ == "__main__":
    main()
