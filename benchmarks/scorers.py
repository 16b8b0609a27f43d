"""What scoring costs: all deterministic scorers on ten thousand answers, and sentence embeddings.

Run `python -m benchmarks.scorers`, or one part with `--only rules` or `--only embeddings`. Answers are made from real
ones where the LLMDrift data lies in `../shared/data/llmdrift`, else from a word list. Each figure stands beside a
reference of the same run: for the scorers one pass of str.split over the same texts, for the embeddings the encoder as
one would call it plainly in PyTorch, 32 texts at a time in the order they come, padded to the longest.
"""

import argparse
import csv
import gzip
import json
import random
import time
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

from driftline.acts.replays import BATCH, LARGEST_BATCH
from driftline.protocols import Answered, Score
from evaluators.scorers import SCORERS, scorer

N = 10_000
DATA = Path(__file__).parents[2] / "shared" / "data" / "llmdrift" / "LEETCODE_EASY_EVAL.csv.gz"
ASKING = frozenset(
    {"baseline_likelihood", "baseline_top1", "judge", "judge_pairwise", "multiple_choice", "perplexity",
     "reference_likelihood"}
)  # fmt: skip
CONFIG: dict[str, dict[str, Any]] = {"json_schema": {"schema": {"type": "object"}}, "regex": {"pattern": r"\d+"}}


def sentences() -> list[str]:
    """Real sentences that models wrote, or made-up ones where there are none."""
    if DATA.exists():
        with gzip.open(DATA, "rt", newline="") as rows:
            texts = [row["answer"] for row in csv.DictReader(rows)]
        found = [line.strip() for text in texts for line in text.splitlines() if 20 < len(line.strip()) < 200]
        if len(found) > 200:
            return found
    words = [
        "the",
        "model",
        "answers",
        "that",
        "a",
        "city",
        "lies",
        "near",
        "its",
        "river",
        "and",
        "costs",
        "42",
        "euros",
        "in",
        "total",
        "today",
    ]
    chance = random.Random(1)
    return [" ".join(chance.choices(words, k=chance.randrange(6, 20))) + "." for _ in range(2000)]


def answers(n: int) -> list[Answered]:
    """So many answers of one to three sentences, each with a reference that shares most of its words."""
    chance, pool = random.Random(2), sentences()
    made = []
    for number in range(n):
        said = " ".join(chance.choices(pool, k=chance.randrange(1, 4)))
        if number % 4 == 0:
            said = json.dumps({"answer": said, "n": number})
        words = said.split()
        reference = " ".join(word for word in words if chance.random() < 0.8) or said
        prompt = ({"role": "user", "content": f"{chance.choice(pool)} How much is {number}?"},)
        made.append(Answered(prompt, said, (f"{reference} {number}",)))
    return made


def seconds(work: Any, repeats: int = 3) -> float:
    """Processor seconds of the fastest of some runs."""
    times = []
    for _ in range(repeats):
        began = time.process_time()
        work()
        times.append(time.process_time() - began)
    return min(times)


def rules_part() -> None:
    """Prints what each scorer that asks no model costs, in the smallest and the largest batches of a replay."""
    judged = answers(N)
    plain = seconds(lambda: [(one.text.split(), one.expected[0].split()) for one in judged])
    scores = {
        name: scorer(name, **CONFIG.get(name, {}))
        for name in sorted(SCORERS.keys() - ASKING - {"embedding_similarity", "code_execution"})
    }
    small, large = (spent_by(scores, judged, size) for size in (BATCH, LARGEST_BATCH))
    length = sum(len(one.text) for one in judged) / N
    print(
        f"Scoring {N} answers of {length:.0f} characters, processor seconds in batches of {BATCH} and {LARGEST_BATCH}"
    )
    calls = library_calls()
    for name, took in sorted(large.items(), key=lambda one: -one[1]):
        told = (
            f"  {name:12} {small[name]:6.3f} s, {took:6.3f} s  {N / took:8.0f} a second  {took / plain:5.1f}× splitting"
        )
        if name in calls:
            library, n, call = calls[name]
            began = time.process_time()
            for one in judged[:n]:
                call(one)
            alone = (time.process_time() - began) * N / n
            told += f"; {library} called for each answer {alone:.2f} s, {alone / took:.1f}× ours"
        print(told)
    for size, took_by in ((BATCH, small), (LARGEST_BATCH, large)):
        together = sum(took_by.values())
        ratio = f"{together / plain:.0f}× splitting"
        print(f"  {len(scores)} together, {size} at a time: {together:.2f} s, {ratio} (target <= 2 s)")


def spent_by(scores: Mapping[str, Score], judged: Sequence[Answered], size: int) -> dict[str, float]:
    """Processor seconds of each scorer, the fastest of three passes.

    Answers come `size` at a time, and each batch goes to all scorers before the next, as in a replay.
    """
    fastest = dict.fromkeys(scores, float("inf"))
    for _ in range(3):
        took = dict.fromkeys(scores, 0.0)
        for start in range(0, len(judged), size):
            batch = judged[start : start + size]
            for name, score in scores.items():
                began = time.process_time()
                score(batch)
                took[name] += time.process_time() - began
        fastest = {name: min(spent, took[name]) for name, spent in fastest.items()}
    return fastest


def library_calls() -> dict[str, tuple[str, int, Callable[[Answered], Any]]]:
    """Of scorers that give what a library gives: its name, for how many answers it is called, and its plain call."""
    sacrebleu, rouge_score = import_module("sacrebleu.metrics"), import_module("rouge_score.rouge_scorer")
    jsonschema, profanity = import_module("jsonschema"), import_module("profanity_check")
    bleu, chrf = sacrebleu.BLEU(effective_order=True), sacrebleu.CHRF()
    rouge = rouge_score.RougeScorer(["rougeL"])

    def validated(one: Answered) -> bool:
        try:
            jsonschema.validate(json.loads(one.text), CONFIG["json_schema"]["schema"])
        except (ValueError, jsonschema.ValidationError):
            return False
        return True

    return {
        "bleu": ("sacrebleu", N, lambda one: bleu.sentence_score(one.text, list(one.expected))),
        "chrf": ("sacrebleu", N, lambda one: chrf.sentence_score(one.text, list(one.expected))),
        "rouge_l": ("rouge-score", N, lambda one: rouge.score(one.expected[0], one.text)),
        "json_schema": ("jsonschema", 1000, validated),
        "toxicity": ("alt-profanity-check", 500, lambda one: profanity.predict_prob([one.text])),
    }


def embeddings_part(n: int) -> None:
    """Prints how much faster texts are embedded than plainly in PyTorch."""
    import numpy as np

    from evaluators.scorers.embeddings import Embedder

    chance, pool = random.Random(3), sentences()
    texts = [" ".join(chance.choices(pool, k=chance.choice((1, 1, 1, 2, 4, 8)))) for _ in range(n)]
    encoder = Embedder()
    encoder.embed(texts[:64])
    began = time.perf_counter()
    ours = encoder.embed(texts)
    took = time.perf_counter() - began
    some = texts[: min(n, 2000)]
    began = time.perf_counter()
    plain = plainly(encoder, some)
    reference = (time.perf_counter() - began) * n / len(some)
    alike = (ours[: len(some)] * plain).sum(axis=1)
    print(f"Embedding {n} texts with {encoder.name} ({encoder.engine})")
    print(
        f"  {took:.1f} s, plain PyTorch {reference:.1f} s (from {len(some)} of them): {reference / took:.1f}× as fast "
        f"(target >= 2)"
    )
    print(f"  cosine to plain PyTorch: mean {np.mean(alike):.4f}, lowest {np.min(alike):.4f}")


def plainly(encoder: Any, texts: Sequence[str]) -> Any:
    """The same vectors, 32 texts at a time in the order they come."""
    import numpy as np
    import torch
    from transformers import AutoModel

    model = AutoModel.from_pretrained(encoder.path, local_files_only=True).eval()
    vectors = []
    with torch.inference_mode():
        for start in range(0, len(texts), 32):
            batch = list(texts[start : start + 32])
            told = encoder.tokenizer(batch, truncation=True, max_length=256, padding=True, return_tensors="pt")
            hidden = model(**told).last_hidden_state
            mask = told["attention_mask"].unsqueeze(-1)
            vectors.append(torch.nn.functional.normalize((hidden * mask).sum(1) / mask.sum(1), dim=1).numpy())
    return np.concatenate(vectors)


def main() -> None:
    """Prints every figure beside its target and its reference."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", choices=("rules", "embeddings"))
    parser.add_argument("--texts", type=int, default=N)
    chosen = parser.parse_args()
    if chosen.only != "embeddings":
        rules_part()
    if chosen.only != "rules":
        embeddings_part(chosen.texts)


if __name__ == "__main__":
    main()
