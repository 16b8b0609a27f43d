"""How fast a local replay of 200 golden items is: batched, against one-by-one `generate` and lm-evaluation-harness.

    python benchmarks/variants_replay.py --cache .driftline/variants [--items 200] [--every 3] [--harness PYTHON]

The same model (SmolLM2-135M, bf16), items (the demo's golden set) and token limit (16, greedy) in all three. Batched is
Driftline's runner with batches of 16, as a replay calls it. One-by-one is transformers' `generate` with batch 1, asked
every third item (`--every`): it is slow, and its rate is steady. `--harness` names a Python with lm-eval 0.4, whose HF
model class answers the same requests in its own batches of 16 (`generate_until`). Each runs in a process of its own,
one after the other; times are of answering alone, after loading and a first call. Load average and processor time
stand beside the wall time.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from variants.build import build
from variants.recipe import spec

MADE = spec("transformers", "smollm2", "bf16", batch_size=16)
TOKENS = 16
HARNESS = """
import json, sys, time, torch
torch.set_num_threads(int(sys.argv[3]))
from lm_eval.models.huggingface import HFLM
from lm_eval.api.instance import Instance
texts = json.load(open(sys.argv[2]))
lm = HFLM(pretrained=sys.argv[1], dtype="bfloat16", device="cpu", batch_size=16)
how = {"until": ["<|im_end|>"], "max_gen_toks": int(sys.argv[4]), "do_sample": False}
def ask(some):
    wanted = [Instance("generate_until", {}, (text, how), n) for n, text in enumerate(some)]
    return lm.generate_until(wanted, disable_tqdm=True)
ask(texts[:1])
cpu, began = time.process_time(), time.perf_counter()
ask(texts)
seconds = time.perf_counter() - began
print(json.dumps({"seconds": seconds, "cpu": time.process_time() - cpu, "items": len(texts)}))
"""


def prompts(items: int) -> list[Any]:
    """The demo's golden prompts."""
    from driftline.cli.demo.questions import load

    return [tuple(one.messages) for one in load()[:items]]


def batched(cache: Path, items: int, threads: int) -> None:
    """Driftline's runner, as a replay uses it."""
    from driftline.protocols import Sampling
    from variants.open import open_variant

    opened, asked = open_variant(MADE, cache, threads=threads), prompts(items)
    opened.generate(asked[:1], Sampling(max_tokens=2))
    _timed(lambda: opened.generate(asked, Sampling(max_tokens=TOKENS)), items)


def one_by_one(directory: str, items: int, threads: int, every: int) -> None:
    """transformers' `generate`, a prompt at a time."""
    import torch

    from variants.loading import load_model, load_tokenizer

    torch.set_num_threads(threads)
    model, tokenizer = load_model(Path(directory)), load_tokenizer(Path(directory))
    asked: list[Any] = [
        tokenizer.apply_chat_template(list(one), add_generation_prompt=True, return_tensors="pt", return_dict=True)
        for one in prompts(items)[::every]
    ]

    def answer() -> None:
        for one in asked:
            model.generate(**one, max_new_tokens=TOKENS, do_sample=False)  # type: ignore[operator]

    model.generate(**asked[0], max_new_tokens=2, do_sample=False)  # type: ignore[operator]
    _timed(answer, len(asked))


def _timed(work: Any, items: int) -> None:
    cpu, began = time.process_time(), time.perf_counter()
    work()
    seconds = time.perf_counter() - began
    print(json.dumps({"seconds": seconds, "cpu": time.process_time() - cpu, "items": items}))


def main() -> None:
    """Builds what is missing, then times the three, each in its own process."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--cache", type=Path, default=Path(".driftline/variants"))
    arguments.add_argument("--items", type=int, default=200)
    arguments.add_argument("--every", type=int, default=3, help="one by one: every so manieth item")
    arguments.add_argument("--threads", type=int, default=2)
    arguments.add_argument("--harness", help="a Python in which lm-eval is installed")
    arguments.add_argument("--one", choices=["batched", "one_by_one"], help=argparse.SUPPRESS)
    given = arguments.parse_args()
    built = build(MADE, given.cache)
    if given.one == "batched":
        batched(given.cache, given.items, given.threads)
        return
    if given.one == "one_by_one":
        one_by_one(str(built.directory), given.items, given.threads, given.every)
        return
    same = ["--cache", str(given.cache), "--items", str(given.items), "--threads", str(given.threads)]
    same += ["--every", str(given.every)]
    found = {name: _run([sys.executable, __file__, "--one", name, *same]) for name in ("batched", "one_by_one")}
    if given.harness:
        from variants.loading import load_tokenizer

        assert built.directory is not None
        tokenizer = load_tokenizer(built.directory)
        texts = [
            tokenizer.apply_chat_template(list(one), tokenize=False, add_generation_prompt=True)
            for one in prompts(given.items)
        ]
        place = given.cache / "prompts.json"
        place.write_text(json.dumps(texts))
        command = [given.harness, "-c", HARNESS, str(built.directory), str(place), str(given.threads), str(TOKENS)]
        found["lm-evaluation-harness"] = _run(command)
    for name, one in found.items():
        rate = one["items"] / one["seconds"]
        ratio = found["batched"]["items"] / found["batched"]["seconds"] / rate
        print(
            f"{name:22} {rate:6.2f} items/s  {one['items']} items in {one['seconds']:.1f} s  cpu {one['cpu']:.1f} s  "
            f"batched is {ratio:.2f} times as fast  load {os.getloadavg()[0]:.1f}"
        )


def _run(command: list[str]) -> dict[str, float]:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(done.stderr[-2000:])
    found: dict[str, float] = json.loads(done.stdout.strip().splitlines()[-1])
    print(found, file=sys.stderr, flush=True)
    return found


if __name__ == "__main__":
    main()
