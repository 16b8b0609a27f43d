"""How fast a local replay of 200 golden items is: batched, against one-by-one `generate` and lm-evaluation-harness.

    python -m benchmarks.variants_replay --cache .driftline/variants [--items 200] [--rounds 2] [--harness PYTHON]

The same model (SmolLM2-135M), items (the demo's golden set), token limit (16, greedy) and number of threads in
all three. Batched is Driftline's runner with batches of 16, as a replay calls it. One-by-one is transformers'
`generate` with batch 1, asked every fifth item (`--every`): it is slow, and its rate is steady. `--harness` names a
Python with lm-eval 0.4, whose HF model class answers the same prompts in its own batches of 16 (`generate_until`), in
whatever order it likes. Each is a process that has loaded its model and answered once; then they take turns, round by
round, so that all see the same load. Rates are of all rounds; processor time, which load touches least, stands beside
the wall time, and so does the share of answers equal to the batched ones (in bf16 near ties fall as the batch is).
`--dtype float32` is for processors without bf16 units, where bf16 is computed by detours and tells nothing.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from variants.build import build
from variants.recipe import Spec, spec

MADE = {
    "bfloat16": spec("transformers", "smollm2", "bf16", batch_size=16),
    "float32": spec("transformers", "smollm2", batch_size=16),
}
TOKENS = 16
HARNESS = """
import json, sys, time, torch
torch.set_num_threads(int(sys.argv[3]))
from lm_eval.models.huggingface import HFLM
from lm_eval.api.instance import Instance
texts = json.load(open(sys.argv[2]))
lm = HFLM(pretrained=sys.argv[1], dtype=sys.argv[5], device="cpu", batch_size=16)
how = {"until": ["<|im_end|>"], "max_gen_toks": int(sys.argv[4]), "do_sample": False}
def ask(some):
    wanted = [Instance("generate_until", {}, (text, how), n) for n, text in enumerate(some)]
    return lm.generate_until(wanted, disable_tqdm=True)
ask(texts[:1])
print("ready", flush=True)
for _ in sys.stdin:
    cpu, began = time.process_time(), time.perf_counter()
    said = ask(texts)
    seconds = time.perf_counter() - began
    print(json.dumps({"seconds": seconds, "cpu": time.process_time() - cpu, "said": said}), flush=True)
"""


def prompts(items: int) -> list[Any]:
    """The demo's golden prompts."""
    from driftline.cli.demo.questions import load

    return [tuple(one.messages) for one in load()[:items]]


def batched(made: Spec, cache: Path, items: int, threads: int) -> Callable[[], list[str]]:
    """Driftline's runner, as a replay uses it."""
    from driftline.protocols import Sampling
    from variants.open import open_variant

    opened, asked = open_variant(made, cache, threads=threads), prompts(items)
    opened.generate(asked[:1], Sampling(max_tokens=2))
    return lambda: [answer.text for answer in opened.generate(asked, Sampling(max_tokens=TOKENS))]


def one_by_one(directory: Path, items: Sequence[Any], threads: int) -> Callable[[], list[str]]:
    """transformers' `generate`, a prompt at a time."""
    import torch

    from variants.loading import load_model, load_tokenizer

    torch.set_num_threads(threads)
    model, tokenizer = load_model(directory), load_tokenizer(directory)
    asked: list[Any] = [
        tokenizer.apply_chat_template(list(one), add_generation_prompt=True, return_tensors="pt", return_dict=True)
        for one in items
    ]

    def answer(one: Any, most: int) -> str:
        given: Any = model.generate(**one, max_new_tokens=most, do_sample=False)  # type: ignore[operator]
        return str(tokenizer.decode(given[0, one["input_ids"].shape[1] :], skip_special_tokens=True))

    answer(asked[0], 2)
    return lambda: [answer(one, TOKENS) for one in asked]


def serve(work: Callable[[], list[str]]) -> None:
    """Answers all items once for every line that is read; prints how long it took and what was said."""
    print("ready", flush=True)
    for _ in sys.stdin:
        cpu, began = time.process_time(), time.perf_counter()
        said = work()
        seconds = time.perf_counter() - began
        print(json.dumps({"seconds": seconds, "cpu": time.process_time() - cpu, "said": said}), flush=True)


class Side:
    """One of the three: its process, and what it took so far."""

    def __init__(self, command: list[str]) -> None:
        pipe = subprocess.PIPE
        self.process = subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=subprocess.DEVNULL, text=True)
        self.seconds = self.cpu = 0.0
        self.items, self.said = 0, list[str]()
        if self._line() != "ready":
            raise SystemExit(f"{command[0]} did not load the model.")

    def round(self) -> None:
        """Lets it answer its items once."""
        assert self.process.stdin is not None
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        found = json.loads(self._line())
        self.seconds, self.cpu = self.seconds + found["seconds"], self.cpu + found["cpu"]
        self.items, self.said = self.items + len(found["said"]), found["said"]

    def _line(self) -> str:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if line.startswith(("ready", "{")):
                return line.strip()
        raise SystemExit(f"A side ended early with {self.process.wait()}.")


def main() -> None:
    """Builds what is missing, loads the sides, and lets them take turns."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--cache", type=Path, default=Path(".driftline/variants"))
    arguments.add_argument("--items", type=int, default=200)
    arguments.add_argument("--rounds", type=int, default=2)
    arguments.add_argument("--every", type=int, default=5, help="one by one: every so manieth item")
    arguments.add_argument("--threads", type=int, default=2)
    arguments.add_argument("--dtype", choices=list(MADE), default="bfloat16")
    arguments.add_argument("--harness", help="a Python in which lm-eval is installed")
    arguments.add_argument("--one", choices=["batched", "one_by_one"], help=argparse.SUPPRESS)
    given = arguments.parse_args()
    directory = build(MADE[given.dtype], given.cache).directory
    assert directory is not None
    if given.one == "batched":
        serve(batched(MADE[given.dtype], given.cache, given.items, given.threads))
        return
    if given.one == "one_by_one":
        serve(one_by_one(directory, prompts(given.items)[:: given.every], given.threads))
        return
    same = ["--cache", str(given.cache), "--items", str(given.items), "--threads", str(given.threads)]
    same += ["--every", str(given.every), "--dtype", given.dtype]
    commands = {name: [sys.executable, __file__, "--one", name, *same] for name in ("batched", "one_by_one")}
    if given.harness:
        place = given.cache / "prompts.json"
        place.write_text(json.dumps(templated(directory, given.items)))
        shape = [str(directory), str(place), str(given.threads), str(TOKENS), given.dtype]
        commands["lm-evaluation-harness"] = [given.harness, "-c", HARNESS, *shape]
    sides = {name: Side(command) for name, command in commands.items()}
    for number in range(given.rounds):
        for name in list(sides)[:: 1 if number % 2 == 0 else -1]:
            sides[name].round()
        for name, side in sides.items():
            print(told(name, side, sides["batched"], given.every), flush=True)
    for side in sides.values():
        side.process.terminate()


def templated(directory: Path, items: int) -> list[str]:
    """The prompts as text, as the runner would put them to the model."""
    from variants.loading import load_tokenizer

    template = load_tokenizer(directory).apply_chat_template
    return [str(template(list(one), tokenize=False, add_generation_prompt=True)) for one in prompts(items)]


def told(name: str, side: Side, ours: Side, every: int) -> str:
    """One line of the result so far."""
    rate, cpu = side.items / side.seconds, side.items / side.cpu
    others = ours.said[::every] if name == "one_by_one" else ours.said
    same = sum(one.strip() == other.strip() for one, other in zip(side.said, others, strict=True)) / len(side.said)
    return (
        f"{name:22} {rate:6.2f} items/s  {side.items} items in {side.seconds:.1f} s, processor {side.cpu:.1f} s  "
        f"batched is {ours.items / ours.seconds / rate:.2f} times as fast ({ours.items / ours.cpu / cpu:.2f} by "
        f"processor time)  same answers {same:.2f}  load {os.getloadavg()[0]:.1f}"
    )


if __name__ == "__main__":
    main()
