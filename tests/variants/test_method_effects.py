"""What each method does to the weights, beyond what the shared battery sees."""

import json
import math
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from driftline.errors import BadInput
from variants.build import build
from variants.loading import linears, load_model, load_tokenizer
from variants.methods.calibration import TEXTS, input_norms
from variants.methods.gptq import entering_first_layer, rounded, through
from variants.methods.int4 import nearest_of_16
from variants.methods.kmeans_sharing import cluster
from variants.methods.layer_drop import block_influence
from variants.methods.low_rank import truncated
from variants.methods.magnitude_prune import kept
from variants.open import open_variant
from variants.recipe import Spec
from variants.storage.code_lengths import huffman_lengths

Weights = dict[str, torch.Tensor]


@pytest.fixture
def weights_of(tiny_spec: Spec, shelf_dir: Path) -> Callable[..., tuple[Weights, dict[str, float]]]:
    def made(method: str | None = None, **config: Any) -> tuple[Weights, dict[str, float]]:
        built = build(tiny_spec.then(method, **config) if method else tiny_spec, shelf_dir)
        assert built.directory is not None
        return dict(load_model(built.directory).state_dict()), built.measured

    return made


Q = "model.layers.0.self_attn.q_proj.weight"
DOWN = "model.layers.1.mlp.down_proj.weight"


def test_pruning_zeroes_its_share_of_the_smallest(weights_of: Any) -> None:
    before, _ = weights_of()
    after, measured = weights_of("magnitude_prune", share=0.3)

    gone = after[Q] == 0
    assert measured["zero_share"] == pytest.approx(0.3, abs=1e-3)
    assert before[Q][gone].abs().max() <= before[Q][~gone].abs().min()
    assert torch.equal(after[Q][~gone], before[Q][~gone])


@pytest.mark.parametrize("method", ["magnitude_prune", "wanda"])
def test_two_of_four_leaves_two_of_every_four(weights_of: Any, method: str) -> None:
    after, measured = weights_of(method, pattern="2:4")

    assert measured["zero_share"] == 0.5
    assert ((after[DOWN].reshape(-1, 4) != 0).sum(-1) == 2).all()


def test_wanda_prunes_every_row_alike_and_by_what_flows_in(weights_of: Any, tiny: Path) -> None:
    before, _ = weights_of()
    after, _ = weights_of("wanda", share=0.25)
    model = load_model(tiny)
    module = linears(model)[Q.removesuffix(".weight")]
    norm = input_norms(model, load_tokenizer(tiny), TEXTS, [module])[module]

    importance = before[Q].abs() * norm
    gone = after[Q] == 0
    assert (gone.sum(-1) == 16).all()
    assert all(importance[row][gone[row]].max() <= importance[row][~gone[row]].min() for row in range(len(gone)))


def test_input_norms_are_the_rms_over_all_tokens(tiny: Path) -> None:
    model, tokenizer = load_model(tiny), load_tokenizer(tiny)
    module = linears(model)[Q.removesuffix(".weight")]
    with torch.inference_mode():
        embedded = [model.model.embed_tokens(torch.tensor([tokenizer(text)["input_ids"]])) for text in TEXTS[:2]]
        entering = torch.cat([model.model.layers[0].input_layernorm(one)[0] for one in embedded])

    norms = input_norms(model, tokenizer, TEXTS[:2], [module])[module]

    assert torch.allclose(norms, entering.square().mean(0).sqrt(), rtol=1e-4)


def test_full_rank_changes_nothing_and_half_rank_has_half_rank(weights_of: Any) -> None:
    before, _ = weights_of()
    same, whole = weights_of("low_rank", rank=64)
    half, part = weights_of("low_rank", rank=32)

    assert torch.allclose(same[DOWN], before[DOWN], atol=1e-4)
    assert whole["energy_kept"] == pytest.approx(1.0)
    assert torch.linalg.matrix_rank(half[DOWN], rtol=1e-4) == 32
    assert part["energy_kept"] < 1
    assert part["packed_bytes"] < whole["packed_bytes"]


def test_weighing_the_inputs_helps_where_they_are_large() -> None:
    torch.manual_seed(0)
    weight, norms = torch.randn(32, 32), torch.tensor([10.0] * 4 + [0.1] * 28)

    plain, aware = truncated(weight, 6, None)[0], truncated(weight, 6, norms)[0]

    def error(cut: torch.Tensor) -> float:
        return float(((cut - weight) * norms).square().sum())

    assert error(aware) < error(plain) / 10


@given(st.integers(0, 2**31), st.sampled_from([8, 16, 64]))
@settings(max_examples=30, deadline=None)
def test_four_bits_are_off_by_at_most_half_a_step(seed: int, group: int) -> None:
    weight = torch.randn(4, 64, generator=torch.Generator().manual_seed(seed))

    rounded = nearest_of_16(weight, group)

    step = weight.reshape(4, -1, group).abs().amax(-1, keepdim=True) / 7
    assert ((rounded - weight).reshape(4, -1, group).abs() <= step / 2 + 1e-6).all()
    assert all(len(row.unique()) <= 16 for row in rounded.reshape(-1, group))


@given(st.integers(0, 2**31))
@settings(max_examples=15, deadline=None)
def test_balanced_rounding_changes_the_output_less_than_plain_rounding(seed: int) -> None:
    torch.manual_seed(seed)
    seen = torch.randn(300, 64) @ torch.randn(64, 64)  # inputs that depend on each other, as in a model
    weight = torch.randn(16, 64)

    balanced = rounded(weight, seen.T @ seen / 300, group=32)
    plain = nearest_of_16(weight, 32)

    def error(changed: torch.Tensor) -> float:
        return float((seen @ (changed - weight).T).square().mean())

    assert error(balanced) < 0.7 * error(plain)
    assert all(len(row.unique()) <= 16 for row in balanced.reshape(-1, 32))


def test_inputs_that_are_independent_are_rounded_plainly() -> None:
    weight = torch.randn(8, 64, generator=torch.Generator().manual_seed(1))

    assert torch.allclose(rounded(weight, torch.eye(64), group=16), nearest_of_16(weight, 16), atol=1e-6)


def test_gptq_hands_each_layer_what_the_rounded_ones_before_it_give(tiny: Path) -> None:
    model, tokenizer = load_model(tiny), load_tokenizer(tiny)
    layers = model.model.layers
    with torch.inference_mode():
        [(place, named)] = entering_first_layer(model, tokenizer, TEXTS[:1])
        by_layers = through(layers[1], (through(layers[0], place, named),), named)
        whole = model(**tokenizer(TEXTS[0], return_tensors="pt"), output_hidden_states=True).hidden_states[2]

    assert torch.allclose(by_layers, whole, atol=1e-5)


def test_kmeans_shares_no_more_values_than_clusters(weights_of: Any) -> None:
    before, _ = weights_of()
    after, measured = weights_of("kmeans_sharing", clusters=16)

    assert len(after[Q].unique()) <= 16
    assert (after[Q] - before[Q]).square().mean() < before[Q].square().mean() / 50
    assert measured["packed_bytes"] < measured["fixed_bytes"]


def test_kmeans_finds_separate_heaps() -> None:
    values = torch.cat([torch.full((500,), -1.0), torch.full((30,), 2.0), torch.full((5,), 9.0)])

    assert cluster(values, 3).tolist() == pytest.approx([-1.0, 2.0, 9.0], abs=1e-3)
    assert cluster(torch.full((10,), 4.0), 8).tolist() == [4.0]


@given(st.lists(st.integers(0, 10_000), min_size=2, max_size=64).filter(lambda counts: sum(map(bool, counts)) > 1))
def test_huffman_lengths_are_a_full_prefix_code_within_a_bit_of_entropy(counts: list[int]) -> None:
    lengths = huffman_lengths(counts)

    total = sum(counts)
    entropy = -sum(c / total * math.log2(c / total) for c in counts if c)
    mean = sum(c * bits for c, bits in zip(counts, lengths, strict=True)) / total
    assert sum(2.0**-bits for bits in lengths if bits) == pytest.approx(1.0)
    assert entropy - 1e-9 <= mean < entropy + 1
    assert all((bits > 0) == (count > 0) for bits, count in zip(lengths, counts, strict=True))


@given(st.integers(0, 2**31), st.floats(0.05, 0.95))
@settings(max_examples=30, deadline=None)
def test_the_mask_keeps_the_most_important(seed: int, share: float) -> None:
    importance = torch.rand(6, 20, generator=torch.Generator().manual_seed(seed))

    mask = kept(importance, share, "unstructured", "m")

    assert int((~mask).sum()) == round(120 * share)
    if mask.any() and not mask.all():
        assert importance[~mask].max() <= importance[mask].min()


def test_a_dropped_layer_is_gone_and_the_others_are_untouched(
    weights_of: Any, tiny_spec: Spec, shelf_dir: Path
) -> None:
    before, _ = weights_of()
    after, measured = weights_of("layer_drop", layers=[1])

    assert "model.layers.3.self_attn.q_proj.weight" not in after
    assert torch.equal(
        after["model.layers.1.self_attn.q_proj.weight"], before["model.layers.2.self_attn.q_proj.weight"]
    )
    assert measured == {"dropped_0": 1.0}


def test_a_layer_that_does_nothing_has_the_least_influence(tiny: Path) -> None:
    model = load_model(tiny)
    idle: Any = model.model.layers[2]
    idle.self_attn.o_proj.weight.data.zero_()
    idle.mlp.down_proj.weight.data.zero_()

    influence = block_influence(model, load_tokenizer(tiny), TEXTS[:3])

    assert influence[2] == pytest.approx(0, abs=1e-5)
    assert min(influence[:2] + influence[3:]) > 0.01


def test_narrowing_removes_channels_that_carry_nothing_without_a_trace(tmp_path: Path, tiny: Path) -> None:
    from variants.methods.mlp_width import MlpWidth

    model, tokenizer = load_model(tiny), load_tokenizer(tiny)
    for layer in model.model.layers:
        layer.mlp.down_proj.weight.data[:, 5:37] = 0
    ids = torch.tensor([tokenizer(TEXTS[0])["input_ids"]])
    with torch.inference_mode():
        before = model(ids).logits

        narrowed, measured = MlpWidth(keep=0.75).edit(model, tokenizer, lambda _: None)

        assert torch.allclose(narrowed(ids).logits, before, atol=1e-4)
    assert measured == {"channels": 96.0}
    assert narrowed.config.intermediate_size == 96
    narrowed.save_pretrained(tmp_path)
    assert load_model(tmp_path).model.layers[0].mlp.up_proj.weight.shape == (96, 64)


def test_a_merged_adapter_adds_alpha_over_r_times_its_product(weights_of: Any, adapter: Path) -> None:
    from safetensors.torch import load_file

    before, _ = weights_of()
    half, measured = weights_of("lora_merge", path=str(adapter), scale=0.5)
    pair = load_file(adapter / "adapter_model.safetensors")
    up, down = (pair[f"base_model.model.{Q.replace('weight', f'lora_{s}.weight')}"] for s in "BA")

    assert torch.allclose(half[Q] - before[Q], up @ down, atol=1e-4)  # 0.5 · alpha 4 / r 2 = 1
    assert torch.equal(half[DOWN], before[DOWN])
    assert measured["pairs"] == 2


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"use_dora": True}, "not plain LoRA: use_dora"),
        ({"peft_type": "IA3"}, "not plain LoRA: IA3"),
        ({"rank_pattern": {"q_proj": 8}}, "rank_pattern"),
    ],
)
def test_an_adapter_that_is_more_than_lora_is_refused(
    tiny_spec: Spec, shelf_dir: Path, adapter: Path, tmp_path: Path, change: dict[str, Any], says: str
) -> None:
    own = tmp_path / "adapter"
    shutil.copytree(adapter, own)
    told = json.loads((own / "adapter_config.json").read_text())
    (own / "adapter_config.json").write_text(json.dumps({**told, **change}))

    with pytest.raises(BadInput, match=says):
        build(tiny_spec.then("lora_merge", path=str(own)), shelf_dir)


def test_an_adapter_of_another_model_is_refused(tiny_spec: Spec, shelf_dir: Path, adapter: Path) -> None:
    with pytest.raises(BadInput, match="was not made for this model"):
        build(
            tiny_spec.then("mlp_width").then("layer_drop", layers=[2, 3]).then("lora_merge", path=str(adapter)),
            shelf_dir,
        )


def test_packing_changes_no_answer_and_is_counted_at_its_size(tiny_spec: Spec, shelf_dir: Path) -> None:
    plain, packed = (open_variant(made, shelf_dir) for made in (tiny_spec, tiny_spec.then("packed")))
    pairs = [(({"role": "user", "content": text},), "Water is wet.") for text in ("Why?", "What is rain?")]

    for one, other in zip(plain.log_probs(pairs), packed.log_probs(pairs), strict=True):  # type: ignore[attr-defined]
        assert one.logprobs == pytest.approx(other.logprobs, abs=1e-4)
    before, after = (opened.bytes_in_memory for opened in (plain, packed))  # type: ignore[attr-defined]
    assert after - before == 384 * 64 * 4  # the output matrix is no longer the embedding's


def test_quantizing_what_has_been_packed_is_refused_not_skipped(tiny_spec: Spec, shelf_dir: Path) -> None:
    with pytest.raises(BadInput, match="no Linear layer left"):
        build(tiny_spec.then("packed").then("int8_dynamic"), shelf_dir)


def test_an_adapter_that_is_not_there_is_named(tiny_spec: Spec, shelf_dir: Path) -> None:
    with pytest.raises(BadInput, match="no adapter that can be read"):
        build(tiny_spec.then("lora_merge", path="/nowhere/adapter"), shelf_dir)
