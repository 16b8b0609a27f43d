"""Weights in other shapes: each read back as it was written."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from driftline.errors import BadInput
from driftline.protocols import Sampling
from variants.build import build
from variants.loading import load_model, load_tokenizer
from variants.methods.calibration import TEXTS
from variants.open import open_variant
from variants.recipe import Spec
from variants.storage.code_lengths import limited_lengths
from variants.storage.huffman import decoded, encoded

PAIRS = [(({"role": "user", "content": text},), "Water is wet.") for text in ("Why?", "What is rain?")]


@given(st.integers(0, 2**31), st.integers(1, 300), st.integers(1, 40), st.integers(1, 90))
@settings(max_examples=40, deadline=None)
def test_every_matrix_of_few_values_comes_back_bit_for_bit(seed: int, values: int, rows: int, columns: int) -> None:
    luck = torch.Generator().manual_seed(seed)
    book = torch.randn(values, generator=luck)
    skewed = (torch.rand(rows, columns, generator=luck) ** 4 * values).long().clamp(max=values - 1)

    parts = encoded(book[skewed])

    if parts is None:
        assert len(skewed.unique()) > rows * columns // 8
    else:
        assert torch.equal(decoded(parts), book[skewed])


def test_a_matrix_written_in_pieces_is_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    luck = torch.Generator().manual_seed(3)
    matrix = torch.randn(50, generator=luck)[(torch.rand(61, 71, generator=luck) ** 4 * 50).long()]
    whole = encoded(matrix)
    monkeypatch.setattr("variants.storage.huffman.AT_ONCE", 1024)

    parts = encoded(matrix)

    assert whole is not None
    assert parts is not None
    assert all(torch.equal(parts[name], whole[name]) for name in whole)
    assert torch.equal(decoded(parts), matrix)


def test_zeros_keep_their_sign() -> None:
    matrix = torch.tensor([0.0, -0.0, 1.0, -1.0]).repeat(8, 4)
    parts = encoded(matrix)
    assert parts is not None

    assert torch.equal(decoded(parts).view(torch.int32), matrix.view(torch.int32))


@given(st.lists(st.integers(1, 10**9), min_size=1, max_size=400))
def test_code_lengths_stay_within_sixteen_bits_and_are_a_full_code(counts: list[int]) -> None:
    lengths = limited_lengths(counts)

    assert max(lengths) <= 16
    assert sum(2.0**-bits for bits in lengths) == pytest.approx(1.0 if len(counts) > 1 else 0.5)


def test_a_coded_stream_is_within_a_bit_per_weight_of_its_entropy() -> None:
    luck = np.random.default_rng(0)
    symbols = luck.binomial(15, 0.3, 60_000).reshape(200, 300)
    parts = encoded(torch.from_numpy(symbols.astype(np.float32)))
    assert parts is not None

    shares = np.bincount(symbols.ravel()) / symbols.size
    entropy = -sum(share * math.log2(share) for share in shares if share)

    assert entropy <= 8 * len(parts["codes"]) / symbols.size < entropy + 0.2


def test_many_values_are_left_alone_and_a_model_without_shared_ones_is_refused(
    tiny_spec: Spec, shelf_dir: Path
) -> None:
    assert encoded(torch.randn(100, 100)) is None
    with pytest.raises(BadInput, match="Put kmeans_sharing"):
        build(tiny_spec.then("huffman"), shelf_dir)


def test_a_coded_model_is_smaller_and_has_the_same_weights(tiny_spec: Spec, shelf_dir: Path) -> None:
    shared = tiny_spec.then("kmeans_sharing", clusters=16, skip=[])
    plain, coded = (build(made, shelf_dir) for made in (shared, shared.then("huffman")))
    assert plain.directory is not None
    assert coded.directory is not None

    before, after = (load_model(one.directory).state_dict() for one in (plain, coded) if one.directory)

    assert coded.bytes_stored < plain.bytes_stored / 2
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert open_variant(shared.then("huffman").then("packed"), shelf_dir).generate([PAIRS[0][0]], Sampling(4))[0].text


def test_factors_answer_as_their_product_and_take_less(tiny_spec: Spec, shelf_dir: Path) -> None:
    product, factors = tiny_spec.then("low_rank", rank=8), tiny_spec.then("low_rank_factors", rank=8)
    one, other = (open_variant(made, shelf_dir) for made in (product, factors))

    for left, right in zip(one.log_probs(PAIRS), other.log_probs(PAIRS), strict=True):  # type: ignore[attr-defined]
        assert left.logprobs == pytest.approx(right.logprobs, abs=1e-3)
    assert build(factors, shelf_dir).bytes_stored < build(product, shelf_dir).bytes_stored
    assert other.bytes_in_memory < one.bytes_in_memory  # type: ignore[attr-defined]


def test_a_rank_that_saves_nothing_is_refused(tiny_spec: Spec, shelf_dir: Path) -> None:
    with pytest.raises(BadInput, match="Lower it"):
        build(tiny_spec.then("low_rank_factors", rank=64), shelf_dir)


def test_an_adapter_beside_the_weights_answers_as_the_merged_one(
    tiny_spec: Spec, shelf_dir: Path, files: dict[str, Path]
) -> None:
    plan = {"data": str(files["examples"]), "steps": 4, "batch_size": 2, "max_tokens": 48}
    merged, beside = tiny_spec.then("lora", **plan), tiny_spec.then("lora_adapter", **plan)
    one, other = (open_variant(made, shelf_dir) for made in (merged, beside))

    for left, right in zip(one.log_probs(PAIRS), other.log_probs(PAIRS), strict=True):  # type: ignore[attr-defined]
        assert left.logprobs == pytest.approx(right.logprobs, abs=1e-3)
    assert build(beside, shelf_dir).measured["adapter_bytes"] < 100_000


def test_dropping_a_group_of_heads_that_gives_nothing_changes_nothing(tmp_path: Path, tiny: Path) -> None:
    from variants.methods.head_drop import HeadDrop

    model, tokenizer = load_model(tiny), load_tokenizer(tiny)
    for layer in model.model.layers:
        layer.self_attn.o_proj.weight.data[:, :32] = 0  # the first of two groups of two heads of width 16
    ids = torch.tensor([tokenizer(TEXTS[0])["input_ids"]])
    with torch.inference_mode():
        before = model(ids).logits

        fewer, measured = HeadDrop().edit(model, tokenizer, lambda _: None)
        fewer.save_pretrained(tmp_path)

        assert torch.allclose(load_model(tmp_path)(ids).logits, before, atol=1e-4)
    assert measured == {"heads": 2.0, "groups": 1.0}
    assert json.loads((tmp_path / "config.json").read_text())["num_key_value_heads"] == 1
