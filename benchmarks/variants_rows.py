"""Every family of methods on SmolLM2-135M, from the command line to the frontier.

    python benchmarks/variants_rows.py --data DIRECTORY [--items 24] [--only wanda rag …]

Each row is declared with `driftline variant add`, built and replayed on the demo's golden set by a worker, and listed
with what was measured: bytes, perplexity, KL and share of first choices against its parent, decode rate and its ratio
to the parent's, the replay's quality, latency and shares of hits. Training rows train for a few steps only: they show
that the way is whole, not how good a student can become. A second run with the same directory goes on where the first
one stood. The base is a dequantized Q4_1 file, so "gguf_source" is exactly what its weights were born as.

At the end each row is looked for in `driftline variant list --json` and on its page of the dashboard. What it lacks of
a finished build, its lineage, figures of build and replay, and a page is said; the exit code is 1 where it lacks any.
"""

import argparse
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote
from urllib.request import urlopen

from driftline.cli.demo.questions import Question, load

TRAIN = ["--steps", "8", "--batch-size", "2", "--max-tokens", "96"]
ROWS: dict[str, tuple[str, list[str]]] = {
    # name: (parent, what is typed after --from PARENT --method)
    "bf16": ("base", ["bf16"]),
    "fp16": ("base", ["fp16"]),
    "int8_weight_only": ("base", ["quantize", "--bits", "8"]),
    "int8_dynamic": ("base", ["int8_dynamic"]),
    "int4_weight_only": ("base", ["quantize", "--bits", "4"]),
    "int4_group": ("base", ["int4_group"]),
    "gptq": ("base", ["gptq"]),
    "gguf_q8_0": ("base", ["gguf"]),
    "gguf_source": ("base", ["gguf", "--quant", "q4_1", "--embedding", "q8_0"]),
    "gguf_q4_1": ("base", ["gguf", "--quant", "q4_1"]),
    "onnx_int8": ("base", ["onnx", "--precision", "int8"]),
    "onnx_int4": ("base", ["onnx"]),
    "magnitude": ("base", ["magnitude_prune", "--share", "0.2"]),
    "wanda": ("base", ["wanda"]),
    "wanda_2:4": ("base", ["wanda", "--pattern", "2:4"]),
    "recovered": ("wanda", ["recover", "--data", "{examples}", *TRAIN]),
    "heads": ("base", ["head_drop"]),
    "mlp_width": ("base", ["mlp_width"]),
    "layers": ("base", ["layer_drop", "--count", "4"]),
    "distilled": ("base", ["distill", "--layers", "15", "--data", "{examples}", *TRAIN]),
    "lora": ("base", ["lora", "--data", "{examples}", *TRAIN]),
    "lora_adapter": ("base", ["lora_adapter", "--data", "{examples}", *TRAIN]),
    "finetuned": ("base", ["finetune", "--data", "{examples}", *TRAIN]),
    "factors": ("base", ["low_rank_factors", "--rank", "384"]),
    "kmeans": ("base", ["kmeans_sharing", "--clusters", "256"]),
    "kmeans_huffman": ("kmeans", ["huffman"]),
    "few_shot": ("base", ["prompt_template", "--system", "Answer in a few words.", "--shots",
                          '[["What is the capital of Italy?", "Rome"]]']),
    "constrained": ("base", ["output_constraint", "--regex", "[A-Z][A-Za-z0-9 ,.'-]{0,39}"]),
    "rag": ("base", ["rag", "--documents", "{documents}", "--relevance", "{relevance}"]),
    "response_cache": ("base", ["response_cache", "--warm", "{warm}", "--recheck", "0.5"]),
    "semantic_cache": ("base", ["semantic_cache", "--warm", "{warm}"]),
    "prefix_reuse": ("few_shot", ["prefix_reuse", "--prefixes", "4"]),
    "batching": ("base", ["batching", "--size", "16"]),
    "speculative": ("base", ["speculative", "--draft", "@layers"]),
    "early_exit": ("base", ["early_exit", "--layer", "24", "--confidence", "0.9"]),
    "cascade": ("layers", ["cascade", "--large", "@base"]),
    "router": ("layers", ["router", "--large", "@base", "--examples", "{routes}"]),
}  # fmt: skip
SHARES = ("cache_hit_rate", "cache_stale_share", "draft_accepted_share", "exit_early_share", "prefix_found_share",
          "cascade_escalated_share", "router_large_share", "constraint_broken_share")  # fmt: skip
COLUMNS = (
    "variant",
    "MB",
    "ppl",
    "KL",
    "top-1",
    "decode/s",
    "× parent",
    "quality",
    "ms",
    "J/answer",
    "besides",
    "build s",
)


class Driftline:
    """The command line, in a data directory of its own."""

    def __init__(self, data: Path) -> None:
        self.environment = {**os.environ, "DRIFTLINE_DATA_DIR": str(data), "DRIFTLINE_TORCH_THREADS": "1"}

    def __call__(self, *arguments: str) -> Any:
        command = [sys.executable, "-m", "driftline", *arguments, "--json"]
        done = subprocess.run(command, env=self.environment, capture_output=True, text=True, check=False)
        if done.returncode:
            raise SystemExit(f"driftline {' '.join(arguments)}: {done.stderr.strip()}")
        return json.loads(done.stdout)

    def worker(self) -> "subprocess.Popen[bytes]":
        silent = subprocess.DEVNULL
        command = [sys.executable, "-m", "driftline", "work"]
        return subprocess.Popen(command, env=self.environment, stdout=silent, stderr=silent)

    @contextmanager
    def dashboard(self) -> Iterator[str]:
        """A running dashboard's address."""
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        silent = subprocess.DEVNULL
        command = [sys.executable, "-m", "driftline", "show"]
        environment = {**self.environment, "DRIFTLINE_PORT": str(port)}
        process = subprocess.Popen(command, env=environment, stdout=silent, stderr=silent)
        try:
            for _ in range(120):
                if page(f"http://127.0.0.1:{port}/healthz"):
                    break
                time.sleep(1)
            yield f"http://127.0.0.1:{port}"
        finally:
            process.terminate()
            process.wait()


def files(home: Path, golden: list[Question], others: list[Question]) -> dict[str, str]:
    """What rows read: examples and routes from other questions, documents of the golden ones, warm answers."""

    def written(name: str, rows: list[dict[str, Any]]) -> str:
        path = home / name
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        return str(path)

    parts = [one.text.rpartition("\n\n") for one in golden]
    learned = [{"messages": one.messages, "answer": one.answer} for one in others[:60]]
    routes = [{"prompt": one.text, "easy": one.kind != "name"} for one in others[60:120]]
    warm = [{"messages": one.messages, "answer": "From before.", "at": time.time()} for one in golden[::3]]
    return {
        "examples": written("examples.jsonl", learned),
        "documents": written("documents.jsonl", [{"id": str(n), "text": k} for n, (k, _, _) in enumerate(parts)]),
        "relevance": written(
            "relevance.jsonl", [{"question": q, "relevant": [str(n)]} for n, (_, _, q) in enumerate(parts)]
        ),
        "warm": written("warm.jsonl", warm),
        "routes": written("routes.jsonl", routes),
    }


def main() -> None:
    """Declares, builds, replays and lists; prints the table as Markdown, one row as soon as it is measured."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--data", type=Path, required=True, help="a data directory; models in it are used again")
    arguments.add_argument("--items", type=int, default=24)
    arguments.add_argument("--only", nargs="+", choices=list(ROWS), default=list(ROWS))
    given = arguments.parse_args()
    given.data.mkdir(parents=True, exist_ok=True)
    driftline, questions = Driftline(given.data), load()
    golden = given.data / "golden.jsonl"
    rows = [{"input": one.messages, "expected": one.answer} for one in questions[: given.items]]
    golden.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    places = files(given.data, questions[: given.items], questions[200:])
    driftline("golden", "import", str(golden), "--name", "qa")
    worker = driftline.worker()
    try:
        print(f"| {' | '.join(COLUMNS)} |\n|{'---|' * len(COLUMNS)}", flush=True)
        driftline("variant", "add", "base", "--method", "smollm2")
        print(measured(driftline, "base"), flush=True)
        for name in given.only:
            parent, typed = ROWS[name]
            filled = [places.get(word[1:-1], word) if word.startswith("{") else word for word in typed]
            driftline("variant", "add", name, "--from", parent, "--method", *filled)
            print(measured(driftline, name), flush=True)
        short = lacking(driftline, given.only)
        best = [row["variant"] for row in driftline("variant", "frontier") if row["frontier"]]
        print(f"\nOn the frontier: {', '.join(best)}.")
    finally:
        worker.terminate()
        worker.wait()
    print(f"{len(given.only) - len(short)} of {len(given.only)} rows are whole.", *short, sep="\n")
    raise SystemExit(1 if short else 0)


def lacking(driftline: Driftline, names: list[str]) -> list[str]:
    """A line for each variant of `names` that is not whole: what the list or the dashboard does not have of it."""
    listed = {row["name"]: row for row in driftline("variant", "list")}
    found = []
    with driftline.dashboard() as home:
        for name in names:
            row = listed.get(name, {})
            there = {
                "a finished build": row.get("build") == "built",
                "its lineage": row.get("lineage", [])[:1] == ["base"] and row.get("lineage", [])[-1:] == [name],
                "figures of its build": bool(row.get("measured")),
                "figures of its replay": bool(row.get("replayed")),
                "a page": name in page(f"{home}/variants/{quote(name)}"),
            }
            wanting = [what for what, is_there in there.items() if not is_there]
            if wanting:
                found.append(f"{name} lacks {', '.join(wanting)}")
    return found


def page(url: str) -> str:
    """The text of a page; empty where there is none."""
    try:
        with urlopen(url, timeout=60) as answer:
            return str(answer.read().decode())
    except OSError:
        return ""


def measured(driftline: Driftline, name: str) -> str:
    """Builds and replays one variant; its row."""
    try:
        driftline("variant", "build", name)
        driftline("replay", name, "--golden", "qa", "--fresh")
    except SystemExit as failed:
        return f"| {name} | {str(failed).splitlines()[0]} |"
    listed = {row["name"]: row for row in driftline("variant", "list")}
    row, standing = listed[name], {one["variant"]: one for one in driftline("variant", "frontier")}
    figures, replay = row["measured"], row["replayed"]
    parent = listed[row["parent"]]["measured"] if row["parent"] else {}
    size = figures.get("packed_bytes", figures.get("bytes_stored", 0)) / 1e6
    besides = [f"{key} {replay[key]:.2f}" for key in SHARES if key in replay]
    told = ("retrieval_recall", "loss_before", "loss_after", "router_right")
    besides += [f"{key} {figures[key]:.2f}" for key in told if key in figures]
    if "training_peak_rss_bytes" in figures:
        besides.append(f"peak/predicted {figures['training_peak_rss_bytes'] / figures['predicted_peak_bytes']:.2f}")
    decode, before = figures.get("decode_tokens_per_s"), parent.get("decode_tokens_per_s")
    cells = (
        name,
        f"{size:.0f}{'*' if 'packed_bytes' in figures else ''}",
        _shown(figures.get("perplexity"), ".2f"),
        _shown(figures.get("kl_to_parent"), ".3f"),
        _shown(figures.get("top1_agreement"), ".3f"),
        _shown(decode, ".1f"),
        _shown(decode / before if decode and before else None, ".2f"),
        _shown(standing.get(name, {}).get("quality"), ".3f"),
        _shown(replay.get("latency_ms"), ".0f"),
        _shown(replay.get("joules_per_answer"), ".2f"),
        ", ".join(besides),
        _shown(figures.get("build_s"), ".0f"),
    )
    return f"| {' | '.join(cells)} |"


def _shown(value: float | None, form: str) -> str:
    return "" if value is None else format(value, form)


if __name__ == "__main__":
    main()
