"""Training methods: what they learn, what they hold, what they refuse."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from driftline.errors import BadInput
from variants.build import build
from variants.loading import load_model, load_tokenizer
from variants.methods.calibration import TEXTS
from variants.methods.distill import Distill
from variants.methods.finetune import Recover
from variants.recipe import Spec
from variants.storage.shell import shell
from variants.training import memory
from variants.training.clean import cleaned, leaking
from variants.training.corpus import Example, read_examples, tokenized
from variants.training.loop import order_of
from variants.training.memory import kept_bytes, longest_batch, peak_bytes


@pytest.fixture
def plan(files: dict[str, Path]) -> dict[str, Any]:
    return {"data": str(files["examples"]), "batch_size": 4, "max_tokens": 48, "steps": 12}


@pytest.mark.parametrize(
    ("method", "more"),
    [
        ("finetune", {"learning_rate": 3e-3}),
        ("lora", {"learning_rate": 3e-2}),
        ("finetune", {"learning_rate": 3e-3, "precision": "bf16"}),
    ],
)
def test_training_lowers_the_loss_on_what_it_learns(
    tiny_spec: Spec, shelf_dir: Path, plan: dict[str, Any], method: str, more: dict[str, Any]
) -> None:
    measured = build(tiny_spec.then(method, **plan, **more, hold_out=0.0), shelf_dir).measured

    assert measured["loss_after"] < measured["loss_before"] - 0.5
    assert measured["trained_on"] == measured["examples"] == 8
    assert measured["training_peak_rss_bytes"] > 0
    assert measured["predicted_peak_bytes"] > 0


def test_recovering_lowers_the_loss_and_keeps_every_zero(
    tiny_spec: Spec, shelf_dir: Path, plan: dict[str, Any]
) -> None:
    pruned = tiny_spec.then("wanda", pattern="2:4")
    before = build(pruned, shelf_dir)
    after = build(pruned.then("recover", **plan, learning_rate=3e-3, hold_out=0.0), shelf_dir)
    assert before.directory is not None
    assert after.directory is not None

    old, new = (load_model(one.directory).state_dict() for one in (before, after) if one.directory)

    assert after.measured["loss_after"] < after.measured["loss_before"] - 0.3
    zeros = [(old[name] == 0) for name in old if name.endswith("_proj.weight")]
    assert all((new[n][old[n] == 0] == 0).all() for n in old if n.endswith("_proj.weight"))
    assert after.measured["zeros_held"] >= sum(int(one.sum()) for one in zeros)
    assert after.measured["packed_bytes"] == pytest.approx(before.measured["packed_bytes"], rel=0.01)


def test_recovering_counts_the_marks_of_the_zeros_it_holds(
    tiny_spec: Spec, tiny: Path, shelf_dir: Path, plan: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    pruned = build(tiny_spec.then("magnitude_prune", skip=["lm_head", "down_proj"]), shelf_dir).directory
    assert pruned is not None
    monkeypatch.setattr("variants.methods.finetune.peak_bytes", lambda *_, beside, **__: int(beside))

    marks = Recover(**plan).peak_bytes(pruned) - Recover(**plan).peak_bytes(tiny)

    sizes = {name: parameter.numel() for name, parameter in load_model(tiny).named_parameters()}
    assert marks == sum(size for name, size in sizes.items() if "_proj" in name and "down" not in name)
    assert Recover(**plan).peak_bytes(tiny) == 384 * 64  # of the embedding, the padding token's row is zero


def test_a_student_comes_nearer_to_its_teacher(tiny_spec: Spec, shelf_dir: Path, plan: dict[str, Any]) -> None:
    student = tiny_spec.then("distill", **plan, layers=2, blend=1.0, learning_rate=5e-3, hold_out=0.0)

    built = build(student, shelf_dir)

    assert built.measured["loss_after"] < 0.8 * built.measured["loss_before"]
    assert built.measured["parameters_kept"] < 0.7
    assert built.directory is not None
    assert load_model(built.directory).config.num_hidden_layers == 2


def test_a_student_that_is_not_smaller_is_refused(tiny: Path, plan: dict[str, Any]) -> None:
    with pytest.raises(BadInput, match="is not smaller"):
        Distill(**plan, layers=4).shrunk(load_model(tiny))


def test_the_file_of_examples_belongs_to_the_identity(
    tiny_spec: Spec, shelf_dir: Path, tmp_path: Path, plan: dict[str, Any]
) -> None:
    own = tmp_path / "own.jsonl"
    keys = []
    for answer in ("Ten.", "Eleven."):
        own.write_text(json.dumps({"prompt": "How many?", "answer": answer}))
        keys.append(build(tiny_spec.then("lora", **{**plan, "data": str(own), "steps": 1}), shelf_dir).key)

    assert keys[0] != keys[1]


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("not json", "line 1 is not JSON"),
        ('{"prompt": "a"}', "line 1 is no example"),
        ('{"messages": [{"role": "user"}], "answer": "x"}', "line 1 is no example"),
        ("[1]", "line 1 is no example"),
        ("", "holds no example"),
    ],
)
def test_a_file_that_holds_no_examples_is_named_with_its_line(tmp_path: Path, content: str, says: str) -> None:
    path = tmp_path / "bad.jsonl"
    path.write_text(content)

    with pytest.raises(BadInput, match=says):
        read_examples(path)


def test_a_file_that_is_not_there_is_named(tiny_spec: Spec, shelf_dir: Path) -> None:
    with pytest.raises(BadInput, match="cannot be read"):
        build(tiny_spec.then("lora", data="/nowhere/examples.jsonl"), shelf_dir)


def test_prompts_are_not_learned_and_answers_end(tiny: Path) -> None:
    tokenizer = load_tokenizer(tiny)
    example = Example(({"role": "user", "content": "How many?"},), "Ten.")

    [row] = tokenized(tokenizer, [example], 64)

    learned = [label for label in row.labels if label != -100]
    assert tokenizer.decode(learned) == "Ten.</s>"
    assert row.labels[: len(row.ids) - len(learned)] == (-100,) * (len(row.ids) - len(learned))


def test_a_training_that_does_not_fit_is_refused_before_it_starts(
    tiny_spec: Spec, shelf_dir: Path, plan: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("variants.methods.finetune.peak_bytes", lambda *_, **__: 1 << 50)

    with pytest.raises(BadInput, match=r"needs 10485\d\d\.\d GiB of memory"):
        build(tiny_spec.then("finetune", **plan, seed=9), shelf_dir)


def test_a_forecast_grows_with_what_is_trained_and_with_the_batch(tiny: Path, tmp_path: Path) -> None:
    from variants.methods.lora import Lora

    data = tmp_path / "examples.jsonl"
    data.write_text(4 * (json.dumps({"text": "Why? " * 200}) + "\n"))

    small, more, longer = (peak_bytes(tiny, rows, tokens) for rows, tokens in ((1, 32), (64, 32), (64, 128)))
    adapter = Lora(data=str(data), clean=False, batch_size=64, max_tokens=128).peak_bytes(tiny)

    assert small < more < longer
    assert adapter < longer


def test_a_forecast_is_weights_moments_and_the_larger_of_update_and_backward_pass(
    tiny: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {"LIBRARIES": 0, "ALLOCATOR": 1.0, "held_bytes": lambda: 1000}.items():
        monkeypatch.setattr(memory, name, value)
    sizes = [parameter.numel() * 4 for parameter in load_model(tiny).parameters()]
    weights, embedding = sum(sizes), 384 * 64 * 4
    assert embedding == max(sizes)

    short, long = peak_bytes(tiny, 1, 2), peak_bytes(tiny, 16, 128)
    with torch.device("meta"):
        kept = kept_bytes(shell(tiny).requires_grad_(True), 16, 128)

    assert short == 1000 + weights + 2 * weights + weights + 2 * embedding
    assert long == 1000 + weights + 2 * weights + kept + 3 * (16 * 128 * 384 * 4)
    assert peak_bytes(tiny, 16, 128, beside=77) == long + 77
    assert peak_bytes(tiny, 16, 128, teacher=True) == long + 2 * (16 * 128 * 384 * 4)


def test_a_dry_run_counts_what_a_real_one_keeps(tiny: Path) -> None:
    with torch.device("meta"):
        told = kept_bytes(shell(tiny).requires_grad_(True), 4, 48)

    real = kept_bytes(load_model(tiny).requires_grad_(True), 4, 48)

    assert told == pytest.approx(real, rel=0.15)  # without memory, attention keeps its weights as well
    assert told > 4 * 48 * 64 * 4 * 4  # at least what enters each of the four layers


def write(place: Path, prompts: list[str]) -> None:
    place.write_text("".join(json.dumps({"prompt": prompt, "answer": "Because."}) + "\n" for prompt in prompts))


def test_a_forecast_counts_the_longest_row_that_is_really_taken(tiny: Path, tmp_path: Path) -> None:
    from variants.methods.finetune import Finetune

    data = tmp_path / "examples.jsonl"
    write(data, ["Why?"] * 30 + ["Why? " * 20])
    told = {"data": str(data), "clean": False, "hold_out": 0.0, "batch_size": 1, "max_tokens": 400}
    epoch = list(order_of(31, Finetune(**told, steps=31), torch.Generator().manual_seed(0)))
    first = epoch.index([30])  # the step that takes the long row
    assert sorted(place for batch in epoch for place in batch) == list(range(31))

    before, after = (longest_batch(Finetune(**told, steps=steps), tiny) for steps in (first, first + 1))

    assert before < 30 < after < 400


def examples(*pairs: tuple[str, str]) -> list[Example]:
    return [Example(({"role": "user", "content": asked},), said) for asked, said in pairs]


def test_cleaning_takes_out_what_is_there_twice_or_nearly() -> None:
    given = examples(
        ("What is the capital of France, that lies on the Seine?", "Paris."),
        ("what is the  CAPITAL of France, that lies on the Seine", "paris"),
        ("So what is the capital of France, that lies on the Seine?", "Paris."),
        ("What is the 1st of the ten numbers that were drawn on Monday?", "Five."),
        ("What is the 2nd of the ten numbers that were drawn on Monday?", "Five."),
    )

    kept, found = cleaned(given)

    assert [one.messages[0]["content"][:20] for one in kept] == [
        "What is the capital ",
        "What is the 1st of t",
        "What is the 2nd of t",
    ]
    assert found == {"duplicates": 1.0, "near_duplicates": 1.0}


def test_contradictions_are_refused_and_named() -> None:
    with pytest.raises(BadInput, match="answered in several ways, the first is 'How many"):
        cleaned(examples(("How many?", "Ten."), ("how many", "Eleven.")))


def test_what_leaks_from_a_golden_set_is_refused() -> None:
    golden = ["Which river flows through the old town of Prague today?"]
    learned = examples(
        ("Tell me: which river flows through the old town of Prague today?", "The Vltava."), ("Other?", "Yes.")
    )

    assert leaking(learned, golden) == ["Tell me: which river flows through the old town of Prague today?"]
    assert leaking(learned[1:], golden) == []
    with pytest.raises(BadInput, match="repeat items of a golden set"):
        cleaned(learned, golden)


def test_texts_are_read_by_paragraph(tmp_path: Path) -> None:
    path = tmp_path / "corpus.txt"
    path.write_text("\n\n".join(TEXTS[:3]))

    assert [one.answer for one in read_examples(path)] == [text.strip() for text in TEXTS[:3]]


def test_training_leaves_the_randomness_of_others_alone(tiny_spec: Spec, tmp_path: Path, plan: dict[str, Any]) -> None:
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)

    build(tiny_spec.then("lora", **{**plan, "steps": 1}), tmp_path)

    assert torch.equal(torch.rand(3), expected)
