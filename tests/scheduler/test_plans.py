"""What is proposed to repair a variant follows from how it was made."""

import pytest

from scheduler import plans
from variants.recipe import Spec

QUANTIZED = {"runner": "transformers", "runner_config": {}, "chain": [{"method": "smollm2", "config": {}}]}


@pytest.mark.parametrize(
    "method", ["int8_dynamic", "int4_per_row", "int4_group", "int8_weight_only", "magnitude_prune"]
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
