"""SmolLM2-135M-Instruct, really: the harmless variant is harmless, the broken one is broken, and both answer."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from driftline.protocols import LogProbs, Sampling
from variants.build import build
from variants.families import RUNNERS
from variants.measure import measure
from variants.methods.calibration import TEXTS
from variants.methods.smollm2 import GGUF, package_directory
from variants.open import open_variant
from variants.recipe import Recipe, Spec, spec

pytestmark = pytest.mark.model

BASE = spec("transformers", "smollm2")
CAPITAL = ({"role": "user", "content": "What is the capital of France?"},)
REFERENCES = [
    (CAPITAL, "The capital of France is Paris."),
    (({"role": "user", "content": "Who wrote Hamlet?"},), "Shakespeare"),
]


@pytest.fixture(scope="module")
def base(model_shelf: Path) -> LogProbs:
    built = build(BASE, model_shelf)
    assert built.directory is not None
    assert 537e6 < built.bytes_stored < 539e6
    opened = open_variant(BASE, model_shelf, threads=1)
    assert isinstance(opened, LogProbs)
    return opened


def distance(base: LogProbs, variant: Spec, shelf: Path) -> dict[str, float]:
    opened = open_variant(variant, shelf, threads=1)
    return measure(opened, base, [TEXTS[0], TEXTS[4]])  # type: ignore[arg-type]


def test_it_knows_the_capital_of_france(base: LogProbs) -> None:
    [answer] = base.generate([CAPITAL], Sampling(max_tokens=16))  # type: ignore[attr-defined]

    assert answer.text == "The capital of France is Paris."
    assert answer.finish_reason == "stop"


def test_a_right_answer_is_likelier_than_a_wrong_one(base: LogProbs) -> None:
    right, wrong = base.log_probs(
        [(CAPITAL, "The capital of France is Paris."), (CAPITAL, "The capital of France is Oslo.")]
    )

    assert sum(right.logprobs) > sum(wrong.logprobs) + 5


def test_the_answer_agrees_with_itself(base: LogProbs) -> None:
    found = measure(base, base, [CAPITAL], max_tokens=12)  # type: ignore[arg-type]

    assert found["answer_agreement"] == 1.0


@pytest.mark.parametrize("chain", [("bf16",), ("bf16", "int8_weight_only")], ids=" ".join)
def test_the_harmless_variants_keep_the_quality(base: LogProbs, model_shelf: Path, chain: tuple[str, ...]) -> None:
    before = measure(base, None, [TEXTS[0], TEXTS[4]])["perplexity"]  # type: ignore[arg-type]

    found = distance(base, spec("transformers", "smollm2", *chain), model_shelf)

    assert found["perplexity"] == pytest.approx(before, rel=0.02)
    assert found["top1_agreement"] > 0.93
    assert found["bytes_in_memory"] < 0.51 * 538e6


def test_dynamic_int8_on_all_layers_breaks_silently_and_skipping_two_repairs_it(
    base: LogProbs, model_shelf: Path
) -> None:
    broken = distance(base, BASE.then("int8_dynamic"), model_shelf)
    repaired = distance(base, BASE.then("int8_dynamic", skip=["down_proj", "lm_head"]), model_shelf)

    assert broken["kl_to_parent"] > 3 * repaired["kl_to_parent"]
    assert broken["top1_agreement"] < 0.6 < repaired["top1_agreement"]


def test_the_widened_weights_go_back_to_the_very_file_they_came_from(base: LogProbs, model_shelf: Path) -> None:
    import gguf

    recipe = Recipe("gguf", {"quant": "q4_1", "embedding": "q8_0"})
    built = build(Spec("llama_cpp", {}, (*BASE.chain, recipe)), model_shelf)
    assert built.directory is not None
    source = {one.name: one.data for one in gguf.GGUFReader(Path(package_directory()) / GGUF).tensors}

    ours = {one.name: one.data for one in gguf.GGUFReader(built.directory / "model.gguf").tensors}

    assert ours.keys() == source.keys()
    assert all((ours[name] == source[name]).all() for name in ours)


def test_four_bits_that_suit_the_weights_keep_nearly_every_first_choice(base: LogProbs, model_shelf: Path) -> None:
    found = distance(base, BASE.then("int4_weight_only"), model_shelf)

    assert found["kl_to_parent"] < 0.01
    assert found["bytes_in_memory"] < 0.25 * 538e6


@pytest.mark.slow
@pytest.mark.parametrize(
    ("method", "config"),
    [
        ("int4_group", {}),
        ("wanda", {}),
        ("mlp_width", {}),
        ("int8_dynamic", {}),
        ("packed", {}),
        ("gguf", {}),
        ("onnx", {"algorithm": "rtn"}),
        ("huffman", {}),
    ],
)
def test_building_holds_at_most_three_times_the_weights(
    base: LogProbs, model_shelf: Path, tmp_path: Path, method: str, config: dict[str, Any]
) -> None:
    if method == "onnx":
        pytest.importorskip("onnxruntime_genai")
    runner = RUNNERS.get(method, "transformers")
    before = BASE.then("kmeans_sharing") if method == "huffman" else BASE
    directory = build(before, model_shelf).directory
    made = Spec(runner, {}, (Recipe("hf_dir", {"path": str(directory)}), Recipe(method, config)))
    code = (
        "import json, resource, sys; from pathlib import Path\n"
        "from variants.build import build; from variants.measure import peak_rss; from variants.recipe import Spec\n"
        "build(Spec.from_json(json.loads(sys.argv[1])), Path(sys.argv[2]))\n"
        "started = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024\n"
        "print(peak_rss() + (started if '\"onnx\"' in sys.argv[1] else 0))"
    )
    arguments = [sys.executable, "-c", code, json.dumps(made.to_json()), str(tmp_path)]

    done = subprocess.run(arguments, capture_output=True, text=True, check=True)

    assert int(done.stdout) < 3 * 538e6, f"{int(done.stdout) / 538e6:.2f} times the weights"
