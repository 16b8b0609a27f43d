"""An ONNX export gives the model's own answers where its weights stay wide."""

import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import psutil
import pytest

from driftline.errors import BadInput, MissingPackage
from driftline.protocols import LogProbs, Sampling
from variants import lookup
from variants.build import build
from variants.methods.onnx_builder import by_rows
from variants.methods.onnx_export import OnnxExport, run
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


@pytest.mark.parametrize(("name", "bits"), [("quant_tensor", 4), ("quant_tensor_k_quant_cpu", 4), ("quant_tensor", 8)])
def test_a_matrix_quantized_some_rows_at_a_time_is_the_same(
    name: str, bits: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    quantizing: Any = pytest.importorskip("onnxruntime.quantization.neural_compressor.weight_only")
    quantize = getattr(quantizing, name)
    matrix = np.random.default_rng(3).normal(size=(37, 64)).astype(np.float32)
    monkeypatch.setattr("variants.methods.onnx_builder.ROWS_BYTES", 5 * 64 * 4)

    for given, whole in zip(by_rows(quantize)(matrix, bits, 32), quantize(matrix, bits, 32), strict=True):
        assert np.array_equal(given, whole)
        assert given.shape == whole.shape


def test_an_export_that_does_not_fit_is_refused_before_it_starts(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    build(Spec("transformers", {}, exported(tiny, "int4").chain[:1]), tmp_path)
    expected = OnnxExport().peak_bytes(tiny)
    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(available=expected - 1))
    monkeypatch.setattr("variants.methods.onnx_export.run", lambda *_: pytest.fail("it has started"))

    with pytest.raises(BadInput, match="Building OnnxExport "):
        build(exported(tiny, "int4"), tmp_path)


def test_a_cancelled_export_ends_the_program_that_it_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("variants.methods.onnx_export.SAY_EVERY_S", 0.05)
    before = {child.pid for child in psutil.Process().children()}

    def cancelled(_: str) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run([sys.executable, "-c", "import time; time.sleep(60)"], cancelled)

    assert {child.pid for child in psutil.Process().children()} <= before
