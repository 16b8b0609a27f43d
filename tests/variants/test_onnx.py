"""An ONNX export gives the model's own answers where its weights stay wide."""

from pathlib import Path

import pytest

from driftline.errors import BadInput, MissingPackage
from driftline.protocols import LogProbs, Sampling
from variants import lookup
from variants.build import build
from variants.open import open_variant
from variants.recipe import Spec, spec

ASKED = [({"role": "user", "content": text},) for text in ("What is water?", "Tell me about bread.", "Why?")]


def exported(tiny: Path, precision: str) -> Spec:
    return spec("onnx", ("hf_dir", {"path": str(tiny)}), ("onnx", {"precision": precision}), context=128)


def test_onnx_weighs_and_answers_like_transformers(tiny: Path, tiny_spec: Spec, shelf_dir: Path) -> None:
    pytest.importorskip("onnxruntime_genai")
    ours, theirs = open_variant(tiny_spec, shelf_dir), open_variant(exported(tiny, "fp32"), shelf_dir, threads=1)
    assert isinstance(ours, LogProbs)
    assert isinstance(theirs, LogProbs)
    pairs = [(prompt, text) for prompt in ASKED for text in ("Water is wet.", "Bread", "")]

    for one, other in zip(ours.log_probs(pairs), theirs.log_probs(pairs), strict=True):
        assert other.logprobs == pytest.approx(one.logprobs, abs=1e-3)
    greedy = Sampling(max_tokens=8)
    assert [a.text for a in theirs.generate(ASKED, greedy)] == [a.text for a in ours.generate(ASKED, greedy)]  # type: ignore[attr-defined]


def test_onnx_answers_the_same_whatever_it_was_asked_before(tiny: Path, shelf_dir: Path) -> None:
    pytest.importorskip("onnxruntime_genai")
    opened = open_variant(exported(tiny, "int8"), shelf_dir, threads=1)
    hot = Sampling(max_tokens=8, temperature=1.0, seed=2)

    apart = [opened.generate([prompt], hot)[0].text for prompt in ASKED]
    shuffled = [answer.text for answer in opened.generate([*ASKED[::-1], *ASKED], hot)]

    assert shuffled == [*apart[::-1], *apart]


def test_without_the_engine_its_install_command_is_printed(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    absent = {"onnxruntime_genai"}
    monkeypatch.setattr(lookup.importlib.util, "find_spec", lambda name: None if name in absent else object())

    with pytest.raises(MissingPackage, match=r"pip install onnxruntime-genai==0\.18\.0 onnx"):
        build(exported(tiny, "int4"), tmp_path)


def test_what_the_builder_cannot_export_is_said(tiny: Path, tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime_genai")
    own = tmp_path / "own"
    own.mkdir()
    for file in tiny.iterdir():
        text = file.read_bytes()
        (own / file.name).write_bytes(text.replace(b"LlamaForCausalLM", b"NoSuchForCausalLM"))

    with pytest.raises(BadInput, match="onnxruntime-genai cannot export"):
        build(exported(own, "int4"), tmp_path / "cache")

    assert not list((tmp_path / "cache").glob(".building-*"))
