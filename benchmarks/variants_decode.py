"""How fast variants decode against float32 transformers, and how many of its first choices they keep.

    python benchmarks/variants_decode.py --cache .driftline/variants [--threads 1] [--tokens 48] [--only gguf_q8_0 …]

Speed: batch 1, greedy, the two models taking turns at every question in one process, so that a busy machine slows both;
the ratio is the median over questions of (float32 time per token / variant's time per token). Agreement: over thousands
of teacher-forced positions, the share where the likeliest next token is float32's, with a 95 % interval from resampling
whole texts (positions of a text hang together): documentation of the Python standard library, and the demo's prompts
with float32's own answers. The float32 model is a dequantized Q4_1 file, so `gguf_source` has the very same
weights: only the arithmetic differs.
"""

import argparse
import importlib
import math
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

from driftline.errors import MissingPackage
from driftline.protocols import Generate, Sampling
from variants.build import build
from variants.families import made
from variants.measure import innermost
from variants.open import open_variant
from variants.recipe import Recipe, Spec, spec

if TYPE_CHECKING:
    import numpy as np

    Rows = np.ndarray[Any, np.dtype[np.float64]]

BASE = spec("transformers", "smollm2")


def exported(method: str, **config: Any) -> Spec:
    return made(BASE.runner, BASE.runner_config, (*BASE.chain, Recipe(method, config)))


VARIANTS: dict[str, Spec] = {
    "bf16_packed": BASE.then("bf16").then("packed"),
    "int4_weight_only": BASE.then("int4_weight_only"),
    "gguf_f16": exported("gguf", quant="f16"),
    "gguf_bf16": exported("gguf", quant="bf16"),
    "gguf_q8_0": exported("gguf"),
    "gguf_q8_0_wide": exported("gguf", embedding="f16"),
    "gguf_source": exported("gguf", quant="q4_1", embedding="q8_0"),
    "gguf_source_wide": exported("gguf", quant="q4_1", embedding="f16"),
    "onnx_int8": exported("onnx", precision="int8"),
    "onnx_int4": exported("onnx"),
}
MODULES = (
    "argparse", "asyncio.queues", "bisect", "calendar", "cmd", "codecs", "collections", "configparser", "contextlib",
    "copy", "csv", "datetime", "decimal", "difflib", "dis", "doctest", "email.message", "enum", "fractions", "ftplib",
    "functools", "getopt", "gettext", "hashlib", "heapq", "hmac", "http.cookiejar", "imaplib", "inspect", "ipaddress",
    "locale", "logging", "mailbox", "mimetypes", "optparse", "os", "pathlib", "pickle", "platform", "pprint", "profile",
    "queue", "random", "re", "sched", "shelve", "shlex", "smtplib", "socket", "socketserver", "sqlite3", "statistics",
    "string", "struct", "subprocess", "tarfile", "tempfile", "textwrap", "threading", "timeit", "tokenize", "traceback",
    "unittest", "urllib.parse", "uuid", "warnings", "weakref", "zipfile",
)  # fmt: skip
TOKENS_PER_TEXT = 256


def texts(most: int) -> list[str]:
    """The longest doc strings of standard library modules and their classes, spaces folded; none twice."""
    found: dict[str, None] = {}
    for name in MODULES:
        module = importlib.import_module(name)
        classes = [one for one in vars(module).values() if isinstance(one, type) and one.__module__ == name]
        for one in (module, *classes):
            text = " ".join(one.__doc__.split())[:1400] if isinstance(one.__doc__, str) else ""
            if len(text) > 300:
                found[text] = None
    return sorted(found, key=lambda text: (-len(text), text))[:most]


def asked(count: int) -> list[Any]:
    """The demo's prompts."""
    from driftline.cli.demo.questions import load

    return [tuple(one.messages) for one in load()[:count]]


def agreement(opened: Mapping[str, Any], reference: Any, read: list[str]) -> dict[str, "Rows"]:
    """Per variant and text (positions, same first choices, summed KL, summed negative log-probability), float64."""
    import numpy as np

    rows: dict[str, list[list[float]]] = {name: [] for name in opened}
    for text in read:
        ids, theirs = reference.distributions(text, TOKENS_PER_TEXT)
        for name, one in opened.items():
            own_ids, own = innermost(one).distributions(text, TOKENS_PER_TEXT)  # type: ignore[attr-defined]
            assert own_ids == ids
            same = float((theirs.argmax(-1) == own.argmax(-1)).sum())
            kl = float((theirs.exp() * (theirs - own)).sum())
            rows[name].append([len(ids) - 1, same, kl, -float(own[range(len(ids) - 1), ids[1:]].sum())])
    return {name: np.array(found) for name, found in rows.items()}


def interval(rows: "Rows", draws: int = 4000) -> tuple[float, float, float]:
    """Share of same first choices and its 95 % percentile interval over resampled texts."""
    import numpy as np

    picked = np.random.default_rng(0).integers(0, len(rows), (draws, len(rows)))
    sums = rows[picked, :2].sum(1)
    low, high = np.quantile(sums[:, 1] / sums[:, 0], [0.025, 0.975])
    return float(rows[:, 1].sum() / rows[:, 0].sum()), float(low), float(high)


def answers(opened: Mapping[str, Any], reference: Generate, prompts: list[Any]) -> dict[str, "Rows"]:
    """Per variant and prompt (answer tokens, those it would choose too): float32's own answers, teacher-forced."""
    import numpy as np

    said = reference.generate(prompts, Sampling(max_tokens=32))
    pairs = [(prompt, one.text) for prompt, one in zip(prompts, said, strict=True) if one.text]
    return {
        name: np.array([[len(weighed.top1), sum(weighed.top1)] for weighed in one.log_probs(pairs) if weighed.top1])
        for name, one in opened.items()
    }


def taking_turns(
    opened: Mapping[str, Generate], reference: Generate, tokens: int, prompts: list[Any]
) -> dict[str, list[tuple[float, float]]]:
    """Per variant and question, milliseconds per token after the first: float32's and its own."""
    sampling = Sampling(max_tokens=tokens)
    for one in (reference, *opened.values()):
        one.generate(prompts[:1], Sampling(max_tokens=4))

    def per_token(one: Generate, prompt: Any) -> float | None:
        answer = one.generate([prompt], sampling)[0]
        drawn, first = answer.output_tokens or 0, answer.ttft_ms or 0.0
        return (answer.latency_ms - first) / (drawn - 1) if drawn > 8 else None

    found: dict[str, list[tuple[float, float]]] = {name: [] for name in opened}
    for prompt in prompts:
        slow = per_token(reference, prompt)
        for name, one in opened.items():
            quick = per_token(one, prompt)
            if slow and quick:
                found[name].append((slow, quick))
    return found


QUESTIONS = (
    "Why is the sky blue?", "Explain how a bicycle stays upright.", "What is photosynthesis?",
    "Describe the life of a bee.", "How is bread made?", "Tell me about the moon.", "What causes rain?",
    "Write a short story about a fox.", "How does a computer store numbers?", "Why do leaves fall in autumn?",
    "What is a prime number?", "Describe the city of Paris.",
)  # fmt: skip


def measured(given: argparse.Namespace) -> dict[str, dict[str, float]]:
    """The figures of every variant whose packages are here, one after the other with float32 in this process."""
    reference = open_variant(BASE, given.cache, threads=given.threads)
    opened: dict[str, Any] = {}
    for name in given.only:
        try:
            opened[name] = open_variant(VARIANTS[name], given.cache, threads=given.threads)
        except MissingPackage as missing:
            print(f"{name}: {missing.message}", file=sys.stderr)
    found: dict[str, dict[str, float]] = {
        name: {"bytes": float(build(VARIANTS[name], given.cache).bytes_stored)} for name in opened
    }
    if given.texts:
        for name, rows in agreement(opened, innermost(reference), texts(given.texts)).items():
            positions = float(rows[:, 0].sum())
            found[name] |= {"positions": positions, "kl": float(rows[:, 2].sum()) / positions}
            found[name] |= {"ppl": math.exp(float(rows[:, 3].sum()) / positions), **named("top1", interval(rows))}
    if given.answers:
        for name, rows in answers(opened, reference, asked(given.answers)).items():
            found[name] |= {"answer_tokens": float(rows[:, 0].sum()), **named("answered", interval(rows))}
    if given.turns:
        prompts = [({"role": "user", "content": text},) for text in QUESTIONS[: given.turns]]
        for name, pairs in taking_turns(opened, reference, given.tokens, prompts).items():
            ratios = sorted(slow / quick for slow, quick in pairs)
            found[name] |= {"ratio": median(ratios), "low": ratios[0], "high": ratios[-1]}
            found[name] |= {"fp32_ms": median(pair[0] for pair in pairs), "ms": median(pair[1] for pair in pairs)}
    return found


def named(what: str, told: tuple[float, float, float]) -> dict[str, float]:
    return {what: told[0], f"{what}_low": told[1], f"{what}_high": told[2]}


def row(name: str, found: dict[str, float]) -> str:
    """One line of the table."""

    def share(key: str) -> str:
        if key not in found:
            return ""
        return f"{found[key]:.3f} [{found[key + '_low']:.3f}, {found[key + '_high']:.3f}]"

    speed = f"{found['ratio']:.2f}× ({found['low']:.2f}–{found['high']:.2f})" if "ratio" in found else ""
    rates = f"{found['fp32_ms']:.1f} → {found['ms']:.1f}" if "ratio" in found else ""
    distance = f"{found['kl']:.4f}" if "kl" in found else ""
    cells = (f"{found['bytes'] / 1e6:.0f}", f"{found.get('ppl', math.nan):.2f}", distance, share("top1"),
             share("answered"), rates, speed)  # fmt: skip
    return f"| {name} | {' | '.join(cells)} |"


COLUMNS = ("MB", "ppl", "KL", "same first choice", "of float32's answers", "ms/token", "decode")


def main() -> None:
    """Prints the table as Markdown."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--cache", type=Path, default=Path(".driftline/variants"))
    arguments.add_argument("--threads", type=int, default=1)
    arguments.add_argument("--tokens", type=int, default=48)
    arguments.add_argument("--texts", type=int, default=24, help="texts to read; 0: agreement is not measured")
    arguments.add_argument("--answers", type=int, default=24, help="prompts whose float32 answers are weighed")
    arguments.add_argument("--turns", type=int, default=12, help="questions for the speed; 0: it is not measured")
    arguments.add_argument("--only", nargs="+", choices=list(VARIANTS), default=list(VARIANTS))
    given = arguments.parse_args()
    found = measured(given)
    print(f"| variant | {' | '.join(COLUMNS)} |\n|{'---|' * (len(COLUMNS) + 1)}")
    for name, figures in found.items():
        print(row(name, figures))
    some = next(iter(found.values()))
    told = {key: int(some[key]) for key in ("positions", "answer_tokens") if key in some}
    print(f"\n{told}, {given.threads} threads, load {os.getloadavg()[0]:.1f}")


if __name__ == "__main__":
    main()
