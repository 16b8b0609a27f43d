"""Seconds to open, answers and weighed references per second of variants of SmolLM2, each against its float32 parent.

    python benchmarks/variants_speed.py --cache .driftline/variants [--threads 1 2] [--items 20]

Answers: `items` short questions, 16 greedy tokens, batches of 8. Each variant runs in a process of its own. The
float32 model is a dequantized Q4_1 file. Load average and processor time are printed beside every wall time.
"""

import argparse
import json
import math
import os
import subprocess
import sys
import time
from pathlib import Path

from driftline.protocols import LogProbs, Sampling
from variants.build import build
from variants.methods.calibration import TEXTS
from variants.open import open_variant
from variants.recipe import Spec, spec

QUESTIONS = [
    ("What is the capital of France?", "Paris"),
    ("Who wrote Hamlet?", "William Shakespeare"),
    ("How many legs does a spider have?", "Eight"),
    ("What is the chemical symbol of gold?", "Au"),
    ("Which planet is the largest?", "Jupiter"),
    ("At what temperature does water boil?", "100 degrees Celsius"),
    ("What is the opposite of hot?", "Cold"),
    ("In which continent is Egypt?", "Africa"),
    ("What do bees make?", "Honey"),
    ("How many days are in a week?", "Seven"),
    ("What is the largest ocean?", "The Pacific Ocean"),
    ("Who painted the Mona Lisa?", "Leonardo da Vinci"),
    ("What is the capital of Japan?", "Tokyo"),
    ("How many sides has a triangle?", "Three"),
    ("What gas do plants take in?", "Carbon dioxide"),
    ("What is frozen water called?", "Ice"),
    ("Which animal barks?", "A dog"),
    ("What is 7 plus 5?", "12"),
    ("What colour is a ripe banana?", "Yellow"),
    ("Which language is spoken in Brazil?", "Portuguese"),
]
VARIANTS = {
    "fp32": spec("transformers", "smollm2"),
    "bf16": spec("transformers", "smollm2", "bf16"),
    "int8_weight_only": spec("transformers", "smollm2", "bf16", "int8_weight_only"),
    "int8_dynamic": spec("transformers", "smollm2", "int8_dynamic"),
    "int8_dynamic repaired": spec("transformers", "smollm2", ("int8_dynamic", {"skip": ["down_proj", "lm_head"]})),
}


def one(made: Spec, cache: Path, threads: int, items: int) -> dict[str, float]:
    """The figures of one variant, in this process."""
    began = time.perf_counter()
    opened = open_variant(made, cache, threads=threads)
    loaded = time.perf_counter() - began
    assert isinstance(opened, LogProbs)
    pairs = [(({"role": "user", "content": q},), a) for q, a in (QUESTIONS * math.ceil(items / 20))[:items]]
    opened.generate([pairs[0][0]], Sampling(max_tokens=2))

    cpu, began = time.process_time(), time.perf_counter()
    answers = opened.generate([prompt for prompt, _ in pairs], Sampling(max_tokens=16))
    answering, answering_cpu = time.perf_counter() - began, time.process_time() - cpu
    began = time.perf_counter()
    weighed = opened.log_probs(pairs)
    weighing = time.perf_counter() - began

    logprobs = [logprob for one in weighed for logprob in one.logprobs]
    ids_and_logprobs = [opened.distributions(text, 512) for text in TEXTS]  # type: ignore[attr-defined]
    text = [-float(own[range(len(ids) - 1), ids[1:]].mean()) for ids, own in ids_and_logprobs]
    return {
        "open_s": loaded,
        "answers_per_s": items / answering,
        "tokens_per_s": sum(answer.output_tokens or 0 for answer in answers) / answering,
        "cpu_ms_per_token": 1000 * answering_cpu / sum(answer.output_tokens or 0 for answer in answers),
        "log_probs_per_s": items / weighing,
        "reference_ppl": math.exp(-sum(logprobs) / len(logprobs)),
        "text_ppl": math.exp(sum(text) / len(text)),
        "right": sum(a.lower() in c.text.lower() for (_, a), c in zip(QUESTIONS, answers, strict=False)),
        "load": os.getloadavg()[0],
    }


def main() -> None:
    """Builds what is missing, then measures every variant at every number of threads."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--cache", type=Path, default=Path(".driftline/variants"))
    arguments.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    arguments.add_argument("--items", type=int, default=20)
    arguments.add_argument("--one", help=argparse.SUPPRESS)
    given = arguments.parse_args()
    if given.one:
        print(json.dumps(one(VARIANTS[given.one], given.cache, given.threads[0], given.items)))
        return
    reference: dict[int, float] = {}
    for name, made in VARIANTS.items():
        built = build(made, given.cache, print)
        for threads in given.threads:
            command = [
                sys.executable,
                __file__,
                "--one",
                name,
                "--cache",
                str(given.cache),
                "--items",
                str(given.items),
            ]
            done = subprocess.run(
                [*command, "--threads", str(threads)], capture_output=True, text=True, check=True, env=os.environ
            )
            found = json.loads(done.stdout.splitlines()[-1])
            ratio = found["answers_per_s"] / reference.setdefault(threads, found["answers_per_s"])
            figures = "  ".join(f"{key} {value:.3g}" for key, value in found.items())
            print(f"{name:22} {threads} threads  {built.bytes_stored / 1e6:4.0f} MB  x{ratio:.2f} answers/s  {figures}")


if __name__ == "__main__":
    main()
