"""A GGUF file holds the model that was exported, and llama.cpp, where installed, gives its answers."""

import json
import shutil
from pathlib import Path

import pytest
import torch

from driftline.errors import BadInput, MissingPackage
from driftline.protocols import LogProbs, Sampling
from variants import lookup
from variants.build import build
from variants.loading import load_model, load_tokenizer
from variants.methods.calibration import TEXTS
from variants.open import open_variant
from variants.recipe import Recipe, Spec, spec

ASKED = [({"role": "user", "content": text},) for text in ("What is water?", "Tell me about bread.", "Why?")]


def exported(tiny: Path, quant: str) -> Spec:
    return spec("llama_cpp", ("hf_dir", {"path": str(tiny)}), ("gguf", {"quant": quant}), context=128)


@pytest.mark.parametrize(("quant", "furthest"), [("f32", 0.0), ("f16", 0.05), ("q8_0", 1.0)])
def test_what_is_read_back_is_what_was_exported(
    tiny: Path, shelf_dir: Path, tmp_path: Path, quant: str, furthest: float
) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    built = build(exported(tiny, quant), shelf_dir)
    assert built.directory is not None
    shutil.copy(built.directory / "model.gguf", tmp_path)  # alone: nothing beside it may help
    again = AutoModelForCausalLM.from_pretrained(tmp_path, gguf_file="model.gguf", dtype=torch.float32)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path, gguf_file="model.gguf")
    text = "Water falls 12 times, <s>user\nHow? été"
    ids = load_tokenizer(tiny)(text)["input_ids"]

    with torch.inference_mode():
        ours, theirs = (model(torch.tensor([ids])).logits for model in (load_model(tiny), again))

    assert tokenizer(text)["input_ids"] == ids
    assert tokenizer.chat_template == load_tokenizer(tiny).chat_template
    assert float((ours - theirs).abs().max()) <= furthest


@pytest.mark.parametrize("kind", ["Q4_1", "Q8_0"])
def test_weights_that_were_widened_from_blocks_go_back_to_the_same_blocks(kind: str) -> None:
    import gguf

    named = gguf.GGMLQuantizationType[kind]
    weights = torch.randn(64, 256, generator=torch.Generator().manual_seed(3)).numpy()
    blocks = gguf.quants.quantize(weights, named)

    again = gguf.quants.quantize(gguf.quants.dequantize(blocks, named), named)

    assert (again == blocks).all()


def test_the_token_matrices_may_stay_wider(tiny: Path, shelf_dir: Path) -> None:
    import gguf

    recipe = Recipe("gguf", {"quant": "q4_1", "embedding": "q8_0"})
    built = build(Spec("llama_cpp", {}, (Recipe("hf_dir", {"path": str(tiny)}), recipe)), shelf_dir)
    assert built.directory is not None

    kinds = {one.name: one.tensor_type.name for one in gguf.GGUFReader(built.directory / "model.gguf").tensors}

    assert kinds["token_embd.weight"] == "Q8_0"
    assert {kind for name, kind in kinds.items() if name.startswith("blk") and "norm" not in name} == {"Q4_1"}


def test_fewer_bits_take_fewer_bytes(tiny: Path, shelf_dir: Path) -> None:
    sizes = [build(exported(tiny, quant), shelf_dir).bytes_stored for quant in ("f32", "bf16", "q8_0", "q4_1", "q4_0")]

    assert sizes == sorted(sizes, reverse=True)
    assert len(set(sizes)) == len(sizes)


def test_an_exported_model_needs_a_runner_that_takes_it(tiny: Path) -> None:
    with pytest.raises(BadInput, match="Use llama_cpp"):
        spec("transformers", ("hf_dir", {"path": str(tiny)}), "gguf")
    with pytest.raises(BadInput, match="gives a model in format hf"):
        spec("llama_cpp", ("hf_dir", {"path": str(tiny)}))
    with pytest.raises(BadInput, match="must be the last step"):
        spec("llama_cpp", ("hf_dir", {"path": str(tiny)}), "gguf", "bf16")


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"model_type": "gpt2"}, "of the type gpt2"),
        ({"attention_bias": True}, "biases"),
        ({"rope_parameters": {"rope_type": "yarn", "rope_theta": 1e4}}, "rotary"),
    ],
)
def test_a_model_of_another_shape_is_refused(tiny: Path, tmp_path: Path, change: dict[str, object], says: str) -> None:
    own = tmp_path / "own"
    shutil.copytree(tiny, own)
    config = json.loads((own / "config.json").read_text())
    (own / "config.json").write_text(json.dumps({**config, **change}))

    with pytest.raises(BadInput, match=says):
        build(exported(own, "q8_0"), tmp_path / "cache")


def test_without_llama_cpp_its_install_command_is_printed(
    tiny: Path, shelf_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    build(exported(tiny, "q8_0"), shelf_dir)
    monkeypatch.setattr(lookup.importlib.util, "find_spec", lambda name: None if name == "llama_cpp" else object())

    with pytest.raises(MissingPackage, match="pip install llama-cpp-python"):
        open_variant(exported(tiny, "q8_0"), shelf_dir)


def test_llama_cpp_weighs_and_answers_like_transformers(tiny: Path, tiny_spec: Spec, shelf_dir: Path) -> None:
    pytest.importorskip("llama_cpp")
    ours, theirs = open_variant(tiny_spec, shelf_dir), open_variant(exported(tiny, "f32"), shelf_dir, threads=1)
    assert isinstance(ours, LogProbs)
    assert isinstance(theirs, LogProbs)
    pairs = [(prompt, text) for prompt in ASKED for text in ("Water is wet.", "Bread", "")]

    for one, other in zip(ours.log_probs(pairs), theirs.log_probs(pairs), strict=True):
        assert other.logprobs == pytest.approx(one.logprobs, abs=0.02)
    greedy = Sampling(max_tokens=8)
    assert [a.text for a in theirs.generate(ASKED, greedy)] == [a.text for a in ours.generate(ASKED, greedy)]  # type: ignore[attr-defined]


def test_llama_cpp_answers_the_same_whatever_it_was_asked_before(tiny: Path, shelf_dir: Path) -> None:
    pytest.importorskip("llama_cpp")
    opened = open_variant(exported(tiny, "q8_0"), shelf_dir, threads=1)
    hot = Sampling(max_tokens=8, temperature=1.0, seed=2)

    apart = [opened.generate([prompt], hot)[0].text for prompt in ASKED]
    shuffled = [answer.text for answer in opened.generate([*ASKED[::-1], *ASKED], hot)]

    assert shuffled == [*apart[::-1], *apart]


def test_llama_cpp_reports_prompts_that_do_not_fit(tiny: Path, shelf_dir: Path) -> None:
    pytest.importorskip("llama_cpp")
    opened = open_variant(exported(tiny, "q8_0"), shelf_dir, threads=1)

    long, bad, good = opened.generate([({"role": "user", "content": TEXTS[0]},), (), ASKED[0]], Sampling(max_tokens=4))

    assert (long.finish_reason or "").endswith("prompt truncated")
    assert bad.error
    assert good.error is None


def test_a_damaged_gguf_file_is_an_error_that_names_it(tiny: Path, tmp_path: Path) -> None:
    pytest.importorskip("llama_cpp")
    made = Spec("llama_cpp", {}, (Recipe("hf_dir", {"path": str(tiny)}), Recipe("gguf", {})))
    built = build(made, tmp_path)
    assert built.directory is not None
    file = built.directory / "model.gguf"
    file.write_bytes(b"x" * file.stat().st_size)

    with pytest.raises(BadInput, match="cannot load"):
        open_variant(made, tmp_path)
