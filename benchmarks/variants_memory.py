"""Most memory that building a variant of SmolLM2-135M takes, each in a process of its own that builds this step alone.

    python benchmarks/variants_memory.py --cache .driftline/variants [--only gptq lora …]

Without training: the peak resident size of the build (libraries included; where a step runs a program of its own, both
peaks together) over the bytes of the float32 weights; 3 is the promise. Training: the peak over what was predicted
before it started; 0.8 to 1.2 is the promise. Steps on the way are built first and not counted. The base is read from a
GGUF file.
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from driftline.errors import DriftlineError, MissingPackage
from variants.build import build, keys_of
from variants.families import made
from variants.measure import peak_rss
from variants.recipe import Recipe, Spec, spec

BASE = spec("transformers", "smollm2")
TRAIN = {"data": "<examples>", "steps": 3, "batch_size": 2, "max_tokens": 96}
LONGER = {"data": "<examples>", "steps": 2, "batch_size": 4, "max_tokens": 256}
PLAIN: dict[str, tuple[tuple[str, dict[str, Any]], ...]] = {
    "smollm2 (from GGUF)": (),
    "bf16": (("bf16", {}),),
    "fp16": (("fp16", {}),),
    "int8_weight_only": (("int8_weight_only", {}),),
    "int4_weight_only": (("int4_weight_only", {}),),
    "int8_dynamic": (("int8_dynamic", {}),),
    "int4_group": (("int4_group", {}),),
    "gptq": (("gptq", {}),),
    "gguf q8_0": (("gguf", {}),),
    "onnx int8": (("onnx", {"precision": "int8"}),),
    "onnx int4": (("onnx", {}),),
    "packed": (("packed", {}),),
    "magnitude_prune": (("magnitude_prune", {}),),
    "wanda": (("wanda", {}),),
    "mlp_width": (("mlp_width", {}),),
    "head_drop": (("head_drop", {}),),
    "layer_drop": (("layer_drop", {"count": 4}),),
    "low_rank": (("low_rank", {"rank": 384}),),
    "low_rank_factors": (("low_rank_factors", {"rank": 384}),),
    "kmeans_sharing": (("kmeans_sharing", {}),),
    "huffman": (("kmeans_sharing", {}), ("huffman", {})),
}
TRAINED: dict[str, tuple[tuple[str, dict[str, Any]], ...]] = {
    "lora": (("lora", TRAIN),),
    "lora, longer rows": (("lora", LONGER),),
    "lora_adapter": (("lora_adapter", TRAIN),),
    "finetune": (("finetune", TRAIN),),
    "finetune, longer rows": (("finetune", LONGER),),
    "finetune in bf16": (("finetune", {**TRAIN, "precision": "bf16"}),),
    "recover": (("wanda", {}), ("recover", TRAIN)),
    "distill": (("distill", {**TRAIN, "layers": 15}),),
    "distill, longer rows": (("distill", {**LONGER, "layers": 15}),),
}


def examples(home: Path) -> Path:
    """Questions of the demo that are not in its golden set, with their answers."""
    from driftline.cli.demo.questions import load

    place = home / "examples.jsonl"
    rows = [json.dumps({"messages": one.messages, "answer": one.answer}) for one in load()[200:260]]
    place.write_text("\n".join(rows))
    return place


def chain(name: str, data: Path) -> Spec:
    steps = [
        Recipe(method, {key: str(data) if value == "<examples>" else value for key, value in config.items()})
        for method, config in (PLAIN | TRAINED)[name]
    ]
    return made(BASE.runner, {}, (*BASE.chain, *steps))


def one(name: str, cache: Path, threads: int) -> dict[str, float]:
    """Builds the last step of a chain in a shelf of its own, in this process; the steps before it are found there."""
    import torch

    torch.set_num_threads(threads)
    target = chain(name, cache / "examples.jsonl")
    with tempfile.TemporaryDirectory(dir=cache) as own:
        for key in list(keys_of(target, cache))[:-1]:
            (Path(own) / key).symlink_to((cache / key).absolute())
        built = build(target, Path(own))
    started = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024
    beside = started if getattr(target.chain[-1].step, "own_process", False) else 0
    found = {"peak": float(peak_rss() + beside)}
    return found | {key: built.measured[key] for key in ("predicted_peak_bytes",) if key in built.measured}


def main() -> None:
    """Prints the tables as Markdown, one row as soon as it is measured."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--cache", type=Path, default=Path(".driftline/variants"))
    arguments.add_argument("--threads", type=int, default=1)
    arguments.add_argument("--only", nargs="+", choices=[*PLAIN, *TRAINED], default=[*PLAIN, *TRAINED])
    arguments.add_argument("--one", help=argparse.SUPPRESS)
    given = arguments.parse_args()
    if given.one:
        try:
            print(json.dumps(one(given.one, given.cache, given.threads)))
        except MissingPackage as missing:
            print(json.dumps({"missing": missing.message}))
        return
    given.cache.mkdir(parents=True, exist_ok=True)
    data = examples(given.cache)
    weights = build(BASE, given.cache).bytes_stored
    head = f"| build | most memory, MB | × the {weights / 1e6:.0f} MB of float32 weights | × predicted |"
    print(f"{head}\n|---|---|---|---|", flush=True)
    for name in given.only:
        target = chain(name, data)
        before = Spec(BASE.runner, {}, target.chain[:-1]) if len(target.chain) > 1 else None
        try:
            if before is not None:
                build(before, given.cache)
        except DriftlineError as wrong:
            print(f"| {name} | {wrong.message} |")
            continue
        command = [sys.executable, __file__, "--one", name]
        command += ["--cache", str(given.cache), "--threads", str(given.threads)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise SystemExit(f"{name}: {done.stderr[-2000:]}")
        found = json.loads(done.stdout.splitlines()[-1])
        if "missing" in found:
            print(f"| {name} | {found['missing']} |", flush=True)
            continue
        expected = found.get("predicted_peak_bytes")
        told = f"{found['peak'] / expected:.2f}" if expected else ""
        print(f"| {name} | {found['peak'] / 1e6:.0f} | {found['peak'] / weights:.2f} | {told} |", flush=True)


if __name__ == "__main__":
    main()
