"""Does the gate say what it should of real variants? Run `python -m benchmarks.gate --data DIR` (a quarter of an hour).

In the data folder it declares the demo's variants of SmolLM2-135M, imports real questions as a small and a large
golden set, starts a worker and runs `driftline gate`: the broken variant must give 1, the harmless one 2 on the small
set, with the number of items that would decide. What the real models made of the large set is then written down as
variants of recorded answers, and for every seed `driftline gate` runs twice more, on a small set drawn from it and on
another of the size that the small one asked for. The reference is what the small sets themselves decide. A second run
in the same folder takes the models' scores from its store.
"""

import argparse
import json
import math
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np

from driftline.cli.demo.questions import Question, load
from driftline.cli.demo.smollm import cast

MARGIN = 0.02
SMALL, LARGE = 30, 400
SCORER = "reference_likelihood"
Scores = dict[str, float]  # by the question's text


def driftline(*arguments: str, codes: tuple[int, ...] = (0,)) -> tuple[int, str]:
    """Exit code and output of a command."""
    done = subprocess.run([sys.executable, "-m", "driftline", *arguments], capture_output=True, text=True)
    assert done.returncode in codes, (arguments, done.stdout, done.stderr)
    return done.returncode, done.stdout


def golden(folder: Path, name: str, questions: list[Question]) -> None:
    """Imports questions as a golden set."""
    path = folder / f"{name}.jsonl"
    rows = [{"input": one.messages, "expected": one.answer, "tags": {"kind": one.kind}} for one in questions]
    path.write_text("\n".join(map(json.dumps, rows)))
    driftline("golden", "import", str(path), "--name", name)


def gate(candidate: str, baseline: str, name: str, *more: str) -> tuple[int, dict[str, Any]]:
    """Exit code and verdict of the gate on a golden set; one token is drawn, as the likelihood needs none."""
    code, said = driftline(
        "gate", candidate, "--baseline", baseline, "--golden", name, "--margin", str(MARGIN),
        "--max-tokens", "1", "--json", *more, codes=(0, 1, 2),
    )  # fmt: skip
    told: dict[str, Any] = json.loads(said)
    assert told["evaluator"] == SCORER, told
    return code, told


def scores(name: str) -> Scores:
    """The likelihoods of the large set under a variant, as its newest whole replay stored them; empty without one."""
    from sqlmodel import col, select

    from driftline.store.engine import reading
    from driftline.store.tables import Answer, GoldenItem, Replay, Score, Variant

    with reading() as session:
        of_name = select(Replay).join(Variant, col(Variant.id) == Replay.variant_id).where(
            Variant.name == name, Replay.state == "done", col(Replay.stopped).is_(None), Replay.n_items == LARGE
        )  # fmt: skip
        replay = session.exec(of_name.order_by(col(Replay.id).desc())).first()
        found = (
            select(GoldenItem.messages, Score.value)
            .join(Answer, col(Answer.item_id) == GoldenItem.id)
            .join(Score, col(Score.answer_id) == Answer.id)
            .where(Answer.replay_id == (replay.id if replay else -1), Score.evaluator == SCORER)
        )
        return {messages[-1]["content"]: float(value) for messages, value in session.exec(found) if value is not None}


def real(folder: Path, questions: list[Question]) -> tuple[Scores, Scores]:
    """Prints what the gate says of the real variants; the likelihoods under the harmless one and under the baseline."""
    told = cast()
    for name in (told.base, told.broken, told.harmless):
        steps = [f"{one['method']}:{json.dumps(one['config'])}" for one in told.chain(name)]
        methods = [part for step in steps for part in ("--method", step)]
        driftline("variant", "add", name, *methods, codes=(0, 1))
    golden(folder, "small", questions[:SMALL])
    golden(folder, "large", questions[:LARGE])
    if not (scores(told.harmless) and scores(told.base)):
        code, said = gate(told.harmless, told.base, "large")
        print(f"{told.harmless} against {told.base}, {said['n']} items: exit {code} (target 0), {range_of(said)}")
    code, said = gate(told.broken, told.base, "large", "--early-stop")
    print(f"{told.broken}, stopped after {said['n']} of {LARGE} items: exit {code} (target 1), {range_of(said)}")
    code, said = gate(told.harmless, told.base, "small")
    needed = said["n_to_decide"]
    print(f"{told.harmless} on {said['n']} items: exit {code} (target 2), {needed} would decide, {range_of(said)}")
    return scores(told.harmless), scores(told.base)


def range_of(said: dict[str, Any]) -> str:
    """Verdict and interval in a few words."""
    return f"{said['verdict']} {said['estimate']:+.4f} [{said['low']:+.4f}, {said['high']:+.4f}]"


def record(folder: Path, name: str, found: Scores, questions: list[Question]) -> None:
    """Declares a variant with the likelihoods that a real one was found to give, written as those of one token."""
    path = folder / f"{name}.jsonl"
    rows = [
        {"prompt": one.text, "answer": "", "logprobs": {one.answer: [math.log(max(found[one.text], 1e-300))]}}
        for one in questions
        if one.text in found
    ]
    path.write_text("\n".join(map(json.dumps, rows)))
    config = json.dumps({"path": str(path), "logprobs": "logprobs"})
    driftline("variant", "add", name, "--runner", "recorded", "--config", config)


def seeds(folder: Path, ours: Scores, theirs: Scores, questions: list[Question], n: int) -> None:
    """Prints how often a golden set of the size that a small one asked for lets the harmless variant pass."""
    pool = [one for one in questions if one.text in ours and one.text in theirs]
    record(folder, "recorded-harmless", ours, pool)
    record(folder, "recorded-base", theirs, pool)
    asked, small_passed, passed, worse = [], 0, 0, 0
    for seed in range(n):
        order = [pool[place] for place in np.random.default_rng(seed).permutation(len(pool))]
        golden(folder, f"small-{seed}", order[:SMALL])
        code, said = gate("recorded-harmless", "recorded-base", f"small-{seed}")
        small_passed += code == 0
        needed = said["n_to_decide"]
        if code != 2 or needed is None or needed > len(pool):
            print(f"  seed {seed}: exit {code} on the small set, {needed} would decide")
            continue
        asked.append(needed)
        golden(folder, f"asked-{seed}", order[-needed:])
        code, _ = gate("recorded-harmless", "recorded-base", f"asked-{seed}")
        passed, worse = passed + (code == 0), worse + (code == 1)
    print(f"Of {n} sets of {SMALL} items {len(asked)} give 2 and ask for {min(asked)} to {max(asked)} items")
    print(
        f"  of sets of the size asked for {passed} of {len(asked)} give 0 ({passed / len(asked):.0%}, target >= 90 %), "
        f"{worse} give 1; of the small sets themselves {small_passed} give 0"
    )


def main() -> None:
    """Prints every figure beside its target."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder of the store and the built variants")
    parser.add_argument("--seeds", type=int, default=40)
    chosen = parser.parse_args()
    folder = chosen.data.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    os.environ["DRIFTLINE_DATA_DIR"] = str(folder)
    questions = load()
    worker = subprocess.Popen(
        [sys.executable, "-m", "driftline", "work"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        ours, theirs = real(folder, questions)
        seeds(folder, ours, theirs, questions[:LARGE], chosen.seeds)
    finally:
        worker.terminate()
        worker.wait(60)


if __name__ == "__main__":
    main()
