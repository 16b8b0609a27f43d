"""Every method on SmolLM2-135M: quality kept and speed gained, against the float32 parent in the same run.

    python benchmarks/variants_methods.py --cache .driftline/variants [--threads 1] [--only bf16 wanda]

Each variant is really built and runs in a process of its own. Quality: perplexity, KL and share of same first choices
on documentation of the Python standard library (not what methods calibrate on), and of the parent's answers to 20
questions. Speed: batch 1, a long prompt for prefill, short ones for decode, ratios of medians; cpu is processor time
per token, the figure least hurt by a busy machine. The parent is a dequantized Q4_1 file, so the row "gguf q4_1" is
close to what its weights were born as.
"""

import argparse
import asyncio
import contextlib
import decimal
import difflib
import doctest
import email.message
import json
import random
import subprocess
import sys
from pathlib import Path

from driftline.errors import MissingPackage
from driftline.protocols import Messages
from variants.build import build
from variants.measure import measure
from variants.open import open_variant
from variants.recipe import Recipe, Spec, spec

BASE = spec("transformers", "smollm2")
VARIANTS: dict[str, Spec] = {
    "fp32": BASE,
    "bf16": BASE.then("bf16"),
    "fp16": BASE.then("fp16"),
    "packed fp32": BASE.then("packed"),
    "packed bf16": BASE.then("bf16").then("packed"),
    "int8_weight_only": BASE.then("bf16").then("int8_weight_only"),
    "int8_dynamic": BASE.then("int8_dynamic"),
    "int8_dynamic repaired": BASE.then("int8_dynamic", skip=["down_proj", "lm_head"]),
    "int4_per_row": BASE.then("int4_per_row"),
    "int4_group 64": BASE.then("int4_group"),
    "gptq 64": BASE.then("gptq"),
    "gguf q8_0": Spec("llama_cpp", {}, (*BASE.chain, Recipe("gguf"))),
    "gguf q4_1": Spec("llama_cpp", {}, (*BASE.chain, Recipe("gguf", {"quant": "q4_1"}))),
    "onnx int8": Spec("onnx", {}, (*BASE.chain, Recipe("onnx", {"precision": "int8"}))),
    "onnx int4": Spec("onnx", {}, (*BASE.chain, Recipe("onnx"))),
    "magnitude_prune 20 %": BASE.then("magnitude_prune", share=0.2),
    "magnitude_prune 50 %": BASE.then("magnitude_prune"),
    "wanda 50 %": BASE.then("wanda"),
    "wanda 2:4": BASE.then("wanda", pattern="2:4"),
    "layer_drop 2": BASE.then("layer_drop", count=2),
    "layer_drop 4": BASE.then("layer_drop", count=4),
    "layer_drop 4 below the top": BASE.then("layer_drop", layers=[24, 25, 26, 27]),
    "mlp_width 0.9": BASE.then("mlp_width"),
    "mlp_width 0.75": BASE.then("mlp_width", keep=0.75),
    "low_rank 512": BASE.then("low_rank", rank=512),
    "kmeans_sharing 256": BASE.then("kmeans_sharing"),
    "kmeans_sharing 16": BASE.then("kmeans_sharing", clusters=16),
    "prompt_template": BASE.then("prompt_template", system="Answer in one short sentence."),
}
SOURCES = (
    decimal,
    difflib,
    doctest,
    argparse,
    random.Random,
    contextlib.ExitStack,
    asyncio.Queue,
    email.message.Message,
)
TEXTS = [" ".join((source.__doc__ or "").split())[:1600] for source in SOURCES]
QUESTIONS = (
    "What is the capital of France?", "Who wrote Hamlet?", "What is the largest planet?", "What do bees make?",
    "At what temperature does water boil?", "What is the opposite of hot?", "Name three fruits.",
    "Why is the sky blue?", "What is a prime number?", "How many days are in a week?",
)  # fmt: skip
LONG = (
    "Summarize this text in one sentence.\n\n"
    + " ".join((decimal.Context.__doc__ or "").split())
    + " ".join(TEXTS[2:4])
)
COLUMNS = ("stored MB", "prefill", "decode", "cpu ms/token", "ppl", "KL", "top-1", "answers", "build s")


def ask(text: str) -> Messages:
    return ({"role": "user", "content": text},)


def one(name: str, cache: Path, threads: int) -> dict[str, float]:
    """The figures of one variant, measured in this process."""
    made = VARIANTS[name]
    built = build(made, cache)
    candidate = open_variant(made, cache, threads=threads)
    prefill = measure(candidate, None, [ask(LONG)] * 3, max_tokens=1)
    decode = measure(candidate, None, [ask(question) for question in QUESTIONS[:5]], max_tokens=32)
    near = measure(candidate, open_variant(BASE, cache, threads=threads), [*TEXTS, *map(ask, QUESTIONS)], max_tokens=16)
    quality = ("perplexity", "kl_to_parent", "top1_agreement", "answer_agreement", "bytes_in_memory")
    return {
        "stored": float(built.measured.get("packed_bytes", built.bytes_stored)),
        "packed": float("packed_bytes" in built.measured),
        "build_s": built.seconds - build(BASE, cache).seconds,
        "prefill": prefill["prefill_tokens_per_s"],
        "decode": decode["decode_tokens_per_s"],
        "cpu": decode["cpu_ms_per_token"],
        "load": near["load_average"],
        **{key: near.get(key, float("nan")) for key in quality},
    }


def row(name: str, found: dict[str, float], base: dict[str, float]) -> str:
    """One line of the table; ratios are to the float32 parent, above 1 is better."""
    cells = (
        f"{found['stored'] / 1e6:.0f}{'*' if found['packed'] else ''}",
        f"{found['prefill'] / base['prefill']:.2f}×",
        f"{found['decode'] / base['decode']:.2f}×",
        f"{found['cpu']:.0f}",
        f"{found['perplexity']:.4g}",
        f"{found['kl_to_parent']:.3f}",
        f"{found['top1_agreement']:.3f}",
        f"{found['answer_agreement']:.3f}",
        f"{found['build_s']:.0f}",
    )
    return f"| {name} | {' | '.join(cells)} |"


def main() -> None:
    """Prints the table as Markdown, one row as soon as it is measured."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--cache", type=Path, default=Path(".driftline/variants"))
    arguments.add_argument("--threads", type=int, default=1)
    arguments.add_argument("--only", nargs="+", choices=list(VARIANTS), default=list(VARIANTS))
    arguments.add_argument("--one", help=argparse.SUPPRESS)
    given = arguments.parse_args()
    if given.one:
        try:
            print(json.dumps(one(given.one, given.cache, given.threads)))
        except MissingPackage as missing:
            print(json.dumps({"missing": missing.message}))
        return
    print(f"| variant | {' | '.join(COLUMNS)} |\n|{'---|' * (len(COLUMNS) + 1)}", flush=True)
    base: dict[str, float] = {}
    for name in dict.fromkeys(["fp32", *given.only]):
        command = [
            sys.executable,
            __file__,
            "--one",
            name,
            "--cache",
            str(given.cache),
            "--threads",
            str(given.threads),
        ]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        found = json.loads(done.stdout.splitlines()[-1])
        base = base or found
        print(f"| {name} | {found['missing']} |" if "missing" in found else row(name, found, base), flush=True)


if __name__ == "__main__":
    main()
