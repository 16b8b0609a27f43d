"""What is proposed to repair a variant follows from how it was made."""

import json
from pathlib import Path
from typing import Any

import pytest

from driftline.store.engine import reading, writing
from driftline.store.tables import Feedback
from scheduler import plans
from variants.methods import METHODS
from variants.recipe import Spec

QUANTIZED = {"runner": "transformers", "runner_config": {}, "chain": [{"method": "smollm2", "config": {}}]}


@pytest.mark.parametrize(
    "method", ["int8_dynamic", "int4_per_row", "int4_group", "int4_weight_only", "int8_weight_only", "magnitude_prune"]
)
def test_a_variant_made_here_is_repaired_by_recipes_that_can_be_read_and_are_not_the_broken_one(method: str) -> None:
    broken = {**QUANTIZED, "chain": [*QUANTIZED["chain"], {"method": method, "config": {}}]}
    found = plans.candidates_for("int8", broken, ("base", QUANTIZED))
    assert found
    for candidate in found:
        assert Spec.from_json(candidate["spec"]).content_hash != Spec.from_json(broken).content_hash
        assert candidate["why"]
    assert len({candidate["name"] for candidate in found}) == len(found)


def test_recorded_answers_can_only_go_back_to_the_baseline() -> None:
    spec = {"runner": "recorded", "runner_config": {"answers": {}}, "chain": []}
    assert [one["name"] for one in plans.candidates_for("june", spec, ("march", spec))] == ["march"]
    assert plans.candidates_for("june", spec, None) == []


def test_a_repair_never_repeats_a_step_that_is_in_the_recipe_already() -> None:
    chain = [*QUANTIZED["chain"], {"method": "bf16", "config": {}}, {"method": "int8_dynamic", "config": {}}]
    found = plans.candidates_for("int8", {**QUANTIZED, "chain": chain}, None)
    assert found
    assert all([step["method"] for step in one["spec"]["chain"]].count("bf16") == 1 for one in found)


LEARNED = {
    "prompts": [f"What about {n}?" for n in range(20)], "shots": [(f"Is it {n}?", "Yes.") for n in range(5)],
    "documents": "/tmp",
}  # fmt: skip


@pytest.fixture
def traffic(tmp_path: Path) -> str:
    path = tmp_path / "recent.jsonl"
    rows = [{"messages": [{"role": "user", "content": f"What about {n}?"}], "answer": "Yes."} for n in range(40)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


@pytest.mark.parametrize(
    ("cause", "wanted"),
    [
        ("variant", {"int4_group", "gptq", "int8_weight_only", "bf16", "recover"}),
        ("input", {"prompt_template", "lora", "distill", "rag"}),
        ("latency", {"packed", "layer_drop", "response_cache"}),
        ("cost", {"response_cache", "semantic_cache", "cascade"}),
    ],
)
def test_each_cause_has_its_plan_of_several_recipes_that_can_be_read(
    cause: str, wanted: set[str], traffic: str
) -> None:
    broken = {**QUANTIZED, "chain": [*QUANTIZED["chain"], {"method": "int4_per_row", "config": {}}]}
    found, left_out = plans.plan_for(plans.Ground("q", broken, ("base", QUANTIZED), traffic=traffic, **LEARNED), cause)
    added = [step["method"] for one in found for step in one["spec"]["chain"] if step not in broken["chain"]]
    assert set(added) == wanted & set(METHODS)
    assert len({one["name"] for one in found}) == len(found) >= 2
    assert left_out == []


def test_a_plan_says_what_it_left_out_for_want_of_what() -> None:
    _, left_out = plans.plan_for(plans.Ground("q", QUANTIZED, ("base", QUANTIZED)), "input")
    assert {one["method"] for one in left_out} == {"prompt_template", "lora", "distill", "rag"} & set(METHODS)
    assert all(one["because"] for one in left_out)


def test_an_api_that_changed_is_replaced_or_asked_differently() -> None:
    api = {"runner": "openai", "runner_config": {"model": "gpt", "base_url": "http://127.0.0.1:9/v1"}, "chain": []}
    other = {**api, "runner_config": {**api["runner_config"], "model": "another"}}
    ground = plans.Ground("june", api, ("march", other), [("spare", other)], shots=LEARNED["shots"])
    names = [one["name"] for one in plans.plan_for(ground, "variant")[0]]
    assert names == ["march", "spare", "june-repair-shots", "june-repair-brief"]


def test_only_methods_that_are_registered_are_offered(monkeypatch: pytest.MonkeyPatch, traffic: str) -> None:
    broken = {**QUANTIZED, "chain": [*QUANTIZED["chain"], {"method": "int4_per_row", "config": {}}]}
    monkeypatch.setattr(plans, "METHODS", {"bf16": METHODS["bf16"]})
    found, _ = plans.plan_for(plans.Ground("q", broken, ("base", QUANTIZED), traffic=traffic, **LEARNED), "variant")
    assert [one["spec"]["chain"][-1]["method"] for one in found] == ["bf16"]


def test_only_what_people_allowed_is_learned_from_and_never_what_judges(world: Any, golden: Any) -> None:
    from scheduler.recent import recent

    base = world.recorded("base")
    asked = ["Question 1?", *(f"Mail me at ann{n}@example.org about {n}?" for n in range(40)), "Not me?"]
    texts = [json.dumps([{"role": "user", "content": text}]) for text in asked]
    allowed = [{"consent": "training"}] * 41 + [{}]
    with writing() as session:
        session.add_all(Feedback(project_id=world.project_id, id=f"f{n}", generation_id=f"g{n}", name="expected",
                                 label="Yes.", received_at=0) for n in range(10))  # fmt: skip
    world.traffic(base, list(range(1, 43)), input=texts, tags=allowed, id=[f"g{n}" for n in range(42)], output="Sure.")
    with reading() as session:
        found = recent(session, world.project_id, "default", base.id, golden.id)
        nobody = recent(session, world.project_id, "default", None, golden.id)
    assert len(found.prompts) == 40
    assert all("[email]" in text for text in found.prompts)
    assert {answer for _, answer in found.shots} == {"Yes."}
    rows = [json.loads(line) for line in Path(found.traffic or "").read_text().splitlines()]
    assert len(rows) == 40
    assert "Question 1?" not in str(rows)
    assert nobody.traffic is None  # nine true answers alone are too few
